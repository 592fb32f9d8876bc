"""Laws of plans and of geometry, tried on many drawn examples."""

import tempfile
from pathlib import Path

import numpy as np
from astropy.coordinates import angular_separation, position_angle
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.selection.plan_columns import COLUMNS
from gammapy_mimic.utils.coordinates import (
    from_fov_lon_lat,
    from_polar,
    local_axes,
    rotate_fov,
    to_fov_lon_lat,
    to_lon_lat,
    to_vectors,
)

from .helpers import assign, make_candidates, make_obs_table

LAWS = {}
"""Functions that try a law on a number of examples, and give how many were tried."""

N_OFF = 12
OFF_OBS_IDS = 2**40 + np.arange(N_OFF)


def law(**strategies):
    """Make a law of a function that fails where it does not hold."""

    def add(function):
        def attempt(n_examples):
            tried = []

            @settings(max_examples=n_examples, deadline=None, derandomize=True)
            @given(**strategies)
            def check(**kwargs):
                tried.append(1)
                function(**kwargs)

            check()
            return len(tried)

        name = function.__name__
        LAWS[name] = attempt
        return function

    return add


# ----------------------------------------------------------------------------- plans


@st.composite
def costs(draw):
    """Costs of pairs, some of them rejected, and OBS_IDs of targets and OFF."""
    shape = draw(st.integers(1, 6)), draw(st.integers(1, N_OFF))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cost = rng.choice([0.1, 0.5, 0.5, 1, 3], shape) * rng.choice([1, 1 + 1e-6], shape)
    cost[rng.uniform(size=shape) < draw(st.sampled_from([0, 0.4, 0.9]))] = np.inf
    obs_ids = rng.permutation(100_000)[: sum(shape)]
    return cost, obs_ids[: shape[0]], obs_ids[shape[0] :]


OPTIONS = st.fixed_dictionaries(
    {
        "n_sets": st.integers(1, 5),
        "randomise": st.booleans(),
        "n_best": st.integers(1, N_OFF),
        "random_state": st.integers(0, 1000),
    }
)


@law(costs=costs(), options=OPTIONS)
def assignment(costs, options):
    """No reuse in a set, no rejected pair, and as many partners as possible."""
    cost, obs_ids, _ = costs
    partners = assign(cost, obs_ids, **options)
    assert partners.shape == (options["n_sets"], len(obs_ids))
    for row in partners:
        used = row[row >= 0]
        assert len(np.unique(used)) == len(used)
        assert np.all(np.isfinite(cost[row >= 0, used]))
    matching = maximum_bipartite_matching(csr_matrix(np.isfinite(cost)), "column")
    assert np.all(np.sum(partners >= 0, axis=1) == np.sum(matching >= 0))


@law(costs=costs(), options=OPTIONS)
def seeds(costs, options):
    """The same seed gives the same plan, of one row for each target and set."""
    cost, obs_ids, off_obs_ids = costs
    candidates = make_candidates(cost, obs_ids, off_obs_ids)
    plan, again = (
        MimicPlan.from_candidates(candidates, np.sort(off_obs_ids), **options)
        for _ in range(2)
    )
    assert_same(plan, again)
    check_sets(plan)
    assert plan.seed == options["random_state"]
    assert len(plan) == options["n_sets"] * len(obs_ids)


def assert_same(plan, other):
    for name in plan.table.colnames:
        assert_array_equal(plan.table[name], other.table[name])
        assert plan.table[name].dtype.kind == other.table[name].dtype.kind
        assert plan.table[name].unit == other.table[name].unit
    assert plan.seed == other.seed


def check_sets(plan):
    """Check that no OFF observation stands in twice in a set, and none for itself."""
    for mimic_set in plan.sets:
        partners, off_obs_ids = plan.partners(mimic_set), plan.off_obs_ids(mimic_set)
        assert len({*off_obs_ids}) == len(off_obs_ids) == len(partners)
        assert all(obs_id != partner for obs_id, partner in partners.items())
    assert min(plan.sets) >= 1
    assert sum(plan.reuse.values()) == np.sum(plan.table["OFF_OBS_ID"] >= 0)


