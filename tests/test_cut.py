"""OFF observations that are longer than their target are cut to its livetime."""

import itertools

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time
from gammapy.data import DataStore, ObservationFilter, Observations
from gammapy.makers import DatasetsMaker, MapDatasetMaker
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.analysis.datasets import add_partners
from gammapy_mimic.data.cut import cut_observation
from gammapy_mimic.data.events import is_in_gti
from gammapy_mimic.data.observation import IRF_NAMES, get_hdu
from gammapy_mimic.makers.mimic_sets import write_mimic_sets
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.selection.cuts import get_ontime

from .helpers import (
    cut_gti,
    make_obs_table,
    make_reference,
    need_runs,
    replace,
    select_runs,
)
from .test_mimic import to_bytes
from .test_plan import NO_LATITUDE, make_tables

WIDE = dict.fromkeys(("airmass", "zenith", "rate", "galactic_latitude"))


@pytest.fixture(scope="module")
def off(stores):
    return stores["off"].obs(101)


@pytest.fixture(scope="module")
def targets(stores):
    return stores["targets"].get_observations()


def get_times(observation):
    """Times of the events that count, in s."""
    events = observation.events
    time = events.time[is_in_gti(events.time, observation.gti)]
    return np.asarray((time - observation.gti.time_ref).to_value("s"))


def select_first(observation, minutes):
    """The first minutes of an observation, by a filter of Gammapy."""
    start = observation.gti.time_start[0]
    return observation.select_time(Time([start, start + minutes * u.min]))


def make_plan(cuts, **columns):
    """A plan of one target for each part of an OFF observation."""
    start, stop = zip(*cuts, strict=True)
    number = np.arange(len(cuts)) + 1
    columns = {"OBS_ID": number, "OFF_OBS_ID": 100 + number} | columns
    columns |= {"CUT_START": list(start), "CUT_STOP": list(stop)}
    return MimicPlan(Table(columns))


