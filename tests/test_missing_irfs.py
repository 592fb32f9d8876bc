"""IRFs that an analysis needs and observations lack are named at the start."""

import contextlib
from functools import partial

import pytest
import yaml
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore, Observations
from gammapy.datasets import SpectrumDataset
from gammapy.makers import (
    ReflectedRegionsBackgroundMaker,
    SpectrumDatasetMaker,
    WobbleRegionsFinder,
)
from gammapy.maps import MapAxis, RegionGeom
from numpy.testing import assert_allclose, assert_array_equal
from regions import PointSkyRegion

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.datasets import read_datasets
from gammapy_mimic.analysis.irf_checks import _check_missing, check_irfs
from gammapy_mimic.data import open_datastore, write_datastore
from gammapy_mimic.scripts.main import main
from gammapy_mimic.simulate import (
    make_irfs,
    make_point_like,
    remove_background,
    simulate_observations,
)

POSITION = SkyCoord(329.7, -30.2, unit="deg")
RAD_MAX = ["0.12 deg", "0.08 deg"]
KINDS = {
    "full": dict,
    "point": make_point_like,
    "rad_max": partial(make_point_like, rad_max=RAD_MAX),
    "no background": remove_background,
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of two targets, and of four OFF observations, by their IRFs."""
    path, stores = tmp_path_factory.mktemp("kinds"), {}
    for name, kept in KINDS.items():
        options = {"irfs": partial(make_irfs, rate=0.1), "kept_irfs": kept}
        targets = simulate_observations(2, targets={"target": POSITION}, **options)
        off = simulate_observations(
            4, first_obs_id=101, zenith=("10 deg", "25 deg"), **options
        )
        for part, observations in (("targets", targets), ("off", off)):
            stores[name, part] = path / f"{name} {part}"
            write_datastore(Observations([*observations]), stores[name, part], "copy")
    return stores


def make_config(stores, outdir, targets, off, kind="3d", **mimic):
    center = {"frame": "icrs", "lon": "329.7 deg", "lat": "-30.2 deg"}
    axes = {
        "energy": {"min": "1 TeV", "max": "10 TeV", "nbins": 2},
        "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "nbins": 4},
    }
    width = {"width": "3 deg", "height": "3 deg"}
    wcs = {"skydir": center, "width": width, "binsize": "0.1 deg"}
    methods = {"1d": "reflected", "3d": "fov_background"}
    return {
        "general": {"outdir": str(outdir)},
        "observations": {
            "datastore": str(stores[targets, "targets"]),
            "required_irf": [],
        },
        "datasets": {
            "type": kind,
            "map_selection": ["counts", "exposure", "edisp", "background"],
            "geom": {"wcs": wcs, "axes": axes, "selection": {"offset_max": "2 deg"}},
            "on_region": center | {"radius": "0.1 deg"},
            "containment_correction": False,
            "safe_mask": {"methods": ["aeff-default"]},
            "background": {"method": methods[kind]},
        },
        "mimic": {
            "n_sets": 2,
            "off": {"datastore": str(stores[off, "off"])},
            "selection": {"criteria": {"airmass": 0.5}},
        }
        | mimic,
    }


def run(capsys, path, config):
    """Run a configuration. What it says of its error, "" for none."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    with contextlib.suppress(SystemExit):
        main(["run", str(path)])
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.parametrize("targets_or_off", ["targets", "off"])
def test_rank_by_irfs_that_are_not_there(stores, targets_or_off):
    """Ranked by nothing, all would be alike."""
    kinds = {"targets": "full", "off": "full", targets_or_off: "no background"}
    targets, off = (
        DataStore.from_dir(stores[kind, part]) for part, kind in kinds.items()
    )
    selector = KLBackgroundSelector(off, {"airmass": 0.5}, distribution="irf")
    (observation,) = targets.get_observations([1], required_irf=[])
    what = "OBS_ID 1 has no" if targets_or_off == "targets" else "None of .* has"
    match = f"{what} .*background IRF.*distribution.*'counts'"
    with pytest.raises(ValueError, match=match):
        selector.rank(observation)
    with pytest.raises(ValueError, match=match):
        selector.make_plan([observation])


@pytest.mark.slow
def test_rank_command(stores, capsys, tmp_path):
    args = ["rank", "--datastore", stores["full", "targets"], "--target-obs", "1"]
    args += ["--off-datastore", stores["no background", "off"], "--off-obs", "101,102"]
    args += ["--distribution", "irf", "-c", "airmass=0.5"]
    with pytest.raises(SystemExit):
        main([*map(str, args)])
    assert "background IRF" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "off", "mimic", "match"),
    [
        ("no background", "full", {}, "OBS_ID 1, 2 have no background IRF.*template"),
        ("full", "no background", {}, "OBS_ID 101, 102, 103, 104 have no backg.*templ"),
        ("no background", "full", {"background": "target"}, "OBS_ID 1, 2 have no back"),
        ("point", "full", {"background": "template"}, "type: the IRFs of OBS_ID 1 are"),
        ("full", "rad_max", {"background": "target"}, "type: the IRFs of OBS_ID 101"),
    ],
)
def test_maps(stores, tmp_path, capsys, targets, off, mimic, match):
    """Said before the plan is made."""
    config = make_config(stores, tmp_path / "out", targets, off, **mimic)
    said = run(capsys, tmp_path / "config.yaml", config)
    assert pytest.RaisesExc(ValueError, match=match).matches(ValueError(said)), said
    assert not (tmp_path / "out/plan.ecsv").exists()


