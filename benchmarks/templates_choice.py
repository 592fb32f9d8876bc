"""Do templates choose the answer, and are those of mimics like those of targets?

Prints, with errors over toys,

- the chi2/dof of the radial profile of a target about its template of ten observations,
  with the variance of both: 1 if nothing is chosen by its fluctuations. For pools of
  one shape, with exclusion regions, and for targets unlike the archive, with an excess
  in a ring, which is taken off;
- the part of a 10% excess in a ring that the template of the target does not have;
- the same chi2/dof end to end, from simulated datastores by
  `KLBackgroundSelector.make_background`;
- for targets and mimics of a plan, whose background depends on the airmass: the rms of
  their templates about the truth, and the difference of the airmass of the template and
  of the events that it is for;
- what the templates of MSH 15-52 in the H.E.S.S. DL3 DR1 are made of.

Run with ``python benchmarks/templates_choice.py``, or with the name of one of these.
"""

import functools
import itertools
import logging
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.data import DataStore
from plans import CRITERIA, ZENITH, draw, get_mean, make_ring_irfs, make_shape
from plans import make_plan as make_counts_plan
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.data import query_obs_table, select_datastore
from gammapy_mimic.data.obs_ids import get_obs_id
from gammapy_mimic.exclusion import ExclusionRegions
from gammapy_mimic.selection import MatchCriteria, OffIndex
from gammapy_mimic.selection.ranker import Ranker
from gammapy_mimic.selection.ranking import predict_counts, rank_observations
from gammapy_mimic.simulate import simulate_datastore
from gammapy_mimic.template.fair import FairTemplates
from gammapy_mimic.template.target import merge_parts, select_ranked

TEN = 16000 * u.s  # the observations of `plans` have 1600 s
FEW_COUNTS = 5


class CountsPool:
    """Counts of OFF observations and targets, in place of their files."""

    def __init__(self, index, targets=None):
        self.index, self.targets = index, targets

    def index_targets(self, observations):
        return self.targets.select([get_obs_id(_) for _ in observations])


def add_halves(index, rng, table=None):
    """Index that knows the counts of half of the events."""
    arrays = index.counts, index.fraction, index.binning
    halves = rng.binomial(index.counts, 0.5).astype(np.int32)
    return OffIndex(table or index.table, *arrays, half_counts=halves)


def stack(index, selected):
    """Profile of the counts of a template, and its exposure. Shape (n_offset,) each."""
    rows = np.searchsorted(index.obs_ids, selected["OFF_OBS_ID"])
    first = index.half_counts[rows].sum(axis=1)
    total, half = index.counts[rows].sum(axis=1), np.asarray(selected["HALF"])
    choices = half == 0, half == 1
    counts = np.select(
        [_[:, np.newaxis] for _ in choices], [first, total - first], total
    )
    weights = np.where(half >= 0, 0.5, 1)
    return counts.sum(axis=0), weights @ index.fraction[rows]


def choose(target, off, ranking="conditions", crosses=True, **options):
    """Rows of the template of a target."""
    ranker = Ranker(CountsPool(off), CRITERIA, ranking=ranking, **options)
    rankings = ranker.rank_parts(target)
    if not crosses:
        args = target, off, CRITERIA, ranker.kl_max
        rankings = {None: rank_observations(*args, ranking=ranking)}
    return merge_parts(
        {half: select_ranked(_, (), TEN) for half, _ in rankings.items()}
    )


def get_chi2(counts, expected, template, expected_template):
    """Chi2/dof of the difference of two profiles less their truths, but for a norm."""
    seen = (expected > FEW_COUNTS) & (expected_template > FEW_COUNTS)
    pairs = (counts, expected), (template, expected_template)
    own, other = (values[seen] / truth[seen] for values, truth in pairs)
    weights = 1 / (1 / expected[seen] + 1 / expected_template[seen])
    difference = own - other
    difference = difference - np.average(difference, weights=weights)
    return np.sum(weights * difference**2) / (seen.sum() - 1)


