"""Spread of the FoV normalisation between observations."""

import logging

import numpy as np
from gammapy.modeling.models import GaussianPrior

from .statistics import average_sets, fit_spread, to_fraction
from .tables import make_table

__all__ = ["make_prior", "measure_normalisation"]

log = logging.getLogger(__name__)

PARAMETERS = ("norm", "tilt")


def measure_normalisation(sets):
    """Measure the spread of the FoV normalisation beyond its statistical error.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets of single observations by mimic set, each with a
        `~gammapy.modeling.models.FoVBackgroundModel` that was fitted or scaled.

    Returns
    -------
    table : `~astropy.table.Table`
        One row for each parameter of the model that was fitted: ``parameter``, number
        of values ``n``, ``mean`` and ``spread`` (averages of the sets, weighted by
        their degrees of freedom) with their errors, and ``spread_ul``. The spread is 0,
        and its error NaN, where values scatter less than their errors say.

    Raises
    ------
    ValueError
        If there is no such model, or none of single observations.
    """
    rows = []
    for name in PARAMETERS:
        values = [_get_fitted(datasets, name) for datasets in sets.values()]
        # a spread needs two observations
        values = [_ for _ in values if len(_[0]) > 1]
        if len(values) < 2:
            continue
        fits = zip(*(fit_spread(*_) for _ in values), strict=True)
        # degrees of freedom of a variance
        weights = [len(_[0]) - 1 for _ in values]
        mean, variance = (average_sets(_, weights) for _ in fits)
        row = {"parameter": name, "n": sum(len(_[0]) for _ in values)}
        row |= mean.to_row("mean")
        rows.append(row | to_fraction(variance).to_row("spread", limit=True))
    if not rows:
        raise ValueError(
            "There are no fitted background models of single observations. Reduce with "
            "the FoV background and datasets.stack = false."
        )
    return make_table(rows)


def _get_fitted(datasets, name):
    """Values and errors of a parameter in datasets where it was fitted."""
    values = []
    for dataset in datasets:
        model = getattr(dataset, "background_model", None)
        if model is None or name not in model.spectral_model.parameters.names:
            continue
        parameter = model.spectral_model.parameters[name]
        # a parameter that is frozen, or was never fitted, has the error 0
        if parameter.error > 0:
            values.append((parameter.value, parameter.error))
    return np.reshape(values, (-1, 2)).T


def make_prior(table, parameter="norm"):
    """Make a prior for a parameter of `~gammapy.modeling.models.FoVBackgroundModel`.

    Its mean is that of the mimics, its variance that of another observation: the square
    of the spread, and of the error of the mean.

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
        If the parameter was not fitted.
    """
    names = table["parameter"].tolist()
    if parameter not in names:
        raise ValueError(
            f"The parameter {parameter!r} was not fitted, choose from {names}."
        )
    row = table[names.index(parameter)]
    if not row["spread"] > 0:
        log.warning(
            "The %s has no spread beyond its statistical error (at most %.2g with 95%% "
            "confidence): the prior is as wide as the error of the mean.",
            parameter,
            row["spread_ul"],
        )
    # another observation scatters, and the mean is known so well only
    sigma = np.hypot(row["spread"], row["mean_err"])
    return GaussianPrior(mu=float(row["mean"]), sigma=float(sigma))
