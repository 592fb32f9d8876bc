"""Datasets with what Gammapy leaves out: partners, background models, meta tables."""

import copy

import astropy.units as u
import numpy as np
from astropy.table import Table
from gammapy.data import Observations
from gammapy.datasets import Datasets
from gammapy.utils.scripts import make_path

from ..data.meta_tables import make_range_columns
from ..data.obs_ids import NO_PARTNER, get_obs_id, to_obs_id
from ..data.observation import load_events_file
from ..data.template_irfs import make_template_columns
from ..selection.plan import MimicPlan
from ..utils.files import replace_folder

__all__ = [
    "add_partners",
    "add_templates",
    "read_datasets",
    "select_trusted",
    "write_datasets",
]

DATASETS_FILE, MODELS_FILE, META_DIR = "datasets.yaml", "models.yaml", "meta"


def select_trusted(observations, plan, mimic_set):
    """Leave out the mimics whose OFF observation is not like the target.

    They are made, to be looked at, but no number comes from them.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Mimic observations of a set.
    plan : `~gammapy_mimic.selection.MimicPlan`
        Plan.
    mimic_set : int
        Mimic set.

    Returns
    -------
    observations : `~gammapy.data.Observations`
        Those without the status "large_kl".

    Raises
    ------
    ValueError
        If none is left.
    """
    trusted = plan.partners(mimic_set, questionable=False)
    observations = Observations([_ for _ in observations if get_obs_id(_) in trusted])
    if not observations:
        raise ValueError(
            f"Mimic set {mimic_set}: all OFF observations differ from their targets by "
            "too much, STATUS large_kl. Exclude the sources of the targets "
            "(mimic.exclusion), or set mimic.selection.kl_max higher, or to null."
        )
    return observations


def add_partners(datasets, plan, mimic_set, observations=()):
    """Add to meta tables what a mimic was made of, as `MimicMaker` does.

    Gammapy's own makers know the target, and not which OFF observation a mimic
    observation was made of. `MimicSystematicsEstimator` needs ``OFF_OBS_ID`` and
    ``MIMIC_SET``. ``CUT_START`` and ``CUT_STOP`` tell which part of its good time was
    used, NaN for all.

    Parameters
    ----------
    datasets : `~gammapy.datasets.Datasets`
        Datasets of mimic observations, stacked or not. Changed in place.
    plan : `~gammapy_mimic.selection.MimicPlan`, `~astropy.table.Table` or dict
        Plan, as for `~gammapy_mimic.selection.MimicPlan.create`.
    mimic_set : int
        Mimic set.
    observations : list of `~gammapy.data.Observation`, optional
        The mimic observations, for ``ENERGY_MIN`` and ``ENERGY_MAX``. Default is none,
        which leaves these as they are.

    Raises
    ------
    ValueError
        If the plan has no such set, or a dataset does not tell its observations.
    """
    plan = MimicPlan.create(plan)
    partners, cuts = plan.partners(mimic_set), plan.cuts(mimic_set)
    ranges = {
        get_obs_id(_): make_range_columns(load_events_file(copy.copy(_), False))
        for _ in observations
    }
    for dataset in datasets:
        table = dataset.meta_table
        if table is None or "OBS_ID" not in table.colnames:
            raise ValueError(
                f"The dataset {dataset.name!r} has no meta_table with OBS_ID, which "
                "tells the partner of a target in the plan."
            )
        # one row, with a list, for stacked observations
        obs_ids = np.asarray(table["OBS_ID"])
        targets = [to_obs_id(_) for _ in obs_ids.ravel()]
        off_obs_ids = [partners.get(_, NO_PARTNER) for _ in targets]
        parts = np.array([cuts.get(_, (np.nan, np.nan)) for _ in targets])
        dataset.meta_table = table.copy()
        dataset.meta_table["OFF_OBS_ID"] = np.reshape(off_obs_ids, obs_ids.shape)
        dataset.meta_table["MIMIC_SET"] = np.full(obs_ids.shape, mimic_set)
        for name, values in zip(("CUT_START", "CUT_STOP"), parts.T, strict=True):
            dataset.meta_table[name] = values.reshape(obs_ids.shape)
        if ranges:
            unknown = make_range_columns({})
            rows = [ranges.get(to_obs_id(_), unknown) for _ in obs_ids.ravel()]
            for name in unknown:
                values = u.Quantity([row[name] for row in rows])
                dataset.meta_table[name] = values.reshape(obs_ids.shape)


def add_templates(datasets, observations):
    """Write into the meta tables of datasets what templates are made of.

    Parameters
    ----------
    datasets : `~gammapy.datasets.Datasets`
        Datasets, stacked or not. Changed in place.
    observations : list of `~gammapy.data.Observation`
        Their observations, which have templates.
    """
    made = {get_obs_id(_): make_template_columns(_) for _ in observations}
    for dataset in datasets:
        table = dataset.meta_table
        obs_ids = np.asarray(table["OBS_ID"])
        rows = [made[to_obs_id(_)] for _ in obs_ids.ravel()]
        for name, value in rows[0].items():
            values = [row[name] for row in rows]
            values = u.Quantity(values) if hasattr(value, "unit") else np.array(values)
            # side by side for stacked observations
            shape = (*obs_ids.shape[:-1], -1) if obs_ids.ndim > 1 else values.shape
            table[name] = values.reshape(shape)


def write_datasets(datasets, path):
    """Write datasets, their models and their meta tables to a folder.

    The folder is put in place when it is complete.

    Parameters
    ----------
    datasets : `~gammapy.datasets.Datasets`
        Datasets.
    path : str or `~pathlib.Path`
        Folder. What it has is replaced.
    """
    datasets = Datasets(datasets)
    with replace_folder(path) as folder:
        models_path = folder / MODELS_FILE if datasets.models else None
        datasets.write(folder / DATASETS_FILE, models_path)
        (folder / META_DIR).mkdir()
        for dataset in datasets:
            if dataset.meta_table is not None:
                dataset.meta_table.write(folder / META_DIR / f"{dataset.name}.ecsv")


def read_datasets(path):
    """Read what `write_datasets` wrote.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder.

    Returns
    -------
    datasets : `~gammapy.datasets.Datasets`
        Datasets with their models and meta tables.

    Raises
    ------
    FileNotFoundError
        If the folder has no datasets.
    """
    path = make_path(path)
    if not (path / DATASETS_FILE).is_file():
        raise FileNotFoundError(f"There are no datasets in {path}.")
    models_path = path / MODELS_FILE
    if not models_path.is_file():
        models_path = None
    # Gammapy cannot read OFF counts lazily
    datasets = Datasets.read(path / DATASETS_FILE, models_path, lazy=False)
    for dataset in datasets:
        meta_path = path / META_DIR / f"{dataset.name}.ecsv"
        if meta_path.is_file():
            dataset.meta_table = Table.read(meta_path)
    return datasets
