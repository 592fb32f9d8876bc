"""The template of one target: what it is made of, and for which dead time."""

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import MimicMaker
from gammapy_mimic.data.observation import get_livetime_fraction
from gammapy_mimic.selection.indexed_pool import IndexedPool
from gammapy_mimic.template import make_template
from gammapy_mimic.template.target import make_target_template, select_ranked


@pytest.fixture
def ranking():
    table = Table({"OFF_OBS_ID": [15, 11, 13, 12, 14]})
    table["STATUS"] = ["ok", "undecided", "ok", "large_kl", "rejected"]
    table["LIVETIME"] = [1, 2, 3, 4, 5] * u.h
    return table


class TestSelect:
    def test_good_ones_in_the_order_of_the_ranking(self, ranking):
        assert select_ranked(ranking)["OFF_OBS_ID"].tolist() == [15, 11, 13]
        assert select_ranked(ranking, [11])["OFF_OBS_ID"].tolist() == [15, 13]
        assert len(ranking) == 5

    @pytest.mark.parametrize("time_request", [None, "1 h"])
    def test_none(self, ranking, time_request):
        assert len(select_ranked(ranking, [11, 13, 15], time_request)) == 0

    @pytest.mark.parametrize(("time", "n_obs"), [(1, 1), (2, 2), (3, 2), (3.5, 3)])
    def test_time_request(self, ranking, time, n_obs):
        assert len(select_ranked(ranking, time_request=time * u.h)) == n_obs

    def test_unknown_livetime(self, ranking, caplog):
        ranking["LIVETIME"][:2] = np.nan, 0
        selected = select_ranked(ranking, time_request="1 h")
        assert selected["OFF_OBS_ID"].tolist() == [13]
        assert "The livetime of OBS_ID 15, 11 is not known" in caplog.text
        # it does not matter where none is asked for
        assert select_ranked(ranking)["OFF_OBS_ID"].tolist() == [15, 11, 13]
        with pytest.raises(ValueError, match="of which none has one"):
            select_ranked(ranking, [13], "1 h")


class TestMake:
    def test_is_that_of_its_observations(self, stores):
        target = stores["targets"].obs(1)
        pool = IndexedPool(stores["off"])
        bkg = make_target_template(target, pool, ["105", 101], smooth="gauss")
        fraction = get_livetime_fraction(target)
        expected = make_template(
            stores["off"].get_observations([105, 101]),
            smooth="gauss",
            livetime_fraction=fraction,
        )
        assert_array_equal(bkg.data, expected.data)
        assert_allclose(bkg.meta["DEADC"], fraction)

    def test_regions_of_the_pool(self, stores):
        target, off = stores["targets"].obs(1), stores["off"]
        center = off.obs(101).pointing.fixed_icrs
        regions = (CircleSkyRegion(center, 0.5 * u.deg),)
        pool = IndexedPool(off, exclusion_regions=regions)
        bkg = make_target_template(target, pool, [101])
        expected = make_template(
            off.obs(101),
            exclusion_regions=regions,
            livetime_fraction=get_livetime_fraction(target),
        )
        assert_array_equal(bkg.data, expected.data)

    def test_mimic_of_one_of_them(self, stores):
        mimic = MimicMaker(stores["off"], {1: 101}).make_observation(
            stores["targets"].obs(1)
        )
        pool = IndexedPool(stores["off"])
        with pytest.raises(ValueError, match=r"mimic of OFF observations \[101\]"):
            make_target_template(mimic, pool, [101, 105])
        assert make_target_template(mimic, pool, [105]).meta["OBS_IDS"] == "105"
