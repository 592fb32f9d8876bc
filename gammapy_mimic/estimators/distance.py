"""Error of the background by the distance of OFF observations from their targets."""

import numpy as np
from gammapy.datasets import Datasets

from ..selection.plan import MimicPlan
from .background_tables import describe_background
from .counting import count_maps, count_spectra, get_runs
from .tables import get_name, make_table

__all__ = ["find_distances", "has_distances", "tabulate_distance"]

MIN_PAIRS, MIN_RUNS = 6, 4  # pairs in a bin of distance, and different runs for each
MAX_BINS = 5


def has_distances(plan):
    """Whether a plan tells how far OFF observations are from their targets.

    Parameters
    ----------
    plan : `~gammapy_mimic.selection.MimicPlan`, Table, dict or None
        Plan. None is not known.

    Returns
    -------
    has_distances : bool
        Whether it does.
    """
    if plan is None:
        return False
    return bool(np.isfinite(MimicPlan.create(plan).table["DISTANCE"]).any())


def find_distances(sets, plan):
    """Find the distance of the OFF observation of each dataset from its target.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set.
    plan : `~gammapy_mimic.selection.MimicPlan`, Table or dict
        Plan with the ``DISTANCE`` of each pair.

    Returns
    -------
    distances : `~numpy.ndarray`
        Those of the first set first, NaN if not known. Shape (n_datasets,).

    Raises
    ------
    ValueError
        If a dataset is of several observations.
    """
    rows, distances = MimicPlan.create(plan).table, []
    for name, datasets in sets.items():
        part = rows[[get_name(_) == name for _ in rows["MIMIC_SET"].tolist()]]
        known = dict(zip(part["OBS_ID"].tolist(), part["DISTANCE"], strict=True))
        for dataset in datasets:
            obs_ids = np.ravel(dataset.meta_table["OBS_ID"])
            if len(obs_ids) != 1:
                raise ValueError(
                    f"The dataset {dataset.name} is of {len(obs_ids)} pairs, whose "
                    "distances differ: reduce with datasets.stack = false."
                )
            distances.append(float(known.get(int(obs_ids[0]), np.nan)))
    return np.array(distances)


def tabulate_distance(
    comparison, sets, off_obs_ids, plan, energy_edges, grid=None, source_free=True
):
    """Tabulate the systematic error by the distance of OFF observation and target.

    It tells what it costs that there is no nearer OFF observation. Pairs are put in up
    to five bins of as many pairs, at least 6 of them, and no more bins than a fourth of
    the number of OFF observations.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements.
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets of each mimic set.
    off_obs_ids : list of list of int
        OFF observations of each dataset.
    plan : `~gammapy_mimic.selection.MimicPlan`, Table or dict
        Plan with the ``DISTANCE`` of each pair.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    grid : `~gammapy_mimic.estimators.apertures.Apertures`, optional
        Apertures of maps. Default is none, for spectra.
    source_free : `~numpy.ndarray` of bool, optional
        See `~gammapy_mimic.estimators.counting.count_maps`.

    Returns
    -------
    table : `~astropy.table.Table`
        A row for each bin and band: ``distance_band``, ``distance_min`` and
        ``distance_max`` of its ``n_pairs``, their mean ``distance``, and bias, spread
        and total of the background, see
        `~gammapy_mimic.estimators.background_tables.describe_background`.

    Raises
    ------
    ValueError
        If a dataset is of several observations.
    """
    distances = find_distances(sets, plan)
    flat = [(name, dataset) for name, values in sets.items() for dataset in values]
    order = np.argsort(distances)[: np.sum(np.isfinite(distances))]
    n_bins = min(len(order) // MIN_PAIRS, MAX_BINS)
    if get_runs(off_obs_ids):
        n_runs = len({off_obs_ids[_][0] for _ in order})
        n_bins = min(n_bins, n_runs // MIN_RUNS)
    rows = []
    for number, pairs in enumerate(np.array_split(order, max(n_bins, 1))):
        # in the order of sets
        pairs, part = np.sort(pairs), {}
        for name, dataset in (flat[_] for _ in pairs):
            part.setdefault(name, Datasets()).append(dataset)
        runs = get_runs([off_obs_ids[_] for _ in pairs])
        if grid is None:
            counts = count_spectra(part, runs, energy_edges)
        else:
            options = comparison.geom, [grid], energy_edges, source_free
            (counts,) = count_maps(part, runs, *options)
        row = {
            "distance_band": str(number),
            "distance_min": distances[pairs].min(),
            "distance_max": distances[pairs].max(),
            "distance": distances[pairs].mean(),
            "n_pairs": len(pairs),
        }
        for band, one in zip(comparison.bands, counts, strict=True):
            rows.append(row | band._asdict() | describe_background(one))
    return make_table(rows)
