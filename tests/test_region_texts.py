"""Regions in question are called what the configuration calls them."""

import astropy.units as u
import pytest
from regions import CircleSkyRegion, Regions

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.estimators.background_tables import make_regions

from .test_partial_regions import CENTER, COMPARISON


@pytest.fixture
def read(stores):
    """Regions of a configuration."""

    def read(*texts):
        data = {"datasets": {"type": "3d"}}
        data["observations"] = {"datastore": str(stores["targets"].hdu_table.base_dir)}
        data["mimic"] = {"systematics": {"regions": list(texts)}}
        analysis = MimicAnalysis(MimicAnalysisConfig.from_dict(data, "test"))
        return analysis.factory.systematics_regions

    return read


def get_labels(regions):
    return [_.meta["text"] for _ in regions]


def test_label_is_what_was_written(read):
    """They were "0" and "1"."""
    texts = ["83.6,-22,0.3", "83.6 deg, -21.5 deg, 12 arcmin"]
    assert get_labels(read(*texts)) == texts


@pytest.mark.slow
def test_names_of_a_file_stay(tmp_path, read):
    circles = [CircleSkyRegion(CENTER, _ * u.deg) for _ in (0.1, 0.2)]
    circles[0].meta["text"] = "my source"
    text = str(tmp_path / "two.reg")
    Regions(circles).write(text, format="ds9")
    assert get_labels(read(text)) == ["my source", text]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "what"),
    [(90, "The region is not on the map"), (2, r"[0-9.]+% of the region is off")],
)
def test_region_off_the_map_is_named_as_written(shift, what, read):
    """By its key, too, and with the way out."""
    text = f"{CENTER.ra.deg},{CENTER.dec.deg + shift / 4 * 3},0.6"
    match = f"^mimic.systematics.regions: '{text}': {what}.* Use a larger map"
    with pytest.raises(ValueError, match=match) as error:
        make_regions(COMPARISON, read(text))
    assert "SkyCoord" not in str(error.value)
