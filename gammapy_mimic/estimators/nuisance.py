"""The measured error of a background as a model and a penalty of Gammapy's fit."""

import logging

import numpy as np
from gammapy.modeling.models import FoVBackgroundModel, PiecewiseNormSpectralModel
from gammapy.stats import GaussianPriorPenalty

from ..data.prediction import get_safe_mask
from .copies import check_background_model, replace_parts
from .covariance_table import get_node_prior

__all__ = ["make_background_model", "make_penalty", "prepare_dataset"]

log = logging.getLogger(__name__)

# the logarithm of a norm is interpolated
NORM_MIN = 0.01
ENERGY_TOLERANCE = 1e-6
# solid angle over that of the correlation circle
MAX_AREA = 2


def prepare_dataset(dataset, table=None):
    """Multiply a fitted background model into the background of a dataset.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.SpectrumDataset`
        Dataset with a background. Not changed.
    table : `~astropy.table.Table`, optional
        Table of `~gammapy_mimic.estimators.covariance_table.tabulate_covariance`. A
        model that `make_background_model` has made of it is left out, not multiplied:
        its norms are the bias, which the next such model has again. Default is none.

    Returns
    -------
    prepared : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.SpectrumDataset`
        Copy of the same name, without background model. Other models are kept.

    Raises
    ------
    ValueError
        If the background of the dataset is measured, or if there is none.
    """
    check_background_model(dataset)
    models = [_ for _ in dataset.models or [] if _ is not dataset.background_model]
    background = dataset.npred_background().copy()
    if table is not None and _is_ours(dataset.background_model, table):
        background = dataset.background.copy()
    return replace_parts(dataset, background=background, models=models)


def make_background_model(table, dataset, radius=None):
    """Make a background model that is free in each band of energy.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `~gammapy_mimic.estimators.covariance_table.tabulate_covariance`.
    dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.SpectrumDataset`
        Dataset with a background.
    radius : `~astropy.coordinates.Angle`, optional
        Radius of the circles whose errors they are. There is a warning if the dataset
        has counts of more than two of them. Default is not known.

    Returns
    -------
    model : `~gammapy.modeling.models.FoVBackgroundModel`
        Model. Its norms are 1 plus the bias.

    Raises
    ------
    ValueError
        If the background of the dataset is measured, if there is none, or if its
        background model was fitted.
    """
    check_background_model(dataset)
    # one of an earlier call is replaced
    if not _is_ours(dataset.background_model, table) and _is_scaled(dataset):
        raise ValueError(
            f"The background model of the dataset {dataset.name} was fitted or scaled, "
            "and this model would replace it, as Gammapy has one background model for "
            "a dataset. Use dataset = result.prepare_dataset(dataset) first, which "
            "multiplies it into the background."
        )
    if radius is not None:
        _warn_of_size(dataset, radius)
    mean, _ = get_node_prior(table)
    spectral_model = PiecewiseNormSpectralModel(table["energy"].quantity, mean)
    for parameter in spectral_model.parameters:
        parameter.min = NORM_MIN
    return FoVBackgroundModel(dataset.name, spectral_model)


def make_penalty(table, models):
    """Make the penalties of the models of `make_background_model`.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table of `~gammapy_mimic.estimators.covariance_table.tabulate_covariance`.
    models : `~gammapy.modeling.models.Models`
        Models.

    Returns
    -------
    penalties : list of `~gammapy.stats.GaussianPriorPenalty`
        One for each set of parameters, as several datasets may share them.

    Raises
    ------
    ValueError
        If no model is one of `make_background_model` with this table.
    """
    mean, covariance = get_node_prior(table)
    found = {}
    for model in models:
        if _is_ours(model, table):
            parameters = model.spectral_model.parameters
            # those that are linked are the same objects
            found[tuple(map(id, parameters))] = parameters
    if not found:
        raise ValueError(
            "None of the models has the energies of this result. Add "
            "result.to_background_model(dataset) to the models."
        )
    return [GaussianPriorPenalty(_, mean, covariance) for _ in found.values()]


def _is_scaled(dataset):
    """Whether the background model of a dataset changes its background."""
    safe = get_safe_mask(dataset)
    maps = dataset.npred_background(), dataset.background
    return not np.array_equal(*(_.data[safe] for _ in maps))


def _is_ours(model, table):
    """Whether a model is one of a background with norms at the energies of a table."""
    spectral_model = getattr(model, "spectral_model", None)
    is_background = isinstance(model, FoVBackgroundModel)
    if not is_background or not isinstance(spectral_model, PiecewiseNormSpectralModel):
        return False
    energy = table["energy"].quantity
    nodes = spectral_model.energy.to_value(energy.unit)
    return nodes.shape == energy.shape and np.allclose(
        nodes, energy.value, rtol=ENERGY_TOLERANCE, atol=0
    )


def _warn_of_size(dataset, radius):
    """Warn of a fit to many circles, of which each has an error of its own."""
    geom = dataset.counts.geom.to_image()
    area = np.broadcast_to(geom.solid_angle().to_value("deg2"), geom.data_shape)
    if dataset.mask is not None:
        area = area * dataset.mask.data.any(axis=0)
    number = np.sum(area) / (np.pi * radius.deg**2)
    if number > MAX_AREA:
        log.warning(
            "The dataset %s has the counts of %.0f circles of %.3g deg, each with an "
            "error of its own. Together they would fix the norms of the model, and the "
            "error at the source would be lost. Set mask_fit to the region of the "
            "source, or use to_spectrum_dataset.",
            dataset.name,
            number,
            radius.deg,
        )
