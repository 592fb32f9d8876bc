"""``gammapy-mimic background``: bins, raw templates, groups, the run itself."""

import astropy.units as u
import matplotlib.image
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.data import DataStore
from gammapy.irf import Background2D, Background3D, FoVAlignment
from gammapy.maps import MapAxis
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic.data import write_background, write_datastore
from gammapy_mimic.data.observation import get_livetime_fraction
from gammapy_mimic.template import (
    make_group_table,
    make_own_template,
    make_template,
    make_templates,
)

from .test_scripts import assert_fails, run

SOURCE = "329.7,-30.2,0.4"
AXES = ("--energy-axis", "0.2 TeV", "50 TeV", "10", "--offset-axis", "2 deg", "5")


@pytest.fixture
def select(stores, tmp_path):
    """Arguments that select targets, OFF observations and a folder."""
    off = ("--off-datastore", stores["off"].hdu_table.base_dir)
    criteria = ("airmass=null", "zenith=null", "rate=null")
    off += (*(f"--criterion={_}" for _ in criteria), "--kl-max", "none")
    store = stores["targets"].hdu_table.base_dir

    def select(*args, with_off=True):
        query = (*off, "--off-query", "OBS_ID > 100") if with_off else ()
        targets = ("--datastore", store, "--target-obs", "1,2")
        return "background", *targets, *query, "--outdir", tmp_path / "out", *args

    return select


def read_template(path, cls=Background2D):
    return cls.read(path, hdu="BACKGROUND")


def check_picture(path):
    assert np.std(matplotlib.image.imread(path)) > 0.05


class TestBins:
    @pytest.mark.slow
    def test_axes_and_empty_bins(self, select, tmp_path, stores):
        assert run(*select("--from-obs", "101,102", "--keep-empty", *AXES)) == 0
        bkg = DataStore.from_dir(tmp_path / "out").obs(1).bkg
        expected = make_template(
            stores["off"].get_observations([101, 102]),
            energy_axis=MapAxis.from_energy_bounds("0.2 TeV", "50 TeV", nbin=10),
            offset_axis=MapAxis.from_bounds(0, 2, 5, unit="deg", name="offset"),
            livetime_fraction=get_livetime_fraction(stores["targets"].obs(1)),
            keep_empty=True,
        )
        assert_allclose(bkg.axes["energy"].edges, expected.axes["energy"].edges)
        assert_allclose(bkg.data, expected.data)
        check_picture(tmp_path / "out" / "background_all.png")

    @pytest.mark.slow
    def test_fov_axis(self, select, tmp_path):
        args = ("--dimension", "3d", "--fov-axis", "2 deg", "8", *AXES[:4])
        assert run(*select("--from-obs", "101", *args)) == 0
        bkg = DataStore.from_dir(tmp_path / "out").obs(1).bkg
        assert bkg.axes.names == ["energy", "fov_lon", "fov_lat"]
        assert_allclose(bkg.axes["fov_lat"].edges, np.linspace(-2, 2, 9) * u.deg)


class TestRaw:
    @pytest.mark.slow
    def test_beside_the_smooth_ones(self, select, tmp_path, stores):
        assert run(*select("--smooth", "gauss", "--raw", *AXES)) == 0
        folder = tmp_path / "out"
        for obs_id in (1, 2):
            smooth = DataStore.from_dir(folder).obs(obs_id).bkg
            raw = read_template(folder / "data" / f"background_{obs_id}_raw.fits")
            assert raw.meta["OBS_IDS"] == smooth.meta["OBS_IDS"]
            # for the same dead time, with the same counts
            assert_allclose(raw.meta["DEADC"], smooth.meta["DEADC"])
            weights = raw.axes["energy"].bin_width.value[:, np.newaxis]
            weights = weights * raw.axes["offset"].center.value
            total = ((_.data * weights).sum() for _ in (raw, smooth))
            assert_allclose(*total, rtol=0.02)
            for name in ("", "_raw"):
                check_picture(folder / f"background_{obs_id}{name}.png")
        # no observation has them
        names = DataStore.from_dir(folder).hdu_table["FILE_NAME"]
        assert not any("raw" in _ for _ in names)
        assert run(*select("--overwrite")) == 0
        assert not list(folder.rglob("*raw*"))


GROUPS = {"ZEN_PNT": [0, 30, 60, 80], "MUONEFF": [0, 1, 2]}


