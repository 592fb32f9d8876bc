"""Stores whose files and index tables make no sense."""

import os
import shutil

import numpy as np
from astropy.io import fits
from astropy.table import Table
from gammapy.data import DataStore


def spoil(original, path, change, obs_ids=(5,)):
    """Copy a store, and change the HDUs of the files of some observations."""
    shutil.copytree(original.hdu_table.base_dir, path)
    for obs_id in obs_ids:
        file = path / "data" / f"obs_id_{obs_id:06d}.fits"
        with fits.open(file, memmap=False) as hdu_list:
            change(hdu_list)
            hdu_list.writeto(file, overwrite=True)
    return DataStore.from_dir(path)


def set_header(hdu="EVENTS", **keys):
    return lambda hdu_list: hdu_list[hdu].header.update(keys)


def set_value(name, value, hdu="EVENTS", rows=slice(None)):
    def change(hdu_list):
        hdu_list[hdu].data[name][rows] = value

    return change


def set_unit(name, unit):
    def change(hdu_list):
        hdu_list["EVENTS"].columns[name].unit = unit

    return change


def set_gti(*intervals):
    """Set the GTI, in hours from the start of the one that is there."""

    def change(hdu_list):
        begin, old = hdu_list["GTI"].data["START"][0], hdu_list["GTI"]
        times = begin + 3600 * np.array(intervals, dtype=float).T
        columns = [
            fits.Column(name, "D", "s", array=values)
            for name, values in zip(("START", "STOP"), times, strict=True)
        ]
        new = fits.BinTableHDU.from_columns(columns, header=old.header, name="GTI")
        hdu_list[hdu_list.index_of("GTI")] = new

    return change


FIRST = slice(0, 3)
FAULTS = {
    "unit of RA": (set_unit("RA", "s"), "RA with the unit 's'"),
    "unit of DEC": (set_unit("DEC", "TeV"), "DEC with the unit 'TeV'"),
    "RA": (
        set_value("RA", 1080, rows=FIRST),
        r"3 events without a valid RA .*, the first of 1080 in row 1",
    ),
    "DEC": (
        set_value("DEC", 120, rows=FIRST),
        r"3 events without a valid DEC .*, the first of 120 in row 1",
    ),
    "no ENERGY": (
        set_value("ENERGY", 0, rows=FIRST),
        "3 events without a valid ENERGY .*, the first of 0 in row 1",
    ),
    "negative ENERGY": (
        set_value("ENERGY", -1, rows=FIRST),
        "3 events without a valid ENERGY .*, the first of -1 in row 1",
    ),
    "TIME": (
        set_value("TIME", np.nan, rows=FIRST),
        "3 events without a valid TIME .*, the first of nan in row 1",
    ),
    "NaN in GTI": (set_gti((0, np.nan)), "1 GTI without a valid STOP"),
    "reversed GTI": (set_gti((0.2, 0)), "1 GTI that end before they start"),
    "GTI that overlap": (set_gti((0, 0.3), (0.2, 0.4)), "1 GTI that overlap"),
    "GTI before": (set_gti((-9, -8)), "no event of .* in the good time"),
    "GTI too long": (set_gti((0, 9)), "1 GTI that reach more than 1 h beyond"),
    "one GTI of two after": (set_gti((0, 0.4), (7, 8)), "1 GTI that reach more than"),
    "negative DEADC": (
        set_header(DEADC=-1.0),
        r"a header without a valid DEADC \(above 0, up to 1\) but -1",
    ),
    "no DEADC": (set_header(DEADC=0.0), "DEADC .* but 0"),
    "large DEADC": (set_header(DEADC=1.5), "DEADC .* but 1.5"),
    "far RA_PNT": (set_header(RA_PNT=20.0), "RA_PNT 20.* more than 10 deg"),
    "DEC_PNT": (set_header(DEC_PNT=99.0), "DEC_PNT .* but 99"),
    "NaN in RA_PNT": (set_header(RA_PNT="none"), "the pointing .* is not valid"),
    "OBS_ID": (
        set_header(OBS_ID=7),
        "OBS_ID 7 in the header of the events, and 5 in the index",
    ),
    "OBS_ID of none": (set_header(OBS_ID=-1), "OBS_ID -1 in the header"),
    "part of an OBS_ID": (set_header(OBS_ID=5.5), "OBS_ID 5.5 in the header"),
}


