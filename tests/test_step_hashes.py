"""Every value of the configuration is hashed by a step, or has no effect on results."""

import shutil

import numpy as np
import pytest
from astropy.table import Table
from gammapy.maps import Map
from pydantic import BaseModel

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.checksums import StepChecksums
from gammapy_mimic.selection import MimicPlan

CONFIG = """
observations:
  datastore: TARGETS
  obs_cone: {frame: icrs, lon: 329.7 deg, lat: -30.3 deg, radius: 5 deg}
  obs_time: {start: "2000-01-01", stop: "2024-01-01"}
datasets:
  type: 3d
  geom:
    wcs:
      skydir: {frame: icrs, lon: 329.7 deg, lat: -30.2 deg}
      width: {width: 4 deg, height: 4 deg}
    axes:
      energy: {min: 1 TeV, max: 10 TeV, nbins: 1}
      energy_true: {min: 0.5 TeV, max: 20 TeV, nbins: 3}
  background: {method: fov_background}
  on_region: {frame: icrs, lon: 329.7 deg, lat: -30.2 deg, radius: 0.1 deg}
mimic:
  off: {datastore: OFF}
  selection: {criteria: {airmass: null, zenith: null, rate: null}}
  exclusion: {catalogs: [FOLDER/catalog.fits], stars: FOLDER/stars.fits}
  scramble: {method: annulus}
  background: template
  systematics:
    position: {frame: icrs, lon: 329.7 deg, lat: -30.2 deg}
"""

CHANGED = {
    "observations.datastore": "FOLDER/targets",
    "observations.obs_ids": [1],
    "observations.obs_file": "FOLDER/obs_ids.txt",
    "observations.obs_cone.lon": "335.7 deg",
    "observations.obs_cone.lat": "-25.4 deg",
    "observations.obs_cone.radius": "0.55 deg",
    "observations.obs_time.start": "2004-01-02",
    "observations.obs_time.stop": "2023-06-01",
    "datasets.type": "1d",
    "datasets.stack": False,
    "datasets.geom.wcs.skydir.frame": "galactic",
    "datasets.geom.wcs.skydir.lon": "329 deg",
    "datasets.geom.wcs.skydir.lat": "-30 deg",
    "datasets.geom.wcs.binsize": "0.1 deg",
    "datasets.geom.wcs.width.width": "3 deg",
    "datasets.geom.wcs.width.height": "3 deg",
    "datasets.geom.wcs.binsize_irf": "0.4 deg",
    "datasets.geom.selection.offset_max": "2 deg",
    "datasets.geom.axes.energy.min": "2 TeV",
    "datasets.geom.axes.energy.max": "9 TeV",
    "datasets.geom.axes.energy.nbins": 2,
    "datasets.geom.axes.energy_true.min": "0.6 TeV",
    "datasets.geom.axes.energy_true.max": "30 TeV",
    "datasets.geom.axes.energy_true.nbins": 4,
    "datasets.map_selection": ["counts", "background"],
    "datasets.background.method": "reflected",
    "datasets.background.exclusion": "FOLDER/mask.fits",
    "datasets.background.parameters": {"method": "fit"},
    "datasets.safe_mask.methods": ["offset-max"],
    "datasets.safe_mask.parameters": {"aeff_percent": 5},
    "datasets.on_region.frame": "galactic",
    "datasets.on_region.lon": "329 deg",
    "datasets.on_region.lat": "-30 deg",
    "datasets.on_region.radius": "0.2 deg",
    "datasets.containment_correction": False,
    "mimic.target_query": "OBS_ID > 1",
    "mimic.off.datastore": "FOLDER/off",
    "mimic.off.obs_ids": [101, 102, 103, 104],
    "mimic.off.query": "OBS_ID < 106",
    "mimic.selection.ranking": "kl",
    "mimic.selection.n_best": 2,
    "mimic.selection.distribution": "irf",
    "mimic.selection.kl_max": 0.03,
    "mimic.selection.criteria": {"airmass": 0.2},
    "mimic.selection.randomise": False,
    "mimic.exclusion.catalogs": [],
    "mimic.exclusion.regions": "FOLDER/sources.reg",
    "mimic.exclusion.fov_radius": "9 deg",
    "mimic.exclusion.radius": "0.3 deg",
    "mimic.exclusion.stars": None,
    "mimic.exclusion.magnitude_max": 3,
    "mimic.exclusion.star_radius": "0.4 deg",
    "mimic.exclusion.background": True,
    "mimic.scramble.method": "fill",
    "mimic.scramble.width": "0.5 deg",
    "mimic.n_sets": 3,
    "mimic.livetime": "whole",
    "mimic.alignment": "radec",
    "mimic.time": "off",
    "mimic.background": "off",
    "mimic.template.dimension": "3d",
    "mimic.template.smooth": "gauss",
    "mimic.template.smooth_options": {"width": "1 deg"},
    "mimic.template.time_request": "1 h",
    "mimic.template.obs_ids": [101],
    "mimic.template.energy_axis.min": "0.2 TeV",
    "mimic.template.energy_axis.max": "50 TeV",
    "mimic.template.energy_axis.nbins": 10,
    "mimic.template.offset_axis.max": "2 deg",
    "mimic.template.offset_axis.nbins": 8,
    "mimic.template.fov_axis.max": "2 deg",
    "mimic.template.fov_axis.nbins": 16,
    "mimic.template.keep_empty": True,
    "mimic.random_state": 1,
    "mimic.irfs": "copy",
    "mimic.systematics.correlation_radius": "0.2 deg",
    "mimic.systematics.energy_edges": ["1 TeV", "10 TeV"],
    "mimic.systematics.offset_edges": ["0 deg", "1 deg"],
    "mimic.systematics.radii": ["0.2 deg", "0.4 deg"],
    "mimic.systematics.regions": ["329.7,-30.2,0.3"],
    "mimic.systematics.position.frame": "galactic",
    "mimic.systematics.position.lon": "329 deg",
    "mimic.systematics.position.lat": "-30 deg",
    "mimic.systematics.min_background": 20,
    "mimic.systematics.nights": True,
    "mimic.systematics.flux": False,
}
"""Another value of each, beside which nothing changes."""