class TestGroups:
    @pytest.mark.slow
    def test_table_and_files(self, select, tmp_path, stores):
        groups = [f"--group={name}={edges}" for name, edges in GROUPS.items()]
        assert run(*select(*groups, *AXES)) == 0
        folder = tmp_path / "out"
        self.check_table(folder, stores["off"])
        self.check_observations(folder)

    def check_table(self, folder, store):
        table = Table.read(folder / "groups.fits", hdu="GROUPS")
        bounds = ["ZEN_PNT_MIN", "ZEN_PNT_MAX", "MUONEFF_MIN", "MUONEFF_MAX"]
        assert table.colnames == ["GROUP_ID", *bounds, "N_OBS", "LIVETIME", "FILE"]
        assert_array_equal(table["GROUP_ID"], np.arange(6))
        assert table["ZEN_PNT_MIN"].unit == "deg"
        assert table["LIVETIME"].unit == "s"
        off, n_obs = store.obs_table, 0
        for row in table:
            inside = np.ones(len(off), dtype=bool)
            for name in GROUPS:
                inside &= off[name] >= row[f"{name}_MIN"]
                inside &= off[name] < row[f"{name}_MAX"]
            assert row["N_OBS"] == inside.sum()
            livetime = off["LIVETIME"][inside].sum()
            assert_allclose(row["LIVETIME"], livetime, rtol=1e-6)
            # of groups without targets, too, but none without OFF observations
            assert bool(row["FILE"]) == bool(inside.any())
            n_obs += row["N_OBS"]
            if inside.any():
                bkg = read_template(folder / row["FILE"])
                obs_ids = off["OBS_ID"][inside].tolist()
                assert bkg.meta["OBS_IDS"] == ",".join(map(str, obs_ids))
        assert n_obs == len(off)

    def check_observations(self, folder):
        store = DataStore.from_dir(folder)
        groups = Table.read(folder / "groups.fits", hdu="GROUPS")
        for row in store.obs_table:
            group = groups[groups["GROUP_ID"] == row["GROUP_ID"]][0]
            for name in GROUPS:
                assert group[f"{name}_MIN"] <= row[name] < group[f"{name}_MAX"]
            bkg = store.obs(row["OBS_ID"]).bkg
            expected = read_template(folder / group["FILE"])
            ratio = bkg.meta["DEADC"] / expected.meta["DEADC"]
            assert_allclose(bkg.data, expected.data * ratio, rtol=1e-6)

    def test_units_of_bounds(self, stores):
        table, groups = stores["off"].obs_table, {"ZEN_PNT": [0, 0.5, 1] * u.rad}
        args = stores["off"].get_observations(), table, groups
        templates = make_templates(*args, dimension="2d")
        result = make_group_table(table, groups, templates)
        assert_allclose(result["ZEN_PNT_MAX"].quantity, [0.5, 1] * u.rad)

    @pytest.mark.slow
    def test_template_of_a_group_is_not_mirrored(self, stores, tmp_path):
        """Gammapy mirrors the background of old H.E.S.S. files."""
        observation = stores["gradient"].obs(301).copy(in_memory=True)
        old = {"CREATOR": "SASH FITS::EventListWriter", "HDUVERS": "0.2"}
        observation.events.table.meta.update(old)
        observation.meta.optional.update(old)
        write_datastore([observation], tmp_path / "old", irfs="copy")
        store = DataStore.from_dir(tmp_path / "old")
        template = make_template(observation, "3d")
        groups = Table({"GROUP_ID": [7, 8]})
        path, labels = tmp_path / "new", {301: 7}
        write_background(store, path, {7: template}, labels, groups=groups)
        groups = Table.read(path / "groups.fits", hdu="GROUPS")
        assert groups["FILE"].tolist() == ["data/background_7.fits", ""]
        bkg = read_template(path / groups["FILE"][0], Background3D)
        assert_allclose(bkg.data, template.data)
        # Gammapy reads another file, as one that is mirrored
        hdu_table = DataStore.from_dir(path).hdu_table
        assert "background_7_1.fits" in hdu_table["FILE_NAME"]
        bkg = DataStore.from_dir(path).obs(301).bkg
        assert bkg.fov_alignment is FoVAlignment.REVERSE_LON_RADEC
        assert_allclose(bkg.data, template.data[:, ::-1])