def remove_keys(*keys):
    def change(hdu_list):
        for key in keys:
            hdu_list["EVENTS"].header.remove(key)

    return change


def remove_gti(hdu_list):
    del hdu_list["GTI"]


NEEDED = {
    "GTI": remove_gti,
    "RA_PNT": remove_keys("RA_PNT"),
    "MJDREFI": remove_keys("MJDREFI"),
    "DEADC": remove_keys("DEADC", "LIVETIME"),
}


def drop_column(path, name, column):
    table = Table.read(path / name)
    table.remove_column(column)
    table.write(path / name, overwrite=True)


def set_obs_id(path, old, new):
    for name in ("obs-index.fits.gz", "hdu-index.fits.gz"):
        table = Table.read(path / name)
        values = table["OBS_ID"].astype(type(new))
        values[values == old] = new
        table["OBS_ID"] = values
        table.write(path / name, overwrite=True)


OBS, HDU = "obs-index.fits.gz", "hdu-index.fits.gz"
INDEX_FAULTS = {
    "no OBS_ID": (lambda path: drop_column(path, OBS, "OBS_ID"), "column 'OBS_ID'"),
    "no HDU": (lambda path: drop_column(path, HDU, "OBS_ID"), "column 'OBS_ID'"),
    "no folder": (lambda path: drop_column(path, HDU, "FILE_DIR"), "'FILE_DIR'"),
    "no pointing": (lambda path: drop_column(path, OBS, "RA_PNT"), "RA_PNT"),
    "-1": (lambda path: set_obs_id(path, 5, -1), "OBS_ID -1 is not valid"),
    "5.5": (lambda path: set_obs_id(path, 5, 5.5), "OBS_ID 5.5 is not valid"),
}


def set_place(path, file_dir, file_name=None, rows=slice(0, 5)):
    table = Table.read(path / HDU)
    values = np.asarray(table["FILE_DIR"]).astype("U300")
    values[rows] = file_dir
    table["FILE_DIR"] = values
    if file_name is not None:
        names = np.asarray(table["FILE_NAME"]).astype("U300")
        names[rows] = file_name
        table["FILE_NAME"] = names
    table.write(path / HDU, overwrite=True)


