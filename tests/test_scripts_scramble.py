"""The commands that scramble: ``scramble`` itself, and ``convert``."""

from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from gammapy.data import Observation

from gammapy_mimic.data import write_observation
from gammapy_mimic.scripts.options import Region
from gammapy_mimic.simulate import make_irfs, simulate_observations

from .test_scripts import assert_fails, run

SOURCE = SkyCoord(329.7, -30.2, unit="deg")
REGION = ("--region", "329.7,-30.2,0.3")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A target, and an OFF observation with a position 0.5 deg from its pointing."""
    folder = tmp_path_factory.mktemp("files")
    irfs = partial(make_irfs, background="2d")
    targets = {"target": SkyCoord(300, -50, unit="deg"), "off": SOURCE}
    observations = simulate_observations(5, targets=targets, irfs=irfs)
    paths = folder / "target.fits", folder / "off.fits.gz"
    for observation, path in zip(
        (observations[0], observations[4]), paths, strict=True
    ):
        write_observation(observation, path)
    return paths


def read_events(path):
    observation = Observation.read(path)
    separation = observation.events.radec.separation(SOURCE).deg
    return observation, observation.events.table, separation < 0.3


class TestScramble:
    def test_annulus_is_the_default(self, tmp_path, files, capsys):
        out = tmp_path / "out.fits"
        assert run("scramble", files[1], out, *REGION) == 0
        _, before, _ = read_events(files[1])
        _, after, _ = read_events(out)
        meta = after.meta
        assert meta["SCR_METH"] == "annulus"
        assert meta["SCR_SEED"] == 0
        assert len(after) == len(before)
        moved = np.sum(np.asarray(before["RA"]) != np.asarray(after["RA"]))
        assert moved == meta["SCR_NEVT"] > 100
        text = capsys.readouterr().out
        assert f"{len(after)} events, of which {moved} have a new position" in text
        assert "0 were removed. 1 region in the field of view" in text

    def test_fill(self, tmp_path, files, capsys):
        out = tmp_path / "out.fits"
        args = ("scramble", files[1], out, *REGION, "--method", "fill")
        assert run(*args) == 0
        observation, _, was_inside = read_events(files[1])
        result, after, is_inside = read_events(out)
        assert after.meta["SCR_NREM"] == was_inside.sum()
        assert after.meta["SCR_NEVT"] == is_inside.sum()
        text = capsys.readouterr().out
        assert f"{was_inside.sum()} were removed" in text
        phi, width = after.meta["SCR_PHI"], after.meta["SCR_SIG"]
        assert phi == is_inside.sum() / len(after)
        assert f"{phi:.1%} of all events, has the width {width:.2f}" in text
        np.testing.assert_array_equal(result.bkg.data, observation.bkg.data)
        assert result.obs_id == observation.obs_id

    def test_seed(self, tmp_path, files, capsys):
        """The same for the same seed, and to the bit."""
        for name, seed in {"a": 1, "b": 1, "c": 2}.items():
            args = ("scramble", files[1], tmp_path / name, *REGION)
            assert run(*args, "--random-state", seed) == 0
        (a, b, c) = (np.asarray(read_events(tmp_path / _)[1]["RA"]) for _ in "abc")
        np.testing.assert_array_equal(a, b)
        assert np.any(a != c)

    def test_azimuth_needs_no_region(self, tmp_path, files, capsys):
        out = tmp_path / "out.fits"
        assert run("scramble", files[1], out, "--method", "azimuth") == 0
        table = read_events(out)[1]
        assert table.meta["SCR_NEVT"] == len(table)
        assert "0 regions" in capsys.readouterr().out

    def test_width(self, tmp_path, files, capsys):
        out = tmp_path / "out.fits"
        args = ("scramble", files[1], out, *REGION, "--width", "0.4 deg")
        assert run(*args) == 0
        assert read_events(out)[1].meta["SCR_WID"] == 0.4

    def test_region_file_and_option(self, tmp_path, files, capsys):
        """Regions of a file and of options are put together."""
        path = tmp_path / "my.reg"
        path.write_text("icrs\ncircle(329.7d, -30.2d, 0.3d)\ncircle(1d, 2d, 0.1d)\n")
        out = tmp_path / "out.fits"
        args = ("--region", path, "--region", "329.7,-31.2,0.2", "--method", "fill")
        assert run("scramble", files[1], out, *args) == 0
        assert read_events(out)[1].meta["SCR_NREG"] == 2
        assert "2 regions in the field of view" in capsys.readouterr().out

    def test_picture(self, tmp_path, files, capsys):
        out, plot = tmp_path / "out.fits", tmp_path / "check.png"
        args = ("scramble", files[1], out, *REGION, "--plot", plot)
        assert run(*args) == 0
        image = matplotlib.image.imread(plot)
        assert min(image.shape[:2]) > 600
        assert np.std(image) > 0.05
        assert f"Wrote {plot}" in capsys.readouterr().out
        assert sorted(_.name for _ in tmp_path.iterdir()) == ["check.png", "out.fits"]

    @pytest.mark.slow
    def test_existing_files(self, tmp_path, files, capsys):
        """Neither the observation nor the picture is replaced without --overwrite."""
        out, plot = tmp_path / "out.fits", tmp_path / "check.png"
        args = ("scramble", files[1], out, *REGION, "--plot", plot)
        for path in (out, plot):
            path.write_text("mine")
            assert_fails(capsys, out, "exists", *args)
            assert path.read_text() == "mine"
            path.unlink()
        out.write_text("mine")
        assert run(*args, "--overwrite") == 0
        assert Observation.read(out).obs_id == 5

    @pytest.mark.parametrize(
        ("args", "match", "code"),
        [
            ((), "Give --region", 2),
            (("--method", "fill"), "Give --region", 2),
            (
                ("--region", "nowhere.reg"),
                "neither RA,DEC,RADIUS or NAME",
                2,
            ),
            (
                ("--region", "1,2"),
                "neither RA,DEC,RADIUS or NAME",
                2,
            ),
            (("--region", "1,x,3"), "is not RA,DEC,RADIUS", 2),
            (("--region", "1,2,-3"), "positive", 2),
            (("--region", "1,2,0"), "positive", 2),
            (("--region", "1,95,3"), "is not RA,DEC,RADIUS", 2),
            (("--region", "nan,2,3"), "is not RA,DEC,RADIUS", 2),
            ((*REGION, "--method", "shuffle"), "shuffle", 2),
            ((*REGION, "--method", "fill", "--width", "1 deg"), "annulus", 2),
            ((*REGION, "--random-state", "-1"), "random-state", 2),
            ((*REGION, "--width", "-1 deg"), "width must be an angle above 0", 1),
            ((*REGION, "--width", "wide"), "width must be an angle", 1),
            ((*REGION, "--plot", "check.docx"), "docx", 1),
            (("--region", "10,20,0.3"), "No region is in the field of view", 1),
            (("--region", "330,-30,50", "--method", "fill"), "smaller or fewer", 1),
        ],
    )
    def test_bad_input(self, tmp_path, files, capsys, monkeypatch, args, match, code):
        monkeypatch.chdir(tmp_path)
        out = tmp_path / "out.fits"
        assert_fails(capsys, out, match, "scramble", files[1], out, *args, code=code)

    @pytest.mark.parametrize("text", ["", "# Region file format: DS9\n"])
    def test_region_file_without_region(self, tmp_path, files, capsys, text):
        path = tmp_path / "my.reg"
        path.write_text(text)
        out = tmp_path / "out.fits"
        args = ("scramble", files[1], out, "--region", path)
        assert_fails(capsys, out, "region", *args, code=2)

    def test_region_file_that_is_no_text(self, tmp_path, files, capsys):
        path = tmp_path / "my.reg"
        path.write_bytes(bytes(range(256)))
        out = tmp_path / "out.fits"
        args = ("scramble", files[1], out, "--region", path)
        assert_fails(capsys, out, "my.reg", *args, code=2)

    def test_missing_and_damaged_observation(self, tmp_path, files, capsys):
        out = tmp_path / "out.fits"
        args = ("scramble", tmp_path / "no.fits", out, *REGION)
        assert_fails(capsys, out, "does not exist", *args, code=2)
        path = tmp_path / "broken.fits"
        path.write_bytes(files[0].read_bytes()[:5000])
        args = ("scramble", path, out, *REGION)
        assert_fails(capsys, out, "broken.fits", *args)


class TestConvert:
    @pytest.mark.parametrize("number", [0, 1])
    def test_input_is_not_replaced(self, files, capsys, number):
        before = [Path(_).read_bytes() for _ in files]
        assert run("convert", *files, files[number], "--overwrite") == 1
        assert "is an input. Choose another name" in capsys.readouterr().err
        assert run("scramble", files[0], files[0], *REGION, "--overwrite") == 1
        assert [Path(_).read_bytes() for _ in files] == before

    @pytest.mark.slow
    def test_off_is_scrambled_before_it_is_moved(self, tmp_path, files, capsys):
        """The region is that in the OFF field, 0.5 deg from its pointing."""
        out, plain = tmp_path / "out.fits", tmp_path / "plain.fits"
        assert run("convert", *files, out, *REGION) == 0
        assert run("convert", *files, plain) == 0
        result, expected = Observation.read(out), Observation.read(plain)
        meta = result.events.table.meta
        assert meta["SCR_METH"] == "annulus"
        assert (meta["OBS_ID"], meta["MIM_OBS"]) == (1, 5)
        for name in ("ENERGY", "TIME"):
            columns = (_.events.table[name] for _ in (result, expected))
            np.testing.assert_array_equal(*map(np.asarray, columns))
        distance = result.events.radec.separation(expected.events.radec).deg
        moved = distance > 1e-9
        assert moved.sum() == meta["SCR_NEVT"] > 100
        pointing = result.pointing.fixed_icrs
        offset = result.events.radec.separation(pointing).deg
        assert np.all(abs(offset[moved] - 0.5) < 0.3)

    @pytest.mark.parametrize(
        ("args", "match", "code"),
        [
            # the target's position, not that in the OFF field
            (("--region", "300,-50,0.3"), "No region is in the field of view", 1),
            (("--region", "300,-50,-1"), "positive", 2),
            (("--region", "no.reg"), "region file", 2),
            (("--method", "fill"), "Give --region", 2),
        ],
    )
    def test_bad_input(self, tmp_path, files, capsys, args, match, code):
        out = tmp_path / "out.fits"
        assert_fails(capsys, out, match, "convert", *files, out, *args, code=code)


def test_units_of_a_region():
    (region,) = Region().convert("5h30m,22d30m,12arcmin", None, None)
    np.testing.assert_allclose(region.center.ra.deg, 82.5)
    np.testing.assert_allclose(region.center.dec.deg, 22.5)
    np.testing.assert_allclose(region.radius.to_value("deg"), 0.2)