class TestCutObservation:
    @settings(max_examples=25)
    @given(
        edges=st.lists(st.floats(0.001, 0.999), min_size=1, max_size=4, unique=True),
        has_gaps=st.booleans(),
        on_event=st.booleans(),
    )
    def test_each_event_is_in_one_part(self, off, edges, has_gaps, on_event):
        """Also one at the very time at which a part ends."""
        whole = cut_gti(off) if has_gaps else off.copy(in_memory=True)
        total = whole.gti.time_sum.to_value("s")
        edges = sorted(_ * total for _ in edges)
        if on_event and not has_gaps:
            edges[0] = get_times(whole)[3]
            edges[0] -= (whole.gti.time_start[0] - whole.gti.time_ref).to_value("s")
            edges = sorted(edges)
        edges = [0, *edges, total]

        parts = [cut_observation(whole, *ends) for ends in itertools.pairwise(edges)]

        ids = np.concatenate([_.events.table["EVENT_ID"] for _ in parts])
        good = is_in_gti(whole.events.time, whole.gti)
        assert_array_equal(np.sort(ids), np.sort(whole.events.table["EVENT_ID"][good]))
        for part, length in zip(parts, np.diff(edges), strict=True):
            assert len(get_times(part)) == len(part.events.table)
            assert_allclose(part.gti.time_sum.to_value("s"), length, atol=1e-6)

    def test_gap_between_intervals(self, off):
        """Good time goes on after a gap."""
        whole = cut_gti(off, starts=(15, 0), stops=(22, 5))
        part = cut_observation(whole, 240, 420)
        begin = off.gti.time_start[0]
        start, stop = (
            (_ - begin).to_value("s") for _ in (part.gti.time_start, part.gti.time_stop)
        )
        assert_allclose([start, stop], [[240, 900], [300, 1020]], atol=1e-6)

    @pytest.mark.parametrize("edge", [300, 0, 720])
    def test_a_part_that_begins_or_ends_at_a_gap(self, off, edge):
        whole = cut_gti(off)
        parts = [
            cut_observation(whole, *ends)
            for ends in ((0, edge), (edge, 720))
            if ends[0] < ends[1]
        ]
        assert sum(len(_.gti.table) for _ in parts) == 2
        assert sum(len(_.events.table) for _ in parts) == len(get_times(whole))

    def test_input_is_unchanged_and_irfs_stay_on_disk(self, off, stores):
        fresh = stores["off"].obs(101)
        part = cut_observation(fresh, 100, 200)
        for name in IRF_NAMES:
            assert get_hdu(part, name) is get_hdu(fresh, name)
        held = off.copy(in_memory=True)
        before = to_bytes(held)
        cut_observation(held, 100, 200)
        assert to_bytes(held) == before

    def test_header_follows(self, off):
        part = cut_observation(off, 100, 400)
        header, whole = part.events.table.meta, off.events.table.meta
        assert header["ONTIME"] == pytest.approx(300)
        assert header["LIVETIME"] == pytest.approx(300 * header["DEADC"])
        assert header["TSTART"] == pytest.approx(whole["TSTART"] + 100, abs=1e-5)
        assert header["TSTOP"] == pytest.approx(whole["TSTART"] + 400, abs=1e-5)
        assert abs(part.meta.time_info.time_start - part.gti.time_start[0]) < 1 * u.us

    def test_maps_of_parts_add_up(self, off):
        """Counts, exposure and background, so that none is cut without the other."""
        # Gammapy counts what is out of the good time, too
        whole = cut_observation(cut_gti(off), 0, 720)
        parts = [cut_observation(whole, *_) for _ in ((0, 400), (400, 720))]
        reference = make_reference(off)
        expected, *made = (MapDatasetMaker().run(reference, _) for _ in (whole, *parts))
        assert expected.counts.data.sum() > 100
        for name in ("counts", "exposure", "background"):
            total = sum(getattr(_, name).data for _ in made)
            assert_allclose(total, getattr(expected, name).data, rtol=1e-9)

    def test_filters(self, off):
        """A filter in time is applied, others are left to be."""
        region = CircleSkyRegion(off.pointing.fixed_icrs, 1 * u.deg)
        filters = [
            {"type": "sky_region", "opts": {"regions": region}},
            {
                "type": "custom",
                "opts": {"parameter": "ENERGY", "values": (1, 9) * u.TeV},
            },
        ]
        time = off.gti.time_start[0] + [5, 15] * u.min
        filtered = replace(off, obs_filter=ObservationFilter(time, filters))

        parts = [cut_observation(filtered, *_) for _ in ((0, 100), (100, 600))]

        ids = np.concatenate([_.events.table["EVENT_ID"] for _ in parts])
        assert_array_equal(np.sort(ids), np.sort(filtered.events.table["EVENT_ID"]))
        assert parts[0].gti.time_start[0] == filtered.gti.time_start[0]
        for part in parts:
            assert part.obs_filter.time_filter is None
            assert len(part.obs_filter.event_filters) == 2

    @pytest.mark.parametrize(
        ("cut", "match"),
        [
            ((-1, 100), "CUT_START: -1 s is negative"),
            ((100, 100), "CUT_STOP: 100 s is not after CUT_START, 100 s"),
            ((100, np.nan), "CUT_STOP: nan, but the other end is given"),
            ((np.nan, 100), "CUT_START: nan, but the other"),
            ((100, np.inf), "CUT_STOP: inf s is not"),
            ((100, 5000), "CUT_STOP: 5000 s is beyond the good time .*, 1680 s"),
            ((1680 - 1e-7, 1680), "CUT_STOP: there is no good time from 1680 to 1680"),
            ((1680, 1680.5), "CUT_START: 1680 s is beyond the good time"),
        ],
    )
    def test_no_part(self, off, cut, match):
        with pytest.raises(ValueError, match=match):
            cut_observation(off, *cut)

    def test_rounded_end(self, off):
        part = cut_observation(off, 1000, 1680.4)
        assert part.gti.time_stop[0] == off.gti.time_stop[0]

    def test_no_events(self, off):
        with pytest.raises(ValueError, match="no events"):
            cut_observation(replace(off, events=None), 0, 10)