@law(seed=st.integers(0, 2**32 - 1), n_targets=st.integers(1, 6), options=OPTIONS)
def order(seed, n_targets, options):
    """A plan depends on no order, neither of targets nor of OFF observations."""
    rng = np.random.default_rng(seed)
    size = n_targets + N_OFF
    table = make_obs_table(
        {
            "OBS_ID": rng.permutation(10_000)[:size],
            "RA_PNT": rng.uniform(0, 360, size),
            "DEC_PNT": rng.uniform(-90, 90, size),
            # of which some are the same
            "ALT_PNT": rng.uniform(50, 80, size).round(),
            "LIVETIME": rng.uniform(1500, 1700, size).round(-1),
        }
    )
    # one that always matches
    table["ALT_PNT"][-1], table["LIVETIME"][-1] = table["ALT_PNT"][0], 1700
    parts = table[:n_targets], table[n_targets:]
    shuffled = [_[rng.permutation(len(_))] for _ in parts]
    criteria = {"galactic_latitude": None, "same_field": False}
    plan, again = (
        MimicPlan.from_obs_tables(*_, criteria, **options) for _ in (parts, shuffled)
    )
    assert_same(plan, again)
    check_sets(plan)


@st.composite
def plans(draw):
    """Plans of up to three sets, with targets that have no partner."""
    obs_id = st.integers(0, 2**40 - 1)
    obs_ids = draw(st.lists(obs_id, min_size=1, max_size=5, unique=True))
    rows = []
    for mimic_set in range(1, draw(st.integers(1, 3)) + 1):
        partners = draw(st.permutations(OFF_OBS_IDS.tolist()))[: len(obs_ids)]
        no_partner = draw(st.sampled_from([None, *obs_ids]))
        for obs_id, partner in zip(obs_ids, partners, strict=True):
            rows.append((obs_id, mimic_set, -1 if obs_id == no_partner else partner))
    rows = draw(st.permutations(rows))
    table = Table(rows=rows, names=["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"])
    numbers = [name for name, (dtype, _) in COLUMNS.items() if dtype is float]
    numbers = [name for name in numbers if name not in ("CUT_START", "CUT_STOP")]
    for name in draw(st.sets(st.sampled_from(numbers))):
        values = st.lists(st.floats(width=64), min_size=len(rows), max_size=len(rows))
        table[name] = draw(values)
    if draw(st.booleans()):
        # parts of any good time, or the whole
        begin, length = st.floats(0, 1e4), st.floats(1e-3, 1e4)
        parts = [draw(st.none() | st.tuples(begin, length)) for _ in rows]
        parts = [(np.nan, np.nan) if _ is None else (_[0], sum(_)) for _ in parts]
        table["CUT_START"], table["CUT_STOP"] = np.transpose(parts)
        table["ONTIME"] = np.nanmax([*np.ravel(parts), 0])
    status = st.sampled_from(["ok", "large_kl"])
    table["STATUS"] = [draw(status) for _ in rows]
    table.meta["MIM_SEED"] = draw(st.integers(0, 2**31))
    return MimicPlan(table)