def cut_file(path):
    os.truncate(path, path.stat().st_size // 2)


def make_folder(path):
    path.unlink()
    path.mkdir()


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


def make_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


FILE_FAULTS = {
    "cut": cut_file,
    "empty": lambda path: os.truncate(path, 0),
    "text": lambda path: path.write_text("no FITS"),
    "gone": lambda path: path.unlink(),
}
"""Changes of a file that make it unreadable."""

BROKEN = "data/obs_id_000005.fits"

STORE_FAULTS = INDEX_FAULTS | {
    "relative": (lambda path: set_place(path, "../four/data"), "Row 1 of .*four/data"),
    "absolute": (lambda path: set_place(path, "/etc"), "Row 1 of .*leads .*/etc"),
    "no table": (lambda path: (path / HDU).unlink(), HDU),
    "cut table": (lambda path: cut_file(path / OBS), OBS),
    "no store": (shutil.rmtree, "{path}"),
    "folder": (lambda path: make_folder(path / BROKEN), BROKEN),
    "pipe": (lambda path: make_pipe(path / BROKEN), BROKEN),
    "device": (lambda path: make_device(path / BROKEN), "Row 13 of .*/dev/zero"),
}


def set_word(column, value):
    """Change the first row of a plan."""

    def change(lines):
        names = lines[-ROWS - 1].split()
        words = lines[-ROWS].split(" ")
        words[names.index(column)] = value
        return [*lines[:-ROWS], " ".join(words), *lines[1 - ROWS :]]

    return change


ROWS = 2
"""Rows of the plans that are edited."""

PLAN_WORDS = [
    ("OFF_OBS_ID", "25511.7"),
    ("OFF_OBS_ID", "1e30"),
    ("OFF_OBS_ID", "nan"),
    ("OFF_OBS_ID", "999"),
    ("OFF_OBS_ID", "-2"),
    ("OBS_ID", "-1"),
    ("OBS_ID", "7"),
    ("OBS_ID", "one"),
    ("OBS_ID", '""'),
    ("MIMIC_SET", "0"),
    ("MIMIC_SET", "-5"),
    ("MIMIC_SET", "1.4"),
]
"""Columns of a plan, and values that they cannot have."""

PLAN_FAULTS = {
    f"{name} {value}": (set_word(name, value), f"row 1, {name}: ")
    for name, value in PLAN_WORDS
} | {
    "partner twice": (
        lambda lines: set_word("OFF_OBS_ID", lines[-1].split(" ")[2])(lines),
        "OFF_OBS_ID . is used more than once in mimic set 1",
    ),
    "target twice": (lambda lines: [*lines, lines[-1]], "OBS_ID 2 has more than one"),
    "no row": (lambda lines: lines[:-ROWS], "plan.ecsv.* the plan has no rows"),
    "no partner": (
        lambda lines: set_word("OFF_OBS_ID", "-1")(lines)[:-1],
        "plan.ecsv.*no target has a partner in mimic set 1",
    ),
    "no column": (
        lambda lines: [_.replace("OFF_OBS_ID", "OFF") for _ in lines],
        "plan.ecsv.*no column .*OFF_OBS_ID",
    ),
    "no header": (lambda lines: lines[-ROWS:], "plan.ecsv"),
    "cut": (lambda lines: [*lines[:-1], lines[-1][:5]], "plan.ecsv"),
    "empty": (lambda lines: [], "plan.ecsv"),
}
"""Changes of the lines of a plan, and the errors that they cause."""

MAKE = "make --datastore {off} --off-obs 3,4 --outdir {new} "
RANK = "rank --datastore {off} --target-obs 6 "
CONVERT = "convert {target} {partner} {new} "
COMMAND_FAULTS = {
    "run {new}": "no such file|There is no|{new}",
    "run {off}": "{off}",
    "run {config} --force mimic_9": "no step 'mimic_9' to do again",
    "run {config} --n-jobs 0": "--n-jobs",
    MAKE: "--target-obs or --target-query",
    MAKE + "--target-obs 99": "99",
    MAKE + "--target-obs one": "--target-obs",
    MAKE + "--target-obs 6 --n-sets 0": "--n-sets",
    MAKE + "--target-obs 6 --random-state -1": "--random-state",
    MAKE + "--target-obs 6 --correlation-radius 1m": "1m",
    MAKE + "--target-obs 6 --offset-max 1": "--offset-max",
    MAKE + "--target-obs 6 --energy-range 1TeV 1m": "--energy-range",
    MAKE + "--target-obs 6 --criterion airmas=1": "airmas",
    MAKE + "--target-obs 6 --criterion azimuth=1m": "azimuth",
    MAKE + "--target-obs 6 --exclude 10,20": "10,20",
    RANK + "--off-query NSB<1": "NSB",
    RANK + "--off-query OBS_ID": "OBS_ID",
    RANK + "--off-obs 3 --kl-max nan": "kl.max",
    RANK + "--off-obs 3 --index {config}": "{config} is not an index",
    "rank --datastore {new} --target-obs 6 --off-obs 3": "{new}",
    CONVERT + "--alignment up": "--alignment",
    "convert {target} {new} {other}": "{new}",
    "convert {target} {partner} {partner}": "{partner}",
    "convert {target} {config} {new}": "{config}",
    "scramble {partner} {new}": "region",
    "scramble {partner} {new} --region 10,20,1m": "1m",
    "report {off}": "{off} has no systematics.fits",
    "report {new}": "{new}",
}
"""Command lines with paths to be filled in, and the errors that they cause."""