class TestMaker:
    CUTS = ((100, 700), (np.nan, np.nan), (0, 1000.5))

    @pytest.fixture
    def maker(self, stores):
        return MimicMaker(stores["off"], make_plan(self.CUTS))

    def test_events_gti_and_header(self, maker, targets, stores):
        for target, (start, stop) in zip(targets, self.CUTS, strict=True):
            mimic = maker.make_observation(target)
            off = stores["off"].obs(100 + int(target.obs_id))
            header = mimic.events.table.meta
            if np.isnan(start):
                assert not {"MIM_TSTA", "MIM_TSTO"} & set(header)
                assert len(mimic.events.table) == len(get_times(off))
                continue
            assert (header["MIM_TSTA"], header["MIM_TSTO"]) == (start, stop)
            assert header["ONTIME"] == pytest.approx(stop - start)
            begin = (off.gti.time_start[0] - off.gti.time_ref).to_value("s")
            times = get_times(off) - begin
            n_events = np.sum((times >= start) & (times < stop))
            assert len(mimic.events.table) == len(get_times(mimic)) == n_events
            assert abs(mimic.gti.time_start[0] - target.gti.time_start[0]) < 1 * u.us

    def test_a_whole_mimic_of_one_that_was_cut(self, maker, targets):
        mimic = maker.make_observation(targets[0])
        pool = Observations([mimic])
        again = MimicMaker(pool, {3: 1}).make_observation(targets[2])
        assert "MIM_TSTA" not in again.events.table.meta

    def test_scramble_the_part(self, maker, targets, stores):
        """Not the whole, of which a part is taken."""
        region = CircleSkyRegion(stores["off"].obs(101).pointing.fixed_icrs, 2 * u.deg)
        options = {"method": "annulus", "width": 2 * u.deg}
        maker.scramble = ScrambleMaker([region], **options)
        mimic = maker.make_observation(targets[0])
        part = cut_observation(stores["off"].obs(101), *self.CUTS[0])
        expected = maker.scramble.make_observation(part, 1)
        assert mimic.events.table.meta["SCR_NEVT"] > 0
        offset = [
            _.events.radec.separation(_.pointing.fixed_icrs).deg
            for _ in (mimic, expected)
        ]
        assert_allclose(*offset, atol=1e-8)

    def test_meta_table(self, maker, targets):
        made = maker.make_observation(targets[0])
        table = maker.make_meta_table(made)
        assert (table["CUT_START"][0], table["CUT_STOP"][0]) == self.CUTS[0]
        dataset = MapDatasetMaker().run(make_reference(targets[0]), made)
        add_partners([dataset], maker.plan, 1)
        assert dataset.meta_table["CUT_STOP"][0] == 700
        chain = DatasetsMaker([MapDatasetMaker(), maker], stack_datasets=False)
        datasets = chain.run(make_reference(targets[0]), targets)
        stops = [_.meta_table["CUT_STOP"][0] for _ in datasets]
        assert_array_equal(stops, [700, np.nan, 1000.5])

    def test_written_sets(self, maker, targets, stores, tmp_path):
        write_mimic_sets(targets, stores["off"], maker.plan, tmp_path)
        store = DataStore.from_dir(tmp_path / "mimic_1")
        for target in targets:
            mimic = maker.make_observation(target)
            again = store.obs(target.obs_id)
            assert_array_equal(again.events.table["RA"], mimic.events.table["RA"])
            assert_allclose(
                again.gti.time_sum.to_value("s"), mimic.gti.time_sum.to_value("s")
            )
        assert_array_equal(store.obs_table["MIM_TSTO"], [700, np.nan, 1000.5])
        assert_allclose(store.obs_table["ONTIME"], [600, 1680, 1000.5])

    def test_a_part_that_is_not_there(self, stores, targets):
        plan = make_plan([(100, 1900)])
        maker = MimicMaker(stores["off"], plan)
        match = (
            "OBS_ID 1 in mimic set 1 of the plan, with OFF_OBS_ID 101: CUT_STOP: 1900"
        )
        with pytest.raises(ValueError, match=match):
            maker.make_observation(targets[0])


