"""The FITS file of a result."""

import contextlib
import dataclasses

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.table import Table
from gammapy.maps import Map
from gammapy.utils.scripts import make_path

from ..data.files import open_fits
from ..utils.files import replace_file
from .bias import BiasMap
from .maps import BandMaps

__all__ = ["read_result", "read_result_table", "write_result"]

RESULT_VERSION = 9
MAPS = ("maps", "background")
PARTS = ("bands", "total")


def write_result(result, path, overwrite=False):
    """Write a result to a FITS file.

    Parameters
    ----------
    result : `~gammapy_mimic.estimators.MimicSystematics`
        Result.
    path : str or `~pathlib.Path`
        File.
    overwrite : bool, optional
        Whether to replace an existing file. Default is False.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    """
    primary = fits.PrimaryHDU()
    primary.header["MIM_RES"] = RESULT_VERSION, "version of the format"
    hdus = [primary, *_make_meta_hdus(result)]
    for name, table in result.tables.items():
        hdus.append(_make_table_hdu(table, f"TABLE_{name}"))
    for kind in MAPS:
        # by number: names of HDUs are in upper case, those of sets need not be
        for idx, maps in enumerate(getattr(result, kind).values()):
            for part in PARTS:
                hdus += getattr(maps, part).to_hdulist(hdu=f"{kind}_{part}_{idx}")[1:]
    if result.bias is not None:
        names = [_.name for _ in dataclasses.fields(result.bias)]
        # arrays of different shapes fit in one row
        columns = {name: np.stack([getattr(result.bias, name)]) for name in names}
        hdus.append(fits.BinTableHDU(Table(columns), name="BIAS"))
    if result.source_free is not None:
        hdus.append(result.source_free.to_hdulist(hdu="SOURCE_FREE")["SOURCE_FREE"])
    with replace_file(path, overwrite) as temporary:
        fits.HDUList(hdus).writeto(temporary)


def _make_meta_hdus(result):
    """Tables of the attributes, of the maps that there are, and of what is missing."""
    meta = Table(
        {
            "CORRELATION_RADIUS": [result.correlation_radius.deg] * u.deg,
            "MIN_BACKGROUND": [float(result.min_background)],
            "VERSION": [result.version],
        }
    )
    if result.position is not None:
        position = result.position.icrs
        meta["RA"], meta["DEC"] = [position.ra.deg] * u.deg, [position.dec.deg] * u.deg
    tables = {"META": meta, "NAMES": Table({"NAME": list(result.maps)}, dtype=[str])}
    columns = list(result.missing), list(result.missing.values())
    tables["MISSING"] = Table(columns, names=["NAME", "REASON"], dtype=[str, str])
    return [_make_table_hdu(table, name) for name, table in tables.items()]


def _make_table_hdu(table, name):
    # as UTF-8: a column of FITS takes bytes, but no text that is not ASCII
    table = table.copy()
    table.convert_unicode_to_bytestring()
    return fits.BinTableHDU(table, name=name)


def read_result(path):
    """Read the attributes of a result from a FITS file.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File.

    Returns
    -------
    attributes : dict
        Attributes of `~gammapy_mimic.estimators.MimicSystematics`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is another kind of file, or one of another version.
    """
    with _open_result(path) as hdu_list:
        hdu_names = [_.name.lower() for _ in hdu_list[1:]]
        (row,) = _read_table(hdu_list["META"])
        attributes = {
            "correlation_radius": Angle(row["CORRELATION_RADIUS"], "deg"),
            "min_background": float(row["MIN_BACKGROUND"]),
            "version": str(row["VERSION"]),
            "missing": dict(_read_table(hdu_list["MISSING"]).iterrows()),
        }
        if "RA" in row.colnames:
            attributes["position"] = SkyCoord(row["RA"], row["DEC"], unit="deg")
        attributes["tables"] = {
            name.removeprefix("table_"): _read_table(hdu_list[name])
            for name in hdu_names
            if name.startswith("table_")
        }
        names = _read_table(hdu_list["NAMES"])["NAME"].tolist()
        for kind in MAPS:
            attributes[kind] = {}
            for idx, name in enumerate(names):
                hdus = [f"{kind}_{part}_{idx}".upper() for part in PARTS]
                maps = [Map.from_hdulist(hdu_list, hdu=hdu) for hdu in hdus]
                attributes[kind][name] = BandMaps(*maps)
        if "bias" in hdu_names:
            columns = _read_table(hdu_list["BIAS"]).columns
            values = {
                name: (column if column.unit is None else column.quantity)[0]
                for name, column in columns.items()
            }
            attributes["bias"] = BiasMap(**values)
        if "source_free" in hdu_names:
            mask = Map.from_hdulist(hdu_list, hdu="SOURCE_FREE")
            # FITS has no boolean images
            attributes["source_free"] = mask.copy(data=mask.data.astype(bool))
        return attributes


def read_result_table(path, name):
    """Read one table of a result from a FITS file, which takes little time.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        File.
    name : str
        Name of the table.

    Returns
    -------
    table : `~astropy.table.Table`
        Table.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_result`.
    """
    with _open_result(path) as hdu_list:
        return _read_table(hdu_list[f"TABLE_{name}"])


@contextlib.contextmanager
def _open_result(path):
    path = make_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with open_fits(path) as hdu_list:
        version = hdu_list[0].header.get("MIM_RES")
        if version is None:
            raise ValueError(f"{path} is not a result of MimicSystematicsEstimator.")
        if version != RESULT_VERSION:
            raise ValueError(
                f"{path} has the version {version} of the format, this is version "
                f"{RESULT_VERSION}. Run the estimator again."
            )
        yield hdu_list


def _read_table(hdu):
    # NaN as it was written, not a mask
    table = Table.read(hdu, unit_parse_strict="silent", mask_invalid=False)
    table.meta.clear()
    table.convert_bytestring_to_unicode()
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".4g"
    return table
