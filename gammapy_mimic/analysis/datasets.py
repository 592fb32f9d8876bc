"""Datasets with what Gammapy leaves out: partners, background models, meta tables."""

import copy
import itertools
from collections import defaultdict
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.table import Table
from gammapy.data import Observations
from gammapy.datasets import Datasets
from gammapy.modeling.models import DatasetModels
from gammapy.utils.scripts import make_path, read_yaml, to_yaml, write_yaml

from ..data.lazy_datasets import LazyDatasets, StoredDataset
from ..data.meta_tables import make_range_columns
from ..data.obs_ids import NO_PARTNER, get_obs_id, to_obs_id
from ..data.observation import load_events_file
from ..data.template_irfs import make_template_columns
from ..selection.plan import MimicPlan
from ..utils.files import replace_folder

__all__ = [
    "DatasetEntry",
    "add_partners",
    "add_templates",
    "get_dataset_name",
    "open_datasets",
    "read_datasets",
    "rename_dataset",
    "select_trusted",
    "write_dataset",
    "write_datasets",
    "write_entries",
]

DATASETS_FILE, MODELS_FILE, META_DIR = "datasets.yaml", "models.yaml", "meta"
LAZY_TYPES = {"MapDataset", "MapDatasetOnOff"}


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


def get_dataset_name(dataset):
    """Name of the dataset of a single observation, by its OBS_ID."""
    return f"obs_{int(dataset.meta_table['OBS_ID'][0])}"


def rename_dataset(dataset, name):
    """Give another name to a dataset: those of Gammapy's makers are random.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset. Not changed.
    name : str
        Name.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        Copy with this name.
    """
    renamed = dataset.copy(name=name)
    # which Gammapy's copy leaves out
    model = getattr(dataset, "background_model", None)
    if model is not None:
        renamed.models = [model.copy(dataset_name=name, name=f"{name}-bkg")]
    return renamed


class DatasetEntry(NamedTuple):
    """What is kept in memory of a dataset that was written.

    Attributes
    ----------
    data : dict
        Its entry in the list of the folder.
    models : list of `~gammapy.modeling.models.ModelBase`
        Its models.
    meta_table : `~astropy.table.Table` or None
        Its meta table.
    """

    data: dict
    models: list
    meta_table: Table


def write_dataset(dataset, folder):
    """Write a dataset and its meta table to a folder, but for its models.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.
    folder : `~pathlib.Path`
        Folder, in which there is one for the meta tables.

    Returns
    -------
    entry : `DatasetEntry`
        What `write_entries` needs.
    """
    data, table = dataset.to_dict(), dataset.meta_table
    dataset.write(folder / data["filename"], checksum=True)
    if table is not None:
        table.write(folder / META_DIR / f"{dataset.name}.ecsv")
    return DatasetEntry(data, list(dataset.models or []), table)


def write_entries(entries, folder, models=None):
    """Write the list of the datasets of a folder, and their models.

    Parameters
    ----------
    entries : list of `DatasetEntry`
        Datasets, in their order.
    folder : `~pathlib.Path`
        Folder.
    models : `~gammapy.modeling.models.DatasetModels`, optional
        Models. Default are those of each dataset, none of which is that of another.
    """
    text = to_yaml({"datasets": [_.data for _ in entries]})
    write_yaml(text, folder / DATASETS_FILE, checksum=True)
    if models is None:
        models = DatasetModels([*itertools.chain(*(_.models for _ in entries))])
    if models:
        models.write(folder / MODELS_FILE, checksum=True)


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
        (folder / META_DIR).mkdir()
        entries = [write_dataset(_, folder) for _ in datasets]
        write_entries(entries, folder, datasets.models)


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
    models_path = path / MODELS_FILE
    _read_list(path)
    # Gammapy cannot read OFF counts lazily
    datasets = Datasets.read(
        path / DATASETS_FILE, models_path if models_path.is_file() else None, lazy=False
    )
    for dataset in datasets:
        dataset.meta_table = _read_meta_table(path, dataset.name) or dataset.meta_table
    return datasets


def open_datasets(path):
    """Open what `write_datasets` wrote, to take one dataset at a time.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Folder.

    Returns
    -------
    datasets : `~gammapy_mimic.data.lazy_datasets.LazyDatasets`
        Datasets with their models and meta tables. Maps are read when they are needed,
        and not kept. Spectra, which are small, are in memory.

    Raises
    ------
    FileNotFoundError
        If the folder has no datasets.
    """
    path = make_path(path)
    entries = _read_list(path)
    if not all(_["type"] in LAZY_TYPES for _ in entries):
        return LazyDatasets.create(read_datasets(path))
    models = DatasetModels([])
    if (path / MODELS_FILE).is_file():
        models = DatasetModels.read(path / MODELS_FILE, checksum=True)
    by_name = defaultdict(list)
    for model in models:
        for name in model.datasets_names or ():
            by_name[name].append(model)
    return LazyDatasets(
        StoredDataset(
            path / entry["filename"],
            entry["name"],
            DatasetModels(by_name[entry["name"]]) or None,
            _read_meta_table(path, entry["name"]),
        )
        for entry in entries
    )


def _read_list(path):
    """Read the list of the datasets of a folder."""
    if not (path / DATASETS_FILE).is_file():
        raise FileNotFoundError(f"There are no datasets in {path}.")
    return read_yaml(path / DATASETS_FILE)["datasets"]


def _read_meta_table(path, name):
    """Read the meta table of a dataset, None if there is none."""
    meta_path = path / META_DIR / f"{name}.ecsv"
    return Table.read(meta_path) if meta_path.is_file() else None