WITHOUT_EFFECT = {
    "general.log.level": "what is said",
    "general.log.filename": "what is said",
    "general.log.filemode": "what is said",
    "general.log.format": "what is said",
    "general.log.datefmt": "what is said",
    "general.outdir": "where results are, with their records",
    "general.n_jobs": "results do not depend on it",
    "general.datasets_file": "not read by a run",
    "general.models_file": "not read by a run",
    "observations.obs_cone.frame": "selects observations, whose OBS_IDs are hashed",
    "observations.required_irf": "selects observations, whose OBS_IDs are hashed",
    "mimic.off.index": "a cache",
    "mimic.links": "whether there is an error",
    "mimic.strict": "whether there is an error",
    "mimic.write_datastore": "whether there are steps",
    "mimic.write_datasets": "what is left of results, not what is in them",
    "mimic.pictures": "only the report has it",
}
"""Keys, and why no step needs them."""

NOT_USED = ("fit.", "flux_points.", "excess_map.", "light_curve.")
"""Sections of Gammapy for what a user does with the datasets."""


def find_leaves(model, prefix=""):
    for name, field in model.model_fields.items():
        annotations = (field.annotation, *getattr(field.annotation, "__args__", ()))
        models = [
            annotation
            for annotation in annotations
            if isinstance(annotation, type) and issubclass(annotation, BaseModel)
        ]
        if models:
            yield from find_leaves(models[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, stores):
    folder = tmp_path_factory.mktemp("hashes")
    table = Table({"ra": [329.9, 338], "dec": [-30.2, -30], "name": ["near", "far"]})
    table.write(folder / "catalog.fits")
    table["ra"], table["mag"] = 330.1, 4.0
    table.write(folder / "stars.fits")
    (folder / "sources.reg").write_text("icrs\ncircle(329.2,-30.2,0.3)\n")
    (folder / "obs_ids.txt").write_text("2\n3\n")
    mask = Map.create(skydir=(329.7, -30.2), width=4, binsz=0.5, dtype=bool)
    mask.write(folder / "mask.fits")
    for name in ("targets", "off"):
        shutil.copytree(stores[name].hdu_table.base_dir, folder / name)
    return folder


@pytest.fixture(scope="module")
def get_checksums(folder, stores):
    places = {
        "TARGETS": str(stores["targets"].hdu_table.base_dir),
        "OFF": str(stores["off"].hdu_table.base_dir),
        "FOLDER": str(folder),
    }

    def fill(text):
        for name, place in places.items():
            text = text.replace(name, place)
        return text

    def get(key=None, value=None):
        config = MimicAnalysisConfig.from_yaml(fill(CONFIG))
        config.general.outdir = str(folder / "out")
        if key is not None:
            *sections, name = key.split(".")
            section = config
            for _ in sections:
                section = getattr(section, _)
            if isinstance(value, str):
                value = fill(value)
            setattr(section, name, value)
        analysis = MimicAnalysis(config)
        analysis.get_observations()
        hashes = StepChecksums(analysis)
        partners = np.resize(analysis.factory.off_datastore.obs_ids, 3)
        obs_ids = [int(_) for _ in analysis.observations.ids]
        plan = dict(zip(obs_ids, partners.tolist(), strict=False))
        plan = MimicPlan.create(plan)
        return {
            "plan": hashes.plan,
            "targets": hashes.get_datasets(plan),
            "systematics": hashes.get_systematics(plan),
        }

    return get


@pytest.fixture(scope="module")
def checksums(get_checksums):
    return get_checksums()


def test_all_keys_are_known():
    leaves = {_ for _ in find_leaves(MimicAnalysisConfig) if not _.startswith(NOT_USED)}
    assert leaves == CHANGED.keys() | WITHOUT_EFFECT.keys()
    assert not CHANGED.keys() & WITHOUT_EFFECT.keys()


def test_same_configuration_has_the_same_hashes(get_checksums, checksums):
    assert get_checksums() == checksums


@pytest.mark.slow
@pytest.mark.parametrize("key", CHANGED)
def test_a_change_is_seen(get_checksums, checksums, key):
    assert get_checksums(key, CHANGED[key]) != checksums
