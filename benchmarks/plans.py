"""Do plans choose the answer? Mimics against the truth that they are drawn from.

Prints, with errors over toys,

- the chi2/dof of the radial profile of mimics about the truth, 1 if partners are chosen
  by nothing that knows of fluctuations: pools of candidates of one shape, ranked by
  conditions and by divergence; with exclusion regions; for targets that are unlike the
  archive, with an excess in a ring;
- the same end to end, from simulated datastores by `KLBackgroundSelector.make_plan`;
- the share of right partners in an archive of five classes of width, which follow the
  zenith angle in part: by conditions alone, by divergence alone, by both; and the
  chi2/dof of mimics from such an archive, each about the truth of its own class.

The profile of each mimic has a fitted norm. From the chi2/dof of those that are chosen,
that of the pool is taken, which is 1 on average: what is left is the effect of the
choice alone, and known better.

Run with ``python benchmarks/plans.py``.
"""

import dataclasses
import functools
import itertools
import logging
import tempfile

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.data import ObservationTable
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector
from gammapy_mimic.selection import MatchCriteria, OffIndex
from gammapy_mimic.selection.binning import FoVBinning
from gammapy_mimic.selection.ranked_plan import make_ranked_plan
from gammapy_mimic.selection.ranking import KL_MAX, predict_counts, rank_observations
from gammapy_mimic.simulate import make_irfs, simulate_datastore

BINNING = FoVBinning.create()
CRITERIA = MatchCriteria(galactic_latitude=None, field_radius="0.01 deg")
WIDTHS = (0.8, 0.9, 1.0, 1.1, 1.2)
ZENITH = {"zenith": ("25 deg", "35 deg")}
SETS = 5
FEW_COUNTS = 5  # expected in a ring, from which chi2 is about chi2-distributed


def make_shape(width=1.0, ring=0.0):
    """Steep spectrum times a Gaussian profile, with an excess from 0.5 to 1 deg."""
    energy = -np.diff(BINNING.energy_edges**-1.7)
    edges = BINNING.offset_edges
    offset = (edges[1:] + edges[:-1]) / 2
    rings = np.diff(edges**2) * np.exp(-(offset**2) / 2 / (1.2 * width) ** 2)
    shape = np.outer(energy, rings / np.sum(rings))
    shape[:, (offset > 0.5) & (offset < 1)] *= 1 + ring
    return shape / energy.sum()


def make_index(counts, zenith, fraction=1.0, first=1):
    """Index of observations with these counts."""
    n_obs = len(counts)
    table = ObservationTable()
    table["OBS_ID"] = first + np.arange(n_obs)
    table["RA_PNT"] = np.linspace(0, 300, n_obs) * u.deg
    table["DEC_PNT"] = np.full(n_obs, 40.0 if first > 1 else -20.0) * u.deg
    table["ZEN_PNT"] = zenith * u.deg
    table["LIVETIME"] = np.full(n_obs, 1600.0) * u.s
    table["MUONEFF"] = 1.0
    table["ENERGY_MIN"] = np.zeros(n_obs) * u.TeV
    table["ENERGY_MAX"] = np.full(n_obs, np.inf) * u.TeV
    table["FILE_SIZE"] = table["FILE_TIME"] = -1
    fraction = np.broadcast_to(fraction, (n_obs, BINNING.shape[1])).astype(float)
    return OffIndex(table, np.asarray(counts, dtype=np.int32), fraction, BINNING)


def draw(rng, shape, n_events, n_obs, first=1, has_exclusion=False):
    """Index of observations drawn from one shape, or one for each."""
    fraction = np.ones((n_obs, BINNING.shape[1]))
    if has_exclusion:
        # a source anywhere in the field masks a part of two rings
        inner = rng.integers(0, BINNING.shape[1] - 1, n_obs)
        for shift in (0, 1):
            fraction[np.arange(n_obs), inner + shift] = rng.uniform(0.6, 1, n_obs)
    shapes = np.broadcast_to(shape, (n_obs, *BINNING.shape))
    counts = rng.poisson(n_events * shapes * fraction[:, np.newaxis])
    return make_index(counts, rng.uniform(20, 30, n_obs), fraction, first)


def make_plan(targets, off, criteria=CRITERIA, **options):
    """Plan of the indices of targets and OFF observations."""
    keys = {_: options.pop(_) for _ in ("ranking", "kl_max") if _ in options}
    rankings = []
    for obs_id in targets.obs_ids.tolist():
        table = rank_observations(targets.select([obs_id]), off, criteria, **keys)
        table.meta["OBS_ID"] = obs_id
        rankings.append(table)
    keys.pop("kl_max", None)
    return make_ranked_plan(rankings, n_sets=SETS, **keys, **options)


