"""Analysis of target observations and of their mimics from one configuration."""

import copy

from gammapy.analysis import Analysis, AnalysisConfig
from gammapy.datasets import Datasets, MapDatasetOnOff
from gammapy.utils.scripts import make_path

from .config import MimicAnalysisConfig
from .datasets import add_partners
from .factory import MakerFactory, check_observations, naming_key
from .pipeline import read_results, run_pipeline

__all__ = ["MimicAnalysis"]

BLOCK_SIZE = 8
"""Number of datasets a process that are in memory before they are stacked."""


_NO_DATASETS = (
    "datasets: nothing is left of the observations. For 1d, on_region needs background "
    "regions. For 3d, the geometry must overlap with the fields of view."
)


class MimicAnalysis(Analysis):
    """`~gammapy.analysis.Analysis` that reduces mimics of its observations as well.

    Mimics and target observations go through the same makers, made from the same
    configuration. Without the section ``mimic`` it is Gammapy's analysis.

    Parameters
    ----------
    config : `~gammapy_mimic.config.MimicAnalysisConfig` or dict
        Configuration.

    Attributes
    ----------
    plan : `~gammapy_mimic.plan.MimicPlan`
        Which OFF observation stands in for which target.
    mimic_observations : dict of `~gammapy.data.Observations`
        Mimic observations by mimic set.
    mimic_datasets : dict of `~gammapy.datasets.Datasets`
        Their datasets by mimic set.
    systematics : `~gammapy_mimic.estimators.MimicSystematics`
        What the mimic sets say about the background.

    Examples
    --------
    >>> config = MimicAnalysisConfig.read("config.yaml")  # doctest: +SKIP
    >>> analysis = MimicAnalysis(config)  # doctest: +SKIP
    >>> analysis.get_observations()  # doctest: +SKIP
    >>> analysis.get_datasets()  # doctest: +SKIP
    >>> analysis.get_mimic_datasets()  # doctest: +SKIP
    """

    def __init__(self, config):
        super().__init__(config)
        self.plan = None
        self.mimic_observations = {}
        self.mimic_datasets = {}
        self.systematics = None
        self._factory = None

    @property
    def config(self):
        """Configuration (`~gammapy_mimic.config.MimicAnalysisConfig`)."""
        return self._config

    @config.setter
    def config(self, value):
        if isinstance(value, MimicAnalysisConfig):
            self._config = value
        elif isinstance(value, AnalysisConfig):
            self._config = MimicAnalysisConfig(**value.model_dump())
        elif isinstance(value, dict):
            self._config = MimicAnalysisConfig(**value)
        else:
            raise TypeError(
                f"config must be a dict or MimicAnalysisConfig, got {value!r}"
            )
        self._factory = None

    @property
    def factory(self):
        """Makers that the configuration stands for (`MakerFactory`)."""
        if self._factory is None:
            if self.observations is None:
                self.get_observations()
            self._factory = MakerFactory(self.config, self.observations)
        return self._factory

    @property
    def exclusion_regions(self):
        """Sources in any field (`~gammapy_mimic.exclusion.ExclusionRegions`)."""
        return self.factory.exclusion_regions

    @property
    def selector(self):
        """Selector of OFF observations (`~gammapy_mimic.KLBackgroundSelector`)."""
        return self.factory.selector

    def get_observations(self):
        """Fetch the target observations from the datastore.

        Raises
        ------
        ValueError
            If there is no datastore, it lacks an observation, or obs_cone or obs_time
            are not complete.
        """
        self._check_selection()
        with naming_key("observations"):
            super().get_observations()
        self._factory = None

    def _check_selection(self):
        """Raise an error for what Gammapy does not select by, or fails to."""
        config = self.config.observations
        cone, time = config.obs_cone, config.obs_time
        if len({_ is None for _ in (cone.lon, cone.lat, cone.radius)}) > 1 or (
            cone.lon is not None and cone.frame is None
        ):
            raise ValueError(
                "observations.obs_cone: needs all of frame, lon, lat and radius."
            )
        if (time.start is None) != (time.stop is None):
            raise ValueError("observations.obs_time: needs both start and stop.")
        if config.obs_file is not None and not config.obs_file.is_file():
            raise ValueError(
                f"observations.obs_file: there is no file {config.obs_file}."
            )

    def _make_obs_table_selection(self):
        """Return the OBS_IDs, or name those that are missing."""
        config = self.config.observations
        missing = sorted(set(config.obs_ids) - set(self.datastore.obs_ids))
        if missing:
            raise ValueError(f"obs_ids {missing} are not in {config.datastore}.")
        return super()._make_obs_table_selection()

    def check_makers(self):
        """Make the makers and the geometry once, so that mistakes show at once.

        Raises
        ------
        ValueError
            If the section ``datasets`` has a parameter that is not valid, or lacks one.
        """
        config = self.config
        if config.general.n_jobs < 1:
            raise ValueError(
                f"general.n_jobs: must be at least 1, got {config.general.n_jobs}."
            )
        region = config.datasets.on_region
        values = region.frame, region.lon, region.lat, region.radius
        if config.datasets.type == "1d" and any(_ is None for _ in values):
            raise ValueError(
                "datasets.on_region: a 1d analysis needs frame, lon, lat and radius."
            )
        mimic, mask = config.mimic, config.datasets.background.exclusion
        if mimic is not None and mimic.exclusion.background and mask is not None:
            raise ValueError(
                "mimic.exclusion.background: there is a mask, too, in "
                "datasets.background.exclusion. Choose one of them."
            )
        with naming_key("datasets.background"):
            super()._create_background_maker()
        with naming_key("datasets.safe_mask"):
            self._create_safe_mask_maker()
        with naming_key("datasets.geom"):
            self._create_geometry()

    def _create_background_maker(self):
        """Create the background maker, if asked to with the exclusion regions."""
        maker = super()._create_background_maker()
        mimic = self.config.mimic
        if maker is not None and mimic is not None and mimic.exclusion.background:
            maker.exclusion_mask = self.factory.make_exclusion_mask()
        return maker

    def get_datasets(self):
        """Reduce the target observations."""
        if self.config.mimic is None:
            super().get_datasets()
        else:
            self.datasets = self.reduce(self.factory.make_target_observations())

    def get_plan(self, path=None):
        """Pair target observations with OFF observations.

        Parameters
        ----------
        path : str or `~pathlib.Path`, optional
            Folder to keep the ranking of each target in. Default is None.
        """
        self.plan = self.factory.make_plan(path)

    def get_mimic_observations(self):
        """Make the mimic observations of all sets, in memory."""
        if self.plan is None:
            self.get_plan()
        self.mimic_observations = {
            mimic_set: self.factory.make_mimic_observations(self.plan, mimic_set)
            for mimic_set in self.plan.sets
        }

    def get_mimic_datasets(self):
        """Reduce the mimic observations of all sets."""
        if not self.mimic_observations:
            self.get_mimic_observations()
        self.mimic_datasets = {
            mimic_set: self.reduce(observations, mimic_set)
            for mimic_set, observations in self.mimic_observations.items()
        }

    def get_systematics(self):
        """Estimate the systematic error of the background from the mimic sets."""
        if not self.mimic_datasets:
            self.get_mimic_datasets()
        if not self.datasets:
            self.get_datasets()
        estimator = self.factory.make_systematics_estimator()
        self.systematics = estimator.run(self.mimic_datasets, self.datasets)

    def reduce(self, observations, mimic_set=None):
        """Reduce observations as the configuration says.

        Parameters
        ----------
        observations : `~gammapy.data.Observations`
            Observations, targets or mimics.
        mimic_set : int, optional
            Mimic set of the observations. Default is None, for targets.

        Returns
        -------
        datasets : `~gammapy.datasets.Datasets`
            Datasets. Those of single observations are named after their OBS_ID. Meta
            tables of mimics have ``OFF_OBS_ID`` and ``MIMIC_SET``.
        """
        check_observations(observations)
        datasets = self._reduce_all(observations)
        if mimic_set is not None:
            add_partners(datasets, self.plan, mimic_set)
        return datasets

    def _reduce_all(self, observations):
        config = self.config.datasets
        if not config.stack:
            return _name_by_obs_id(self._reduce(observations))
        if config.type == "3d":
            if self.config.general.n_jobs > 1:
                return self._reduce_in_order(observations)
            return self._reduce(observations)
        datasets = self._reduce(observations, stack=False)
        return Datasets([datasets.stack_reduce(name="stacked")])

    def _reduce(self, observations, **datasets):
        """Reduce observations by Gammapy, with other settings of the datasets."""
        other = copy.copy(self)
        other._config = self.config.model_copy(
            update={"datasets": self.config.datasets.model_copy(update=datasets)}
        )
        other.observations = observations
        super(MimicAnalysis, other).get_datasets()
        if not other.datasets:
            raise ValueError(_NO_DATASETS)
        return Datasets(other.datasets)

    def _reduce_in_order(self, observations):
        """Stack in the order of the observations. Gammapy does as processes finish."""
        stacked = self._create_reference_dataset(name="stacked")
        size = BLOCK_SIZE * self.config.general.n_jobs
        for start in range(0, len(observations), size):
            block = observations[start : start + size]
            for dataset in self._reduce(block, stack=False):
                if isinstance(dataset, MapDatasetOnOff):
                    dataset = dataset.to_map_dataset(name=dataset.name)
                stacked.stack(dataset)
        return Datasets([stacked])

    def run(self, force=False):
        """Run all steps into the folder ``general.outdir``, or go on where it stopped.

        See `gammapy_mimic.pipeline.run_pipeline`.

        Parameters
        ----------
        force : bool, optional
            Whether to do finished steps again. Default is False.
        """
        run_pipeline(self, force=force)
        path = make_path(self.config.general.outdir)
        self.datasets, self.mimic_datasets = read_results(path, self.plan)


def _name_by_obs_id(datasets):
    """Give the datasets names that are not random, as are Gammapy's."""
    names = [f"obs_{int(_.meta_table['OBS_ID'][0])}" for _ in datasets]
    return Datasets([_rename(*_) for _ in zip(datasets, names, strict=True)])


def _rename(dataset, name):
    """Copy a dataset with its background model, which Gammapy's copy leaves out."""
    renamed = dataset.copy(name=name)
    model = getattr(dataset, "background_model", None)
    if model is not None:
        model = model.copy(dataset_name=name, name=f"{name}-bkg")
        renamed.models = [model]
    return renamed