class TestOwn:
    @pytest.mark.parametrize(
        ("method", "args"),
        [
            ("radial", AXES[4:]),
            pytest.param("masked", (), marks=pytest.mark.slow),
            pytest.param(
                "rotated",
                ("--angle", "90 deg", "--angle", "-90 deg"),
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_no_archive(self, select, tmp_path, stores, method, args):
        args = ("--from-run", method, "--exclude", SOURCE, *args)
        assert run(*select(*args, with_off=False)) == 0
        center = SkyCoord(329.7, -30.2, unit="deg")
        options = {"exclusion_regions": [CircleSkyRegion(center, 0.4 * u.deg)]}
        if method == "radial":
            axis = MapAxis.from_bounds(0, 2, 5, unit="deg", name="offset")
            options["offset_axis"] = axis
        if method == "rotated":
            options["angles"] = ["90 deg", "-90 deg"]
        for obs_id in (1, 2):
            observation = stores["targets"].obs(obs_id)
            bkg = DataStore.from_dir(tmp_path / "out").obs(obs_id).bkg
            expected = make_own_template(observation, method, **options)
            assert bkg.meta["OBS_IDS"] == str(obs_id)
            assert_allclose(bkg.data, expected.data)
            check_picture(tmp_path / "out" / f"background_{obs_id}.png")


@pytest.mark.parametrize(
    ("args", "match", "code"),
    [
        (("--raw",), "--raw is for --smooth", 2),
        (("--from-obs", "101", "--time-request", "1 h"), "not for --from-obs", 2),
        (("--from-obs", ","), "'--from-obs': it is empty", 2),
        (("--from-obs", "999"), "[999] are not OFF observations", 1),
        (("--angle", "90 deg"), "--angle is for --from-run rotated", 2),
        (("--from-run", "radial"), "has no OFF observations: leave them out", 2),
        (("--fov-axis", "2 deg", "8"), "must be left out, as it is for dimension", 1),
        (("--offset-axis", "20 deg", "8"), "template.offset_axis.max: must be", 1),
        (("--energy-axis", "9 TeV", "1 TeV", "8"), "energy_axis.max: must be above", 1),
        (("--energy-axis", "1 deg", "1 TeV", "8"), "must be an energy", 2),
        (("--energy-axis", "1 TeV", "9 TeV", "0"), "0 is not in the range", 2),
    ],
)
def test_bad_input(select, tmp_path, capsys, args, match, code):
    assert_fails(capsys, tmp_path / "out", match, *select(*args), code=code)


def test_a_column_of_groups_twice(select, tmp_path, capsys):
    groups = "--group", "ZEN_PNT=[0, 90]", "--group", "zen_pnt=[0, 20, 90]"
    match = "--group has a column twice: ZEN_PNT, ZEN_PNT"
    assert_fails(capsys, tmp_path / "out", match, *select(*groups), code=2)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--dimension", "3d"), "--from-run radial is 2d"),
        (("--from-obs", "101"), "Give either --from-obs or --from-run"),
        (("--group", "ZEN_PNT=[0, 90]"), "Give either --group or --from-run"),
        (("--time-request", "1 h"), "--time-request is not for --from-run"),
    ],
)
def test_bad_input_of_own(select, tmp_path, capsys, args, match):
    args = select("--from-run", "radial", *args, with_off=False)
    assert_fails(capsys, tmp_path / "out", match, *args, code=2)


class TestTargetsAmongOff:
    @pytest.fixture
    def select_all(self, select, stores):
        def select_all(*options):
            args = [str(_) for _ in select(*options)]
            store = str(stores["targets"].hdu_table.base_dir)
            args[args.index("--off-datastore") + 1] = store
            args[args.index("OBS_ID > 100")] = "OBS_ID > 0"
            return args

        return select_all

    def test_one_for_all(self, select_all, tmp_path, capsys):
        match = "--from-obs: OBS_ID [1] are targets"
        args = select_all("--from-obs", "1,3")
        assert_fails(capsys, tmp_path / "out", match, *args)

    @pytest.mark.slow
    def test_groups(self, select_all, caplog):
        assert run(*select_all("--group", "ZEN_PNT=[0, 90]", *AXES)) == 0
        match = "The events of OBS_ID 1, 2 are in the template of their own group"
        assert match in caplog.text
