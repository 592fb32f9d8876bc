"""What the page for maintainers and other packages says is true."""

import re
from pathlib import Path

import numpy as np
import pytest
from gammapy.makers import MapDatasetMaker, SpectrumDatasetMaker
from numpy.testing import assert_allclose, assert_array_equal

from gammapy_mimic import MimicMaker

from .helpers import make_reference
from .test_foundations import OVERRIDDEN_NAMES, PRIVATE_NAMES

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "development" / "maintainers.rst").read_text("utf-8")
BLOCKS = re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", PAGE)


@pytest.fixture(scope="module")
def names(stores):
    """Names of all blocks of the page, which run as they stand."""
    names, folders = {}, {_: stores[_].hdu_table.base_dir for _ in ("off", "targets")}
    for block in BLOCKS:
        block = re.sub(r"^   ", "", block, flags=re.MULTILINE)
        for name, folder in folders.items():
            block = block.replace(f'from_dir("{name}")', f'from_dir("{folder}")')
        block = block.replace(
            "KLBackgroundSelector(off_store)",
            "KLBackgroundSelector(off_store, "
            "{'airmass': None, 'zenith': None, 'rate': None}, kl_max=None)",
        )
        exec(block, names)
    return names


@pytest.mark.slow
def test_pairs_feed_an_on_off_maker(names):
    pairs = names["plan"].to_pairs(mimic_set=1)
    assert [_.name for _ in names["on_off"]] == [str(obs_id) for obs_id, _ in pairs]
    for dataset, (obs_id, off_obs_id) in zip(names["on_off"], pairs, strict=True):
        off = names["off_store"].obs(off_obs_id)
        target = names["observations"][str(obs_id)]
        part = names["mimic_maker"].get_off_observation(target)
        assert part.obs_id == off.obs_id
        # at the place of the source in the field of view, if the OFF were the target
        offset = target.get_pointing_icrs(target.tmid).separation(target.target_radec)
        pointing = part.get_pointing_icrs(part.tmid)
        events = part.events.radec.separation(pointing)
        is_near = abs(events - offset) < dataset.counts.geom.region.radius
        assert 0 < dataset.counts_off.data.sum() < is_near.sum()
        times = [_.observation_live_time_duration.to_value("s") for _ in (target, part)]
        assert_allclose(dataset.alpha.data, times[0] / times[1])


@pytest.mark.slow
def test_own_maker(names):
    thin, observation = names["ThinMaker"](), names["observations"][0]
    made = names["thin_observations"][0]
    n_events = len(observation.events.table)
    assert len(made.events.table) == (n_events + 1) // 2
    dataset = MapDatasetMaker().run(make_reference(observation), observation)
    result = thin.run(dataset, observation)
    expected = MapDatasetMaker().run(make_reference(observation), made)
    assert_array_equal(result.counts.data, expected.counts.data)
    assert result.background is dataset.background
    assert result.meta_table["THIN"][0] == 2


def test_spectra(names):
    """The chain, and its makers one after the other with the mimics, are the same."""
    for dataset, observation in zip(
        names["spectra"], names["mimic_observations"], strict=True
    ):
        expected = names["dataset_maker"].run(names["empty"].copy(), observation)
        assert_array_equal(dataset.counts.data, expected.counts.data)
    for dataset in names["datasets"]:
        assert np.all(dataset.counts_off.data.sum() > 0)


def test_lines_of_the_error_do_it(names):
    maker = MimicMaker(names["off_store"], names["plan"], mimic_set=1)
    target = names["observations"][0]
    reduced = SpectrumDatasetMaker().run(names["empty"].copy(), target)
    with pytest.raises(TypeError, match="reduce these") as error:
        maker.run(reduced, target)
    lines = re.findall(r"^    (.*)$", str(error.value), flags=re.MULTILINE)
    assert len(lines) == 2
    scope = dict(names) | {"dataset": names["empty"], "maker": maker}
    code = "\n".join(lines).replace("MimicMaker(...)", "maker")
    code = code.replace("SpectrumDatasetMaker(...), ...", "dataset_maker")
    exec(code, scope)
    total = sum(_.counts.data.sum() for _ in names["spectra"])
    assert scope["datasets"][0].counts.data.sum() == total


def test_private_names_are_those_of_the_page():
    rows = set(re.findall(r"^   \* - `([\w.]+)`$", PAGE, flags=re.MULTILINE))
    assert rows == {*PRIVATE_NAMES, *OVERRIDDEN_NAMES}