@law(plan=plans(), suffix=st.sampled_from(["ecsv", "fits"]))
def files(plan, suffix):
    """A plan comes back from its file as it was, to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"plan.{suffix}"
        plan.write(path)
        again = MimicPlan.read(path)
    assert_same(plan, again)
    assert (again.sets, again.reuse) == (plan.sets, plan.reuse)
    assert again.questionable == plan.questionable


@law(plan=plans(), data=st.data())
def rows(plan, data):
    """The order of the rows does not matter."""
    order = data.draw(st.permutations(range(len(plan))))
    again = MimicPlan(plan.table[order])
    assert_same(plan, again)
    check_sets(again)


WORDS = st.one_of(
    st.integers(-3, 8).map(str),
    st.integers(2**40, 2**40 + N_OFF + 3).map(str),
    st.floats().map(str),
    st.sampled_from(["", '""', "nan", "inf", "1e30", "true", "x", "-1", "1.0", "0x1"]),
    st.text("0123456789+-.eE_", max_size=6),
)


@law(plan=plans(), word=WORDS, data=st.data())
def edits(plan, word, data):
    """What was edited is a plan of what there is, or an error that tells where."""
    name = data.draw(st.sampled_from(["OBS_ID", "MIMIC_SET", "OFF_OBS_ID"]))
    row = data.draw(st.integers(1, len(plan)))
    known = np.unique(plan.table["OBS_ID"]), OFF_OBS_IDS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.ecsv"
        plan.write(path)
        lines = path.read_text().splitlines()
        words = lines[row - len(plan) - 1].split(" ")
        words[plan.table.colnames.index(name)] = word
        lines[row - len(plan) - 1] = " ".join(words)
        path.write_text("\n".join([*lines, ""]))
        again = None
        try:
            again = MimicPlan.read(path, *known)
        except ValueError as error:
            text = str(error)
    if again is None:
        # rows of another set are told by their target or partner
        assert any(_ in text for _ in (name, "OBS_ID", "line")), text
        return
    assert np.isin(again.table["OBS_ID"], known[0]).all()
    assert np.isin([*again.reuse], known[1]).all()
    check_sets(again)


# -------------------------------------------------------------------------- geometry

TINY = st.floats(0, 1e-6)
LON = st.one_of(
    st.floats(0, 360),
    TINY,
    TINY.map(lambda x: 360 - x),
    st.sampled_from([0.0, 90.0, 180.0, 270.0, 360.0]),
)
LAT = st.one_of(
    st.floats(-90, 90),
    TINY.map(lambda x: 90 - x),
    TINY.map(lambda x: x - 90),
    st.sampled_from([-90.0, 0.0, 90.0]),
)
POINTING = st.tuples(LON, LAT)
OFFSET = st.one_of(st.floats(0, 5), st.floats(0, 180), TINY)
AZIMUTH = st.floats(-np.pi, np.pi)

ACCURACY = 1e-9
"""In deg."""


def see(pointing, lon, lat):
    """Offset and position angle as seen from a pointing, in deg, by astropy."""
    coords = [np.radians(_) for _ in (*pointing, lon, lat)]
    angle = position_angle(*coords)
    return np.degrees(angular_separation(*coords)), np.degrees(np.asarray(angle))


@law(start=POINTING, stop=POINTING, offset=OFFSET, azimuth=AZIMUTH)
def rotation(start, stop, offset, azimuth):
    """Offset and position angle stay, whatever the pointings: poles, wrap of RA."""
    vectors = local_axes(*start).T @ from_polar([offset], azimuth)
    position = to_lon_lat(vectors)
    moved = rotate_fov(*position, start, stop)
    before, after = see(start, *position), see(stop, *moved)
    assert_allclose(after[0], before[0], rtol=0, atol=ACCURACY)
    # a position angle is a direction: its error on the sky goes with the offset
    difference = (after[1] - before[1] + 180) % 360 - 180
    shift = difference * np.sin(np.radians(before[0]))
    assert_allclose(shift, 0, rtol=0, atol=ACCURACY)


@law(start=POINTING, stop=POINTING, position=POINTING, other=POINTING)
def rigidity(start, stop, position, other):
    """Distances stay, the inverse returns, and what comes out is on the sphere."""
    lon, lat = np.transpose([position, other])
    there = rotate_fov(lon, lat, start, stop)
    first, second = to_vectors(lon, lat), to_vectors(*there)
    before, after = (np.linalg.norm(_[:, 0] - _[:, 1]) for _ in (first, second))
    assert_allclose(after, before, rtol=0, atol=np.radians(ACCURACY))
    back = rotate_fov(*there, stop, start)
    assert np.degrees(np.abs(to_vectors(*back) - first)).max() < ACCURACY
    assert np.all((there[0] >= 0) & (there[0] <= 360))
    assert np.all(np.abs(there[1]) <= 90)


@law(start=POINTING, stop=POINTING, position=POINTING, turns=st.integers(-2, 2))
def turns(start, stop, position, turns):
    """A right ascension is the same after a turn."""
    lon, lat = np.transpose([position])
    expected = to_vectors(*rotate_fov(lon, lat, start, stop))
    start, stop = (start[0] - 360 * turns, start[1]), (stop[0] + 360 * turns, stop[1])
    moved = to_vectors(*rotate_fov(lon + 360 * turns, lat, start, stop))
    assert np.degrees(np.abs(moved - expected)).max() < ACCURACY


@law(start=POINTING, stop=POINTING, offset=OFFSET, azimuth=AZIMUTH)
def camera(start, stop, offset, azimuth):
    """Longitude and latitude in the field of view stay, and tell where it is."""
    vectors = from_polar([offset], azimuth)
    fov = to_fov_lon_lat(vectors)
    assert np.degrees(np.abs(from_fov_lon_lat(*fov) - vectors)).max() < ACCURACY
    moved = rotate_fov(*to_lon_lat(local_axes(*start).T @ vectors), start, stop)
    again = local_axes(*stop) @ to_vectors(*moved)
    assert np.degrees(np.abs(again - vectors)).max() < ACCURACY
