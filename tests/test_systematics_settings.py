"""Mistakes in ``mimic.systematics`` show before the plan is made, not after hours."""

import pytest

from gammapy_mimic.analysis import MimicAnalysis
from gammapy_mimic.analysis.pipeline import run_pipeline

from .test_pipeline import make_config


def run(config):
    run_pipeline(MimicAnalysis(config))


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("nights", "NOPE", "nights: there is no column 'NOPE'"),
        ("regions", ["nofile.reg"], "regions: .*nofile.reg"),
        (
            "regions",
            ["10,20,0.3"],
            "regions: '10,20,0.3': The region is not on the map",
        ),
    ],
)
def test_before_the_plan(tmp_path, stores, name, value, match):
    config = make_config(tmp_path, stores)
    config.datasets.stack = False
    setattr(config.mimic.systematics, name, value)
    with pytest.raises((ValueError, OSError), match=f"mimic.systematics.{match}"):
        run(config)
    assert not (tmp_path / "out/plan.ecsv").exists()


def test_region_that_is_partly_off_the_map(tmp_path, stores):
    config = make_config(tmp_path, stores)
    center, width = config.datasets.geom.wcs.skydir, config.datasets.geom.wcs.width
    edge = center.lat.deg + width.height.deg / 2
    config.mimic.systematics.regions = [f"{center.lon.deg},{edge},0.3"]
    with pytest.raises(ValueError, match="systematics.regions: .* is off the map"):
        run(config)
    assert not (tmp_path / "out/plan.ecsv").exists()