class TestPlan:
    @pytest.mark.parametrize(
        ("name", "value", "match"),
        [
            ("CUT_START", -5, "row 2, CUT_START: -5 s is negative"),
            ("CUT_START", np.nan, "row 2, CUT_START: nan"),
            ("CUT_STOP", np.nan, "row 2, CUT_STOP: nan"),
            ("CUT_STOP", 10, "row 2, CUT_STOP: 10 s is not after CUT_START, 100 s"),
            ("CUT_STOP", 1802, "row 2, CUT_STOP: 1802 s is beyond .*, 1800 s"),
            ("CUT_STOP", "all", "row 2, CUT_STOP: all is not valid, a number"),
        ],
    )
    def test_edited_plan(self, tmp_path, name, value, match):
        plan = make_plan([(0, 600), (100, 700)], ONTIME=[1800.0, 1800.0])
        values = plan.table[name].tolist()
        values[1] = value
        plan.table[name] = [str(_) for _ in values]
        plan.table.write(tmp_path / "plan.ecsv")
        with pytest.raises(ValueError, match=match):
            MimicPlan.read(tmp_path / "plan.ecsv")

    def test_units(self):
        plan = make_plan([(1 * u.min, 120 * u.s)], LIVETIME=[0.5] * u.h)
        assert plan.cuts(1) == {1: (60, 120)}
        assert plan.table["LIVETIME"].tolist() == [1800]

    def test_written_plan_is_the_same(self, tmp_path):
        plan = make_plan([(1 / 3, 1000 / 3), (np.nan, np.nan)])
        for name in ("plan.ecsv", "plan.fits"):
            plan.write(tmp_path / name)
            assert MimicPlan.read(tmp_path / name).cuts(1) == plan.cuts(1)

    def test_dict_is_whole(self):
        assert MimicPlan.create({1: 101}).cuts(1) == {}


def set_ontime(table, factor=1.1):
    table["ONTIME"] = np.asarray(table["LIVETIME"]) * factor
    return table


class TestFromObsTables:
    def make(self, longer=2.0, **options):
        targets, off = (set_ontime(_) for _ in make_tables())
        for name in ("LIVETIME", "ONTIME"):
            off[name] *= longer
        return MimicPlan.from_obs_tables(targets, off, NO_LATITUDE, **options), targets

    def test_cut_to_the_livetime_of_the_target(self):
        plan, targets = self.make(n_sets=3)
        table = plan.table
        livetime = dict(targets.iterrows("OBS_ID", "LIVETIME"))
        own = [livetime[_] for _ in table["OBS_ID"]]
        length = table["CUT_STOP"] - table["CUT_START"]
        assert_allclose(length * table["LIVETIME"] / table["ONTIME"], own, atol=0.01)
        assert np.all(table["CUT_START"] >= 0)
        assert np.all(table["CUT_STOP"] <= table["ONTIME"])
        assert_array_equal(table["CUT_START"], np.round(table["CUT_START"], 3))

    def test_begin_is_uniform(self):
        plan, _ = self.make(n_sets=5)
        table = plan.table
        room = table["ONTIME"] - (table["CUT_STOP"] - table["CUT_START"])
        begin = table["CUT_START"] / room
        assert len(set(begin)) == len(table)
        assert 0.3 < np.mean(begin) < 0.7
        assert begin.min() < 0.2
        assert begin.max() > 0.8

    def test_without_other_targets_and_in_any_order(self):
        """The draw is that of the seed, the target and the set."""
        targets, off = (set_ontime(_) for _ in make_tables())
        off["LIVETIME"] *= 2
        off["ONTIME"] *= 2
        # all alike, so that partners do not matter
        off["LIVETIME"], off["ONTIME"] = 3200.0, 3520.0
        cuts = [
            MimicPlan.from_obs_tables(own, other, NO_LATITUDE, n_sets=2).cuts(2)
            for own, other in (
                (targets, off),
                (targets[::-1], off[::-1]),
                (targets[1:2], off),
            )
        ]
        assert cuts[0] == cuts[1]
        assert cuts[2][101] == cuts[0][101]

    def test_best_first_is_drawn_as_well(self):
        plan, _ = self.make(randomise=False, n_sets=1)
        assert np.all(plan.table["CUT_START"] > 0)
        other, _ = self.make(randomise=False, n_sets=1, random_state=1)
        assert np.all(plan.table["CUT_START"] != other.table["CUT_START"])

    def test_whole(self, caplog):
        with pytest.raises(ValueError, match="removed most is 'livetime'"):
            self.make(livetime="whole")
        plan, _ = self.make(longer=1.08, livetime="whole")
        assert len(plan.partners(1)) == 4
        assert plan.cuts(1) == {}

    def test_shorter(self):
        """By no more than the criterion, and used whole."""
        plan, _ = self.make(longer=0.93)
        assert plan.cuts(1) == {}
        with pytest.raises(ValueError, match="removed most is 'livetime'"):
            self.make(longer=0.85)

    def test_option(self):
        with pytest.raises(ValueError, match="Invalid livetime: 'half'.*cut.*whole"):
            self.make(livetime="half")

    def test_good_time_not_known(self):
        targets, off = make_tables()
        off["LIVETIME"] *= 2
        plan = MimicPlan.from_obs_tables(targets, off, NO_LATITUDE)
        assert len(plan.partners(1)) == 4
        assert plan.cuts(1) == {}

    def test_good_time(self):
        table = make_obs_table(
            {
                "OBS_ID": [1, 2, 3, 4, 5, 6],
                "ONTIME": [100, np.nan, np.nan, np.nan, 0, 50] * u.min,
                "LIVETIME": [80, 90, 90, np.nan, 80, 80] * u.min,
                "DEADC": [np.nan, 0.9, np.nan, np.nan, 1.7, 0.9],
                "TSTART": [0, 0, 0, 0, 0, 0] * u.s,
                "TSTOP": [1, 1, 7200, np.nan, 1, 1] * u.s,
            }
        )
        expected = [100, 100, 120, np.nan, np.nan, np.nan]
        assert_allclose(get_ontime(table) / 60, expected)


