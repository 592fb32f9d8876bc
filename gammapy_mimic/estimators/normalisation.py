"""Spread of the FoV normalisation between OFF observations."""

import itertools
import logging

import numpy as np
from gammapy.modeling.models import GaussianPrior

from ..data.obs_ids import NO_PARTNER
from .checks import get_off_obs_ids
from .run_spread import measure_run_spread
from .tables import make_table

__all__ = ["make_prior", "measure_normalisation"]

log = logging.getLogger(__name__)

PARAMETERS = ("norm", "tilt")


def measure_normalisation(sets, off_obs_ids=None):
    """Measure the spread of the FoV normalisation beyond its statistical error.

    The values of all sets are taken together. Those of one OFF observation, which
    several sets may have, count once, see
    `~gammapy_mimic.estimators.run_spread.measure_run_spread`. Stacked datasets are left
    out.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets of single observations by mimic set, each with a
        `~gammapy.modeling.models.FoVBackgroundModel` that was fitted or scaled.
    off_obs_ids : list of list of int, optional
        OFF observations of each dataset, those of the first set first. Default is what
        the meta tables tell. Where it is not known, a value counts as an observation
        of its own, with a warning.

    Returns
    -------
    table : `~astropy.table.Table`
        One row for each parameter of the model that was fitted: ``parameter``, number
        of values ``n`` and of different observations ``n_runs``, ``mean`` and its
        error, ``spread``, its error, 68% interval (``spread_lo``, ``spread_hi``) and
        95% limit (``spread_ul``), and ``other_err``, half of the interval around the
        mean that holds the true value of another observation with 68% probability.

    Raises
    ------
    ValueError
        If there is no such model of single observations, or there are fewer than three
        different ones.
    """
    off_obs_ids = get_off_obs_ids(sets) if off_obs_ids is None else off_obs_ids
    rows, reason = [], ""
    for name in PARAMETERS:
        values = _gather_fitted(sets, off_obs_ids, name)
        if not values:
            continue
        result = measure_run_spread(*values)
        if not result.spread.is_measurable:
            reason = result.spread.reason
            continue
        row = {"parameter": name, "n": result.n_values, "n_runs": result.n_runs}
        row |= {"mean": result.mean.value, "mean_err": result.mean.error}
        row |= result.spread.to_row("spread")
        rows.append(row | {"other_err": result.other_err})
    if reason and not rows:
        raise ValueError(
            f"The spread of the FoV normalisation is not measurable: {reason}. Give "
            "mimic sets of more OFF observations."
        )
    if not rows:
        raise ValueError(
            "There are no fitted background models of single observations. Reduce with "
            "the FoV background and datasets.stack = false."
        )
    return make_table(rows)


def _gather_fitted(sets, off_obs_ids, name):
    """Values of a parameter where it was fitted, errors and observations."""
    datasets = itertools.chain(*sets.values())
    fitted = [
        (*value, *(obs_ids or [NO_PARTNER]))
        for dataset, obs_ids in zip(datasets, off_obs_ids, strict=True)
        if _is_single(dataset) and (value := _get_fitted(dataset, name))
    ]
    if not fitted:
        return None
    values, errors, runs = map(np.array, zip(*fitted, strict=True))
    is_unknown = runs == NO_PARTNER
    if is_unknown.any():
        log.warning(
            "The OFF observations of %s values of the %s are not known, and each is "
            "taken for one of its own. If sets share them, errors of mean and spread "
            "are too small. Give plan=..., or use add_partners.",
            is_unknown.sum(),
            name,
        )
    # numbers that no observation has
    return values, errors, np.where(is_unknown, NO_PARTNER - np.arange(len(runs)), runs)


def _is_single(dataset):
    """Whether a dataset is of one observation, as far as is known."""
    table = dataset.meta_table
    columns = [] if table is None else {"OBS_ID", "OFF_OBS_ID"} & {*table.colnames}
    return all(np.size(table[_]) == 1 for _ in columns)


def _get_fitted(dataset, name):
    """Value and error of a parameter, None where it was not fitted."""
    # a model is of no use where the background is measured
    model = dataset.background_model if dataset.stat_type != "wstat" else None
    if model is None or name not in model.spectral_model.parameters.names:
        return None
    parameter = model.spectral_model.parameters[name]
    # a parameter that is frozen, or was never fitted, has the error 0
    is_fitted = np.isfinite(parameter.value) and 0 < parameter.error < np.inf
    return (parameter.value, parameter.error) if is_fitted else None


def make_prior(table, parameter="norm"):
    """Make a prior for a parameter of `~gammapy.modeling.models.FoVBackgroundModel`.

    Its mean is that of the mimics, and its sigma is half of the interval around it that
    holds the true value of another observation with 68% probability: the spread, which
    is not known exactly, and the error of the mean.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `measure_normalisation`.
    parameter : {"norm", "tilt"}, optional
        Parameter. Default is "norm".

    Returns
    -------
    prior : `~gammapy.modeling.models.GaussianPrior`
        Prior.

    Raises
    ------
    ValueError
        If the parameter was not measured.
    """
    names = table["parameter"].tolist()
    if parameter not in names:
        raise ValueError(
            f"The parameter {parameter!r} was not measured, choose from {names}."
        )
    row = table[names.index(parameter)]
    return GaussianPrior(mu=float(row["mean"]), sigma=float(row["other_err"]))