def measure_choice(n_pool, n_toys, ring=0.0, has_exclusion=False, **options):
    """Chi2/dof, and the part of the ring that the template has not, with errors.

    Also the number of targets that all OFF observations are refused for.
    """
    n_events, shape, shape_on = 5000, make_shape(), make_shape(ring=ring)
    truth, truth_on = shape.sum(axis=0), shape_on.sum(axis=0)
    in_ring, values, n_refused = ~np.isclose(truth, truth_on), [], 0
    for seed in range(n_toys):
        rng = np.random.default_rng([seed, n_pool])
        off = draw(rng, shape, n_events, n_pool, has_exclusion=has_exclusion)
        off = add_halves(off, rng)
        target = draw(rng, shape_on, n_events, 1, 10**6, has_exclusion)
        selected = choose(target, off, **options)
        if len(selected) == 0:
            n_refused += 1
            continue
        counts, exposure = stack(off, selected)
        own = target.counts[0].sum(axis=0), n_events * truth_on * target.fraction[0]
        expected = n_events * truth * exposure
        excess = np.nan
        if ring:
            inside, outside = (
                counts[_].sum() / expected[_].sum() for _ in (in_ring, ~in_ring)
            )
            excess = inside / outside - 1
        values.append([get_chi2(*own, counts, expected), 1 - excess / (ring or 1)])
    chi2, survival = np.transpose(values)
    return [*get_mean(chi2), *get_mean(survival), n_refused]


def print_choice(n_toys=400):
    choices = {
        "conditions": {},
        "kl, crossed": {"ranking": "kl"},
        "kl, not crossed": {"ranking": "kl", "crosses": False},
    }
    # a target unlike the archive may be refused by all of it
    rings = [(0.0, {}), (0.1, {}), (0.3, {}), (0.3, {"kl_max": None})]
    rows = []
    for name, n_pool, has_exclusion in itertools.product(choices, (45, 500), (0, 1)):
        for ring, limit in rings:
            options = choices[name] | limit
            result = measure_choice(n_pool, n_toys, ring, has_exclusion, **options)
            text = "excluded" if has_exclusion else ""
            rows.append([name, n_pool, text, ring, "none" if limit else "", *result])
    names = ["ranking", "pool", "regions", "ring", "kl_max", "chi2/dof", "error"]
    names += ["survives", "its error", "refused"]
    show("Target about its template", rows, names)


def measure_store(store, selector, folder, n_targets, ring=0.0):
    """Chi2/dof of targets about templates of `make_background`, and its error."""
    targets = simulate_datastore(
        folder,
        n_targets,
        first_obs_id=10**6,
        targets={"target": SkyCoord(80, -45, unit="deg")},
        irfs=functools.partial(make_ring_irfs, ring=ring),
        **ZENITH,
    ).get_observations()
    index, own, values = selector.index, selector._pool.index_targets(targets), []
    axes = index.energy_axis, index.offset_axis
    energies = index.energy_axis.edges.value[:-1] >= 1

    def predict(bkg, time=1):
        return predict_counts(bkg, *axes)[energies].sum(axis=0) * time

    for row, observation in enumerate(targets):
        selected = selector.select(observation)
        bkg = selector.make_background(observation)
        off = store.get_observations(np.asarray(selected["OFF_OBS_ID"]))
        times = np.asarray(selected["ONTIME"])[:, np.newaxis]
        truth = times * [predict(_.bkg) for _ in off]
        # what is left of it by exclusion regions
        rows = np.searchsorted(index.obs_ids, selected["OFF_OBS_ID"])
        seen = np.sum(truth * index.fraction[rows], axis=0)
        template = predict(bkg, bkg.meta["ONTIME"]) / np.sum(truth, axis=0) * seen
        time = observation.observation_time_duration.to_value("s")
        expected = predict(observation.bkg, time) * own.fraction[row]
        counts = own.counts[row, energies].sum(axis=0)
        values.append(get_chi2(counts, expected, template, seen))
    return get_mean(values)


