"""The order of makers in a chain: what would be silently wrong is an error."""

import numpy as np

from ..data.obs_ids import get_obs_id, to_obs_ids

__all__ = ["check_order", "is_made_of"]


def is_made_of(dataset, observation):
    """Whether a dataset was made from just this observation.

    Otherwise it is a reference dataset: empty, or with others stacked into it. (One
    into which just this observation was stacked looks the same, and would have it
    twice.)

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    is_made : bool
        Whether the meta table names this observation alone.
    """
    table = dataset.meta_table
    if table is None or "OBS_ID" not in table.colnames:
        return False
    obs_ids = to_obs_ids(np.ravel(table["OBS_ID"]))
    return np.array_equal(obs_ids, [get_obs_id(observation)])


def check_order(maker, dataset, observation, makers):
    """Raise an error if a maker of this package is not where it belongs in a chain.

    Parameters
    ----------
    maker : `~gammapy_mimic.makers.ObservationMaker`
        Maker.
    dataset : `~gammapy.datasets.MapDataset`
        Dataset that it is given.
    observation : `~gammapy.data.Observation`
        Observation that it is given.
    makers : list of type
        Classes of all makers of this package.

    Raises
    ------
    ValueError
        If there are no maps yet, the background was fitted already, or maps of another
        maker of this package would be replaced.
    """
    chain = (
        f"DatasetsMaker([MapDatasetMaker(), {maker.tag}(...), SafeMaskMaker(...), "
        "FoVBackgroundMaker(...)])"
    )
    is_made = is_made_of(dataset, observation)
    if not is_made and maker.dataset_maker is None:
        raise ValueError(
            f"The dataset {dataset.name!r} is not made of OBS_ID "
            f"{observation.obs_id}. A MapDatasetMaker goes first, as after {maker.tag} "
            f"it would bring the original maps back: {chain}. To make the maps of a "
            "reference dataset here, and no MapDatasetMaker after it, use "
            f"{maker.tag}(..., dataset_maker=MapDatasetMaker())."
        )
    fitted = _find_fitted(dataset)
    if fitted is not None:
        raise ValueError(
            f"The background of {dataset.name!r} ({fitted.name} = {fitted.value:.3g} "
            f"+- {fitted.error:.2g}) was fitted already, to maps that {maker.tag} "
            f"replaces. FoVBackgroundMaker goes after it: {chain}."
        )
    # a reference dataset holds no maps of another maker
    for other in makers if is_made else ():
        replaced = [_ for _ in maker.changed_maps if _ in other.changed_maps]
        if other.trace not in dataset.meta_table.colnames or not replaced:
            continue
        hint = "Put each maker into a chain once, which begins with an empty dataset."
        if other.tag != maker.tag:
            hint = (
                "Use MimicMaker(scramble=...) or MimicMaker(background=selector), or "
                "both, in place of several makers."
            )
        raise ValueError(
            f"{', '.join(replaced)} of the dataset {dataset.name!r} were made by "
            f"{other.tag}, and {maker.tag} would replace them. {hint}"
        )


def _find_fitted(dataset):
    """Find a parameter of the background model that tells of a fit, None if none.

    That is one with an error, or a free one off its default. Where a spatial model is
    and how large, and what is frozen, are chosen by the user.
    """
    model = dataset.background_model
    if model is None:
        return None
    for part in (model.spectral_model, model.spatial_model):
        for parameter in [] if part is None else part.parameters:
            # of others, the value before the fit is not known
            default = parameter.value
            defaults = type(part).default_parameters
            if parameter.name.startswith("norm"):
                default = 1
            elif part.type == "spectral" and parameter.name in defaults.names:
                default = defaults[parameter.name].value
            is_off = not parameter.frozen and parameter.value != default
            if parameter.error > 0 or is_off:
                return parameter
    return None
