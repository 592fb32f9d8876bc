"""Error of the background by the distance of OFF observations from their targets."""

import numpy as np

from ..data.lazy_datasets import LazyDatasets
from ..selection.plan import MimicPlan
from .background_tables import describe_background
from .counting import count_maps, count_spectra, get_runs
from .tables import get_name, make_table

__all__ = ["find_distances", "tabulate_distance"]

MIN_PAIRS, MIN_RUNS = 6, 4  # pairs in a bin of distance, and different runs for each
MAX_BINS = 5


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
    the number of OFF observations. Fewer make one bin.

    Parameters
    ----------
    comparison : `~gammapy_mimic.estimators.tables.Comparison`
        Measurements.
    sets : dict of `~gammapy_mimic.data.lazy_datasets.LazyDatasets`
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
        If a dataset is of several observations, or no distance is known.
    """
    distances = find_distances(sets, plan)
    if not np.isfinite(distances).any():
        raise ValueError("the plan has no finite DISTANCE of a pair")
    flat = [(name, item) for name, values in sets.items() for item in values.items]
    order = np.argsort(distances)[: np.sum(np.isfinite(distances))]
    n_bins = min(len(order) // MIN_PAIRS, MAX_BINS)
    if get_runs(off_obs_ids):
        n_runs = len({off_obs_ids[_][0] for _ in order})
        n_bins = min(n_bins, n_runs // MIN_RUNS)
    rows = []
    for number, pairs in enumerate(np.array_split(order, max(n_bins, 1))):
        # in the order of sets
        pairs, part = np.sort(pairs), {}
        for name, item in (flat[_] for _ in pairs):
            part.setdefault(name, LazyDatasets([])).items.append(item)
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