def test_excluded_observations_need_none(stores, tmp_path):
    config = make_config(stores, tmp_path, "full", "no background")
    config["mimic"]["selection"]["criteria"]["exclude_obs_ids"] = [101, 102, 103, 104]
    check(config)
    config["mimic"]["background"] = "target"
    check(config)


def check(config):
    config = MimicAnalysisConfig.from_dict(config)
    targets = open_datastore(config.observations.datastore)
    check_irfs(config, targets, open_datastore(config.mimic.off.datastore))


@pytest.mark.parametrize(
    ("targets", "off", "radius", "match"),
    [
        (
            "point",
            "point",
            "0.15 deg",
            "OBS_ID 1 are point-like, for 0.1 deg.*got 0.1",
        ),
        ("full", "point", "0.2 deg", "OBS_ID 101 are point-like, for 0.1 deg"),
        ("rad_max", "rad_max", "0.1 deg", "depends on energy .* Leave radius out"),
        ("full", "full", None, "OBS_ID 1 are not point-like, and need a radius"),
        ("rad_max", "full", None, "OBS_ID 101 are not point-like"),
    ],
)
def test_spectra(stores, tmp_path, targets, off, radius, match):
    config = make_config(stores, tmp_path, targets, off, "1d")
    config["datasets"]["on_region"]["radius"] = radius
    with pytest.raises(ValueError, match=f"on_region.radius: the IRFs of .*{match}"):
        check(config)


def test_other_irfs(stores, tmp_path):
    config = make_config(stores, tmp_path, "full", "point")
    config["datasets"]["map_selection"] = ["counts", "psf"]
    with pytest.raises(ValueError, match="OBS_ID 101, .* have no psf .*map_selection"):
        check(config)
    config = make_config(stores, tmp_path, "point", "point", "1d")
    config["datasets"]["containment_correction"] = True
    with pytest.raises(ValueError, match="have no psf .*containment_correction"):
        check(config)


def test_spectra_cannot_do_without_edisp():
    """The way out was datasets.map_selection, which spectra do not have."""
    types = {1: {"events", "aeff"}, 2: {"events", "aeff", "edisp"}}
    with pytest.raises(ValueError, match="OBS_ID 1 have no edisp") as caught:
        _check_missing("1d", {"exposure", "edisp"}, types)
    assert "map_selection" not in str(caught.value)
    assert str(caught.value).endswith("exclude_obs_ids).")
    with pytest.raises(ValueError, match=r"or edisp \(datasets.map_selection\)\."):
        _check_missing("3d", {"exposure", "edisp"}, types)


@pytest.mark.slow
def test_run_of_rad_max_that_depends_on_energy(stores, tmp_path, capsys):
    """The counts are those of Gammapy's makers in the same mimics."""
    config = make_config(stores, tmp_path / "out", "rad_max", "rad_max", "1d")
    del config["datasets"]["on_region"]["radius"]
    config["datasets"]["background"]["parameters"] = {"n_off_regions": 2}
    config["datasets"]["stack"] = False
    config["mimic"]["n_sets"] = 1
    assert run(capsys, tmp_path / "config.yaml", config) == ""
    axis, true_axis = (
        MapAxis.from_energy_bounds(*bounds, nbin=nbin, name=name)
        for *bounds, nbin, name in (
            ("1 TeV", "10 TeV", 2, "energy"),
            ("0.5 TeV", "20 TeV", 4, "energy_true"),
        )
    )
    geom = RegionGeom.create(PointSkyRegion(POSITION), axes=[axis])
    reference = SpectrumDataset.create(geom, energy_axis_true=true_axis)
    maker = SpectrumDatasetMaker(selection=["counts", "exposure", "edisp"])
    off_maker = ReflectedRegionsBackgroundMaker(WobbleRegionsFinder(n_off_regions=2))
    n_off = 0
    for folder, store in (
        ("datasets", stores["rad_max", "targets"]),
        ("datasets_mimic_1", tmp_path / "out/mimic_1"),
    ):
        datasets = read_datasets(tmp_path / "out" / folder)
        observations = DataStore.from_dir(store).get_observations(required_irf=[])
        assert len(datasets) == len(observations) == 2
        for observation in observations:
            dataset = datasets[f"obs_{observation.obs_id}"]
            expected = maker.run(reference.copy(), observation)
            expected = off_maker.run(expected, observation)
            for name in ("counts", "counts_off", "acceptance", "acceptance_off"):
                made, wanted = (getattr(_, name).data for _ in (dataset, expected))
                assert_array_equal(made, wanted)
            assert_allclose(dataset.alpha.data, 1 / 2)
            n_off += dataset.counts_off.data.sum()
    assert n_off > 0


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", 1000])
def test_number_of_regions(stores, tmp_path, value):
    config = make_config(stores, tmp_path, "rad_max", "rad_max", "1d")
    del config["datasets"]["on_region"]["radius"]
    config["datasets"]["background"]["parameters"] = {"n_off_regions": value}
    match = f"datasets.background: .*n_off_regions must be .* 1 to 100, got {value!r}"
    with pytest.raises(ValueError, match=match):
        MimicAnalysis(MimicAnalysisConfig.from_dict(config)).check_makers()