def get_chi2(counts, expected):
    """Chi2/dof of radial profiles about truths, with a fitted norm. Shape (n_obs,)."""
    profile, expected = counts.sum(axis=1), expected.sum(axis=1)
    seen = np.all(expected > FEW_COUNTS, axis=0)
    profile, expected = profile[:, seen], expected[:, seen]
    scale = profile.sum(axis=1) / expected.sum(axis=1)
    expected = expected * scale[:, np.newaxis]
    return np.sum((profile - expected) ** 2 / expected, axis=1) / (seen.sum() - 1)


def measure_choice(chi2, off, plan):
    """Chi2/dof of the mimics of each target, less that of the pool, plus 1."""
    rows = plan.table[plan.table["OFF_OBS_ID"] >= 0]
    chosen = chi2[np.searchsorted(off.obs_ids, rows["OFF_OBS_ID"])]
    means = [np.mean(chosen[rows["OBS_ID"] == _]) for _ in np.unique(rows["OBS_ID"])]
    return np.array(means) - chi2.mean() + 1


def get_mean(values):
    """Mean and its error."""
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))


def measure_closure(
    n_pool, n_toys, n_events=5000, ring=0.0, has_exclusion=False, **options
):
    """Chi2/dof of mimics about the truth: mean over toys of one target, and error."""
    values, shape = [], make_shape()
    for seed in range(n_toys):
        rng = np.random.default_rng([seed, n_pool])
        off = draw(rng, shape, n_events, n_pool, has_exclusion=has_exclusion)
        target = draw(rng, make_shape(ring=ring), n_events, 1, first=10**6)
        plan = make_plan(target, off, random_state=seed, **options)
        expected = n_events * shape * off.fraction[:, np.newaxis]
        chi2 = get_chi2(off.counts, expected)
        values += measure_choice(chi2, off, plan).tolist()
    return get_mean(values)


def measure_total(n_toys, n_pool, n_events=2000, rate=2.0, **options):
    """Part of the fluctuation of the target's total counts that its mimics have."""
    criteria = dataclasses.replace(CRITERIA, rate=rate)
    products, shape = [], make_shape()
    for seed in range(n_toys):
        rng = np.random.default_rng([seed, n_pool, n_events])
        off = draw(rng, shape, n_events, n_pool)
        target = draw(rng, shape, n_events, 1, first=10**6)
        plan = make_plan(target, off, criteria, random_state=seed, **options)
        rows = np.searchsorted(off.obs_ids, plan.table["OFF_OBS_ID"])
        deviation = np.mean(off.counts.sum(axis=(1, 2))[rows]) - n_events
        products.append(deviation * (target.counts.sum() - n_events) / n_events)
    return get_mean(products)


def make_ring_irfs(zenith, ring=0.0):
    """IRFs with a 2D background that has an excess in a ring, highest at 0.75 deg."""
    irfs = make_irfs(zenith, background="2d")
    offset = irfs["bkg"].axes["offset"].center
    irfs["bkg"].data[:, np.isclose(offset.to_value("deg"), 0.75)] *= 1 + ring
    return irfs


def simulate_off(folder, n_off):
    """Simulate the OFF observations of `measure_store`."""
    return simulate_datastore(folder, n_off, irfs=make_ring_irfs, **ZENITH)


def measure_store(store, folder, n_targets, ring=0.0, has_exclusion=False, n_jobs=2):
    """The same from simulated datastores, by `KLBackgroundSelector.make_plan`.

    The targets have the ring. All OFF observations have an exclusion region of 0.3 deg
    at their object, which is 0.5 deg off their pointing.
    """
    fields = {"target": SkyCoord(80, -45, unit="deg")}
    targets = simulate_datastore(
        folder,
        n_targets,
        first_obs_id=10**6,
        targets=fields,
        irfs=functools.partial(make_ring_irfs, ring=ring),
        **ZENITH,
    )
    table = store.obs_table
    _, rows = np.unique(table["OBJECT"], return_index=True)
    centers = SkyCoord(table["RA_OBJ"], table["DEC_OBJ"], unit="deg")[rows]
    regions = [CircleSkyRegion(_, 0.3 * u.deg) for _ in centers]
    selector = KLBackgroundSelector(
        store, exclusion_regions=regions if has_exclusion else None
    )
    selector.make_index(n_jobs=n_jobs)
    index = selector.index
    plan = selector.make_plan(targets.get_observations(), n_sets=SETS)
    axes = index.energy_axis, index.offset_axis
    expected = [
        predict_counts(_.bkg, *axes) * _.observation_time_duration.to_value("s")
        for _ in store.get_observations()
    ]
    expected = np.array(expected) * index.fraction[:, np.newaxis]
    energies = index.energy_axis.edges.value[:-1] >= 1
    chi2 = get_chi2(index.counts[:, energies], expected[:, energies])
    return get_mean(measure_choice(chi2, index, plan))