def print_store(n_targets=40, pools=(45, 500)):
    rows = []
    for n_off in pools:
        with tempfile.TemporaryDirectory() as folder:
            store = simulate_datastore(
                f"{folder}/off", n_off, irfs=make_ring_irfs, **ZENITH
            )
            table = store.obs_table
            _, first = np.unique(table["OBJECT"], return_index=True)
            centers = SkyCoord(table["RA_OBJ"], table["DEC_OBJ"], unit="deg")[first]
            circles = [CircleSkyRegion(_, 0.3 * u.deg) for _ in centers]
            cases = itertools.product(([], circles), ("conditions", "kl"), (0.0, 0.3))
            for idx, (regions, ranking, ring) in enumerate(cases):
                selector = KLBackgroundSelector(
                    store,
                    ranking=ranking,
                    exclusion_regions=regions,
                    time_request="252 min",
                    kl_max=None,
                )
                args = store, selector, f"{folder}/targets_{idx}", n_targets, ring
                text = "excluded" if regions else ""
                rows.append([ranking, n_off, text, ring, *measure_store(*args)])
    names = ["ranking", "pool", "regions", "ring", "chi2/dof", "error"]
    show(f"End to end, {n_targets} targets", rows, names)


def draw_archive(rng, n_obs, airmass=(1.0, 1.6), first=1):
    """Index of fields of four observations, with shapes by airmass, and both."""
    airmass = np.repeat(rng.uniform(*airmass, -(-n_obs // 4)), 4)[:n_obs]
    airmass = np.maximum(airmass + rng.uniform(-0.03, 0.03, n_obs), 1)
    shapes = np.array([make_shape(0.7 + 0.3 * _) for _ in airmass])
    index = draw(rng, shapes, 5000, n_obs, first)
    table = index.table.copy()
    table["ZEN_PNT"] = np.degrees(np.arccos(1 / airmass)) * u.deg
    field = np.arange(n_obs) // 4
    table["RA_PNT"] = (1 + 350 * field / (field.max() + 1)) * u.deg
    table["OBJECT"] = [f"field {first} {_}" for _ in field]
    return add_halves(index, rng, table), shapes, airmass


def measure_fairness(n_toys, n_pool=200, n_targets=16, ranking="conditions"):
    """Members of all families: deviations of templates, by target or mimic.

    Returns means of targets and of mimics of each toy, shape (n_toys, 2, 3): squares of
    the deviation of templates from the truth, squares of the difference in airmass of
    their observations and of the events, and number of OFF observations; and the number
    of templates with the own field.
    """
    options = {"galactic_latitude": None, "field_radius": "0.1 deg", "zenith": None}
    criteria = MatchCriteria(**options, weights={"zenith": 0})
    results, n_own = [], 0
    for seed in range(n_toys):
        rng = np.random.default_rng([seed, n_pool])
        off, shapes, airmass = draw_archive(rng, n_pool)
        # not at the end of what the archive has, on whose one side there is nothing
        drawn = draw_archive(rng, n_targets, (1.2, 1.4), first=10**6)
        targets, own_shapes, own_airmass = drawn
        plan = make_counts_plan(targets, off, criteria, random_state=seed)
        ranker = Ranker(CountsPool(off, targets), criteria, ranking=ranking)
        fair = FairTemplates(ranker, plan, TEN)
        values = {"target": [], "mimic": []}
        for obs_id, shape, own in zip(
            targets.obs_ids.tolist(), own_shapes, own_airmass, strict=True
        ):
            family = fair.find(SimpleNamespace(obs_id=obs_id))
            for mimic_set in (None, *plan.sets):
                if family.explain(mimic_set) is not None:
                    continue
                if mimic_set is not None:
                    row = plan.partners(mimic_set)[obs_id] - 1
                    shape, own = shapes[row], airmass[row]
                selected = family.select(mimic_set)
                rows = np.asarray(selected["OFF_OBS_ID"]) - 1
                counts, exposure = stack(off, selected)
                ratio = counts / shape.sum(axis=0) / exposure
                ratio = ratio / np.average(ratio, weights=shape.sum(axis=0))
                squares = [np.mean(_**2) for _ in (ratio - 1, airmass[rows] - own)]
                name = "target" if mimic_set is None else "mimic"
                values[name].append([*squares, len(rows)])
                if mimic_set is not None:
                    n_own += np.any(rows // 4 == row // 4)
        results.append([np.mean(values[_], axis=0) for _ in ("target", "mimic")])
    return np.array(results), n_own


def get_ratio(squares):
    """Ratio of the rms of mimics and targets, and its error by bootstrap of toys."""
    rng, n_toys = np.random.default_rng(0), len(squares)
    rows = [np.arange(n_toys), *rng.integers(0, n_toys, (200, n_toys))]
    ratios = [np.sqrt(np.divide(*squares[_].mean(axis=0)[::-1])) for _ in rows]
    return ratios[0], np.std(ratios[1:], ddof=1)


def print_fairness(n_toys=60):
    rows = []
    for ranking, n_pool in itertools.product(("conditions", "kl"), (100, 200)):
        results, n_own = measure_fairness(n_toys, n_pool, ranking=ranking)
        numbers = results[:, :, 2].mean(axis=0)
        ratios = [*get_ratio(results[:, :, 0]), *get_ratio(results[:, :, 1])]
        rows.append([ranking, n_pool, n_own, *numbers, *ratios])
    names = ["ranking", "pool", "own field", "OFF (targets)", "OFF (mimics)"]
    names += ["rms ratio", "error", "airmass ratio", "its error"]
    show("Templates of mimics and of targets", rows, names)


def print_hess(time_request=None):
    store = DataStore.from_dir(Path(os.environ["GAMMAPY_DATA"]) / "hess-dl3-dr1")
    table = store.obs_table
    query = functools.partial(query_obs_table, table)
    off = select_datastore(store, query("TARGET_NAME == 'Off data'")["OBS_ID"])
    targets = store.get_observations(query("TARGET_TAG == 'msh1552'")["OBS_ID"])
    positions = SkyCoord(table["RA_PNT"], table["DEC_PNT"], unit="deg")
    regions = ExclusionRegions.from_catalogs(
        positions, "2.5 deg", catalogs=["gamma-cat"], point_radius="0.3 deg"
    )
    selector = KLBackgroundSelector(
        off, exclusion_regions=list(regions), time_request=time_request
    )
    selector.plan = plan = selector.make_plan(targets, n_sets=5)
    index, conditions = selector.index, selector.index.conditions
    made = selector.make_template_table(targets)
    own = selector._pool.index_targets(targets)
    rows = []
    for name, is_part in {
        "targets": made["MIMIC_SET"] == 0,
        "mimics": made["MIMIC_SET"] > 0,
    }.items():
        numbers, squares, n_field = [], [], 0
        for row in made[is_part & (made["N_OBS"] > 0)]:
            events = own.conditions[own.obs_ids == row["OBS_ID"]]
            if row["MIMIC_SET"]:
                partner = plan.partners(row["MIMIC_SET"])[row["OBS_ID"]]
                events = conditions[index.obs_ids == partner]
            obs_ids = [int(_) for _ in row["OFF_OBS_IDS"].split(",")]
            used = np.isin(index.obs_ids, obs_ids)
            numbers.append(used.sum())
            squares += ((conditions.airmass[used] - events.airmass) ** 2).tolist()
            is_field = selector.criteria.find_field(events[0], conditions)
            n_field += np.any(is_field & used)
        counts = is_part.sum(), len(numbers), min(numbers), np.mean(numbers)
        rows.append([name, *counts, n_field, np.sqrt(np.mean(squares))])
    names = ["what", "planned", "made", "fewest OFF", "OFF", "own field", "airmass rms"]
    show(f"MSH 15-52, time_request {time_request}", rows, names)


def show(title, rows, names):
    table = Table(rows=rows, names=names)
    for column in table.itercols():
        if column.dtype.kind == "f":
            column.info.format = ".3f"
    print(f"\n{title}")
    table.pprint(max_lines=-1, max_width=-1)


def main(*names):
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    parts = {
        "choice": print_choice,
        "fairness": print_fairness,
        "hess": print_hess,
        "store": print_store,
    }
    for name in names or parts:
        parts[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