class TestSelector:
    def test_target_with_a_time_cut(self, stores, targets):
        """Partners of the other length are cut; a whole one is refused."""
        target = select_first(targets[0], 10)
        selector = KLBackgroundSelector(stores["off"], WIDE)
        plan = selector.make_plan([target], n_sets=3)
        for mimic_set in plan.sets:
            maker = MimicMaker(stores["off"], plan, mimic_set)
            mimic = maker.make_observation(target)
            livetime = mimic.observation_live_time_duration
            assert abs(livetime - target.observation_live_time_duration) < 0.01 * u.s
        with pytest.raises(ValueError, match="removed most is 'livetime'"):
            selector.make_plan([target], livetime="whole")

    def test_ranking_does_not_depend_on_it(self, stores, targets, tmp_path):
        selector = KLBackgroundSelector(stores["off"], WIDE)
        selector.make_plan(targets[:1], path=tmp_path)
        text = (tmp_path / "kl_1.ecsv").read_text()
        selector.make_plan(targets[:1], path=tmp_path, livetime="whole")
        assert (tmp_path / "kl_1.ecsv").read_text() == text

    def test_option(self, stores, targets):
        selector = KLBackgroundSelector(stores["off"], WIDE)
        with pytest.raises(ValueError, match="Invalid livetime: 'half'"):
            selector.make_plan(targets, livetime="half")


@pytest.mark.parametrize("tag", ["pks2155_flare", "msh1552", "crab"])
@pytest.mark.slow
def test_hess_livetimes(hess_store, tag):
    """That of the target, or less where the OFF run is shorter."""
    targets, off = (select_runs(hess_store, _) for _ in (tag, "offdata"))
    plan = MimicPlan.from_obs_tables(targets, off, {"airmass": 0.3}, n_sets=1)
    rows = {row["OBS_ID"]: row for row in plan.table}
    maker = MimicMaker(hess_store, plan)
    n_cut = 0
    for target in hess_store.get_observations(targets["OBS_ID"]):
        if not maker.can_make(target):
            continue
        row = rows[target.obs_id]
        whole = hess_store.obs(row["OFF_OBS_ID"])
        mimic = maker.make_observation(target)
        own, livetime, limit = (
            _.observation_live_time_duration.to_value("s")
            for _ in (target, mimic, whole)
        )
        assert abs(livetime - min(own, limit)) < 1
        is_cut = "MIM_TSTA" in mimic.events.table.meta
        assert is_cut == (limit - own >= 1)
        n_cut += is_cut
        if not is_cut:
            assert len(mimic.events.table) == len(get_times(whole))
    assert n_cut > 0


def test_hess_target_of_ten_minutes(hess_store):
    """It had no partner at all."""
    need_runs(hess_store, 33787, "offdata")
    target = select_first(hess_store.obs(33787), 10)
    off = hess_store.get_observations(need_runs(hess_store, "offdata")[:12])
    plan = KLBackgroundSelector(off, WIDE).make_plan([target], n_sets=2)
    assert len(plan.partners(1)) == len(plan.partners(2)) == 1
    mimic = MimicMaker(off, plan).make_observation(target)
    livetime = mimic.observation_live_time_duration
    assert abs(livetime - target.observation_live_time_duration) < 1 * u.s