def measure_classes(n_toys, n_events, n_pool=200, ranking="conditions", kl_max=KL_MAX):
    """Share of partners of the target's own class of width, with its error.

    The zenith angle of a class scatters by 5 deg about its own, 4 deg from the next.
    """
    shapes, shares = np.array([make_shape(_) for _ in WIDTHS]), []
    for seed in range(n_toys):
        rng = np.random.default_rng([seed, n_events])
        classes = np.append(rng.integers(0, len(WIDTHS), n_pool), seed % len(WIDTHS))
        zenith = rng.normal(20 + 4 * classes, 5)
        counts = rng.poisson(n_events * shapes[classes])
        off = make_index(counts[:-1], zenith[:-1])
        target = make_index(counts[-1:], zenith[-1:], first=10**6)
        options = {"ranking": ranking, "kl_max": kl_max, "random_state": seed}
        if ranking == "kl":
            options["n_best"] = 10
        partners = make_plan(target, off, **options).table["OFF_OBS_ID"]
        shares.append(np.mean(classes[partners - 1] == classes[-1]))
    return get_mean(shares)


def measure_mixed(n_toys, n_events, ring=0.0, n_pool=200):
    """Chi2/dof of mimics from an archive of five classes, and its error.

    The target, of one of them, has a ring. The pool is that of no conditions: what is
    chosen, is chosen by the veto.
    """
    shapes, values = np.array([make_shape(_) for _ in WIDTHS]), []
    for seed in range(n_toys):
        rng = np.random.default_rng([seed, n_events])
        classes = rng.integers(0, len(WIDTHS), n_pool)
        off = draw(rng, shapes[classes], n_events, n_pool)
        shape = make_shape(WIDTHS[seed % len(WIDTHS)], ring)
        target = draw(rng, shape, n_events, 1, first=10**6)
        plan = make_plan(target, off, random_state=seed)
        chi2 = get_chi2(off.counts, n_events * shapes[classes])
        values += measure_choice(chi2, off, plan).tolist()
    return get_mean(values)


def main():
    logging.getLogger("gammapy_mimic").setLevel(logging.ERROR)
    rows = []
    choices = {
        "conditions": {},
        "kl, ten best": {"ranking": "kl", "n_best": 10},
    }
    for name, options in choices.items():
        for n_pool in (45, 500):
            for has_exclusion in (False, True):
                result = measure_closure(
                    n_pool, 400, has_exclusion=has_exclusion, **options
                )
                text = "excluded" if has_exclusion else ""
                rows.append([name, n_pool, 5000, 0.0, text, *result])
    for ring in (0.3, 0.4, 0.5, 0.6, 0.8):
        for n_events in (5000, 20000):
            result = measure_closure(500, 400, n_events, ring)
            rows.append(["conditions", 500, n_events, ring, "", *result])
    names = ["ranking", "pool", "events", "ring", "regions", "chi2/dof", "error"]
    _print("Radial profile of mimics about the truth", rows, names)

    rows = []
    for n_pool in (45, 500):
        for text, options in {
            "drawn": {},
            "nearest": {"randomise": False},
            "drawn, no limit of the rate": {"rate": None},
        }.items():
            rows.append([text, n_pool, *measure_total(300, n_pool, **options)])
    names = ["choice", "pool", "part", "error"]
    _print("Fluctuation of the target's total counts in its mimics", rows, names)

    rows = []
    for n_off in (45, 500):
        with tempfile.TemporaryDirectory() as folder:
            store = simulate_off(f"{folder}/off", n_off)
            cases = itertools.product((0.0, 0.3), (False, True))
            for idx, (ring, has_exclusion) in enumerate(cases):
                # in a set no two targets have the same partner
                args = store, f"{folder}/targets_{idx}", 40, ring, has_exclusion
                text = "excluded" if has_exclusion else ""
                rows.append([n_off, ring, text, *measure_store(*args)])
    names = ["pool", "ring", "regions", "chi2/dof", "error"]
    _print("End to end, 40 targets, from datastores", rows, names)

    rows = []
    for n_events in (2000, 5000, 20000):
        for name, options in {
            "conditions alone": {"kl_max": None},
            "divergence alone": {"ranking": "kl", "kl_max": None},
            "both": {},
        }.items():
            rows.append([n_events, name, *measure_classes(200, n_events, **options)])
    _print("Five classes of width", rows, ["events", "choice", "right", "error"])

    rows = []
    for n_events in (5000, 20000):
        for ring in (0.0, 0.3, 0.5):
            rows.append([n_events, ring, *measure_mixed(1000, n_events, ring)])
    names = ["events", "ring", "chi2/dof", "error"]
    _print("Mimics of five classes about their truths", rows, names)


def _print(title, rows, names):
    table = Table(rows=rows, names=names)
    for name in names[-2:]:
        table[name].info.format = ".3f"
    print(f"\n{title}")
    table.pprint(max_lines=-1, max_width=-1)


if __name__ == "__main__":
    main()
