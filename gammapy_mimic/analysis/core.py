"""Analysis of target observations and of their mimics from one configuration."""

import copy
import functools
import logging
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gammapy.analysis import Analysis, AnalysisConfig
from gammapy.analysis.config import WidthConfig
from gammapy.data import Observations
from gammapy.datasets import Datasets
from gammapy.utils.scripts import make_path

from ..data.datastore import open_datastore
from ..data.files import set_links
from ..data.meta_tables import describe_loss, find_losses, get_reason, warn_of_losses
from ..data.obs_ids import get_obs_id, shorten, to_obs_ids
from ..data.query import query_obs_table
from ..exclusion import ExclusionRegions
from ..makers.reduction import ImageMaker, reduce_observations
from ..makers.selector import KLBackgroundSelector
from ..selection.plan import MimicPlan
from ..utils.files import explain_unset, replace_folder
from .checksums import hash_files
from .config import MimicAnalysisConfig
from .config_checks import find_bad_values
from .config_text import prefix_errors
from .datasets import (
    META_DIR,
    add_partners,
    add_templates,
    get_dataset_name,
    rename_dataset,
    select_trusted,
    write_dataset,
    write_entries,
)
from .factory import (
    MakerFactory,
    check_files,
    check_observations,
    get_links,
    make_axes,
    make_point_reference,
    make_wobble_finder,
)
from .irf_checks import check_region
from .maker_checks import check_parameters

if TYPE_CHECKING:
    # a command that makes no such thing does not load it
    from ..estimators import MimicSystematics

__all__ = ["MimicAnalysis"]

log = logging.getLogger(__name__)

N_OFF_REGIONS = 3
"""Regions of the background for a radius that depends on energy."""

PLAN_SECTIONS = {"off", "selection", "exclusion", "n_sets", "random_state", "livetime"}
TEMPLATE_SECTIONS = {"background", "template", "off", "selection", "exclusion"}
OTHER_SECTIONS = {
    "systematics",
    "write_datastore",
    "write_datasets",
    "irfs",
    "strict",
    "pictures",
}
"""Sections of ``mimic`` that make the plan, that make the templates of targets, and
those that no dataset depends on."""

_NO_DATASETS = (
    "datasets: nothing is left of the observations. The geometry must overlap with the "
    "fields of view."
)


class _Made(NamedTuple):
    """Result of a step, and the settings it was made with."""

    value: object
    settings: bytes


class MimicAnalysis(Analysis):
    """`~gammapy.analysis.Analysis` that reduces mimics of its observations as well.

    Mimics and target observations go through the same makers, made from the same
    configuration. Without the section ``mimic`` it is Gammapy's analysis.

    A step takes the results of earlier steps as they are, if they were set by hand, or
    made with the settings of now. Otherwise it has them made again.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig` or dict
        Configuration.

    Attributes
    ----------
    plan : `~gammapy_mimic.selection.MimicPlan`
        Which OFF observation stands in for which target.
    mimic_observations : dict of `~gammapy.data.Observations`
        Mimic observations by mimic set.
    mimic_datasets : dict of `~gammapy.datasets.Datasets`
        Their datasets by mimic set.
    systematics : `~gammapy_mimic.estimators.MimicSystematics`
        What the mimic sets say about the background.
    whole_files : list of str
        Hashes of the files of targets that were found to be whole, see
        `~gammapy_mimic.analysis.checksums.hash_files`.

    Examples
    --------
    >>> config = MimicAnalysisConfig.read("config.yaml")  # doctest: +SKIP
    >>> analysis = MimicAnalysis(config)  # doctest: +SKIP
    >>> analysis.get_observations()  # doctest: +SKIP
    >>> analysis.get_datasets()  # doctest: +SKIP
    >>> analysis.get_mimic_datasets()  # doctest: +SKIP
    """

    observations: Observations

    def __init__(self, config: AnalysisConfig | dict[str, Any]) -> None:
        super().__init__(config)
        self.plan: Any = None
        self.mimic_observations: dict[int, Observations] = {}
        self.mimic_datasets: dict[int, Datasets] = {}
        self.systematics: MimicSystematics | None = None
        self.whole_files: list[Path] = []
        self._factory: MakerFactory | None = None
        self._made: dict[str, _Made] = {}

    @property
    def config(self) -> MimicAnalysisConfig:
        """Configuration (`~gammapy_mimic.analysis.MimicAnalysisConfig`)."""
        return self._config

    @config.setter
    def config(self, value: AnalysisConfig | dict[str, Any]) -> None:
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
    def factory(self) -> MakerFactory:
        """Makers that the configuration stands for (`MakerFactory`)."""
        self._make_if_stale("observations", self.get_observations)
        known = self._factory
        if known is None or known.observations is not self.observations:
            known = self._factory = MakerFactory(self.config, self.observations)
        return known

    @property
    def exclusion_regions(self) -> ExclusionRegions:
        """Sources in any field (`~gammapy_mimic.exclusion.ExclusionRegions`)."""
        return self.factory.exclusion_regions

    @property
    def selector(self) -> KLBackgroundSelector:
        """Selector of OFF observations (`~gammapy_mimic.KLBackgroundSelector`)."""
        return self.factory.selector

    def get_observations(self) -> None:
        """Fetch the target observations from the datastore.

        With a section ``mimic``, their files are read to the end, and what is broken is
        left out.

        Raises
        ------
        OSError
            If ``mimic.strict`` is set and a file is broken, or all are.
        ValueError
            If there is no datastore, it lacks an observation, or obs_cone or obs_time
            are not complete.
        """
        self._check_observations_config()
        config, table = self.config.observations, None
        given, links = config.obs_ids, get_links(self.config)
        with prefix_errors("observations.datastore"):
            path = make_path(config.datastore)
            if not path.exists():
                raise FileNotFoundError(
                    f"Datastore not found: {path}.{explain_unset(path)}"
                )
            # Gammapy opens it again, and checks nothing
            if path.is_dir():
                table = open_datastore(config.datastore, links).obs_table
        config.obs_ids = wanted = self._query_targets(table)
        with prefix_errors("observations"):
            try:
                super().get_observations()
            except KeyError:
                missing = sorted(set(given) - set(self.datastore.obs_ids))
                if missing:
                    text = f"obs_ids {missing} are not in {config.datastore}."
                    raise ValueError(text) from None
                raise
            finally:
                config.obs_ids = given
        set_links(self.datastore, links)
        lost = sorted(set(wanted) - {get_obs_id(_) for _ in self.observations})
        if lost and config.obs_time.start is None and config.obs_cone.lon is None:
            log.error(
                f"Left out: OBS_ID {shorten(lost)} of {config.datastore}: its rows in "
                "the HDU index lack EVENTS, GTI or one of observations.required_irf."
            )
        if self.config.mimic is not None:
            # sums do not depend on the order in which they are given
            self.observations = Observations(sorted(self.observations, key=get_obs_id))
            obs_ids = [get_obs_id(_) for _ in self.observations]
            options = self.config.mimic.strict, self.config.general.n_jobs
            stamps = {_: hash_files(self.datastore, _) for _ in obs_ids}
            # what has not changed since it was read to the end is not read again
            unread = [_ for _ in obs_ids if stamps[_] not in self.whole_files]
            broken = check_files(self.datastore, unread, *options)
            if broken and len(broken) == len(obs_ids):
                obs_id, reason = next(iter(broken.items()))
                raise OSError(
                    f"None of {len(obs_ids)} observations can be read. OBS_ID "
                    f"{obs_id}: {reason}"
                )
            self.whole_files = [stamps[_] for _ in obs_ids if _ not in broken]
            whole = [_ for _ in self.observations if get_obs_id(_) not in broken]
            self.observations = Observations(whole)
        self._factory = None
        self._remember("observations")

    def _query_targets(self, table):
        """Get the OBS_IDs to select, which the query may narrow down."""
        config, mimic = self.config.observations, self.config.mimic
        if mimic is None or mimic.target_query is None or table is None:
            return config.obs_ids
        with prefix_errors("mimic.target_query"):
            if config.obs_file is not None:
                raise ValueError("cannot be used with observations.obs_file.")
            selected = query_obs_table(table, mimic.target_query)
            obs_ids = to_obs_ids(selected["OBS_ID"]).tolist()
            if config.obs_ids:
                obs_ids = [obs_id for obs_id in obs_ids if obs_id in config.obs_ids]
            if not obs_ids:
                # an empty list would select all
                raise ValueError("selects none of observations.obs_ids.")
        return obs_ids

    def _check_observations_config(self):
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

    def check_makers(self) -> None:
        """Make the makers and the geometry once, so that mistakes show at once.

        Raises
        ------
        ValueError
            If the section ``datasets`` has a parameter that is not valid, or lacks one.
        """
        config = self.config
        for keys, message in find_bad_values(config):
            raise ValueError(f"{'.'.join(keys)}: {message}")
        region = config.datasets.on_region
        values = [region.frame, region.lon, region.lat]
        if config.mimic is None:
            values.append(region.radius)
        if config.datasets.type == "1d" and any(_ is None for _ in values):
            raise ValueError(
                "datasets.on_region: a 1d analysis needs frame, lon, lat and radius. "
                "For point-like IRFs with RAD_MAX, mimics need no radius."
            )
        method, maps = config.datasets.background.method, config.datasets.map_selection
        is_map = config.mimic is not None and config.datasets.type == "3d"
        if is_map and method is not None and "background" not in maps:
            raise ValueError(
                "datasets.map_selection: 'background' is missing, of which the method "
                f"{method!r} makes its prediction."
            )
        mimic, mask = config.mimic, config.datasets.background.exclusion
        if mimic is not None and mimic.exclusion.background and mask is not None:
            raise ValueError(
                "mimic.exclusion.background: there is a mask, too, in "
                "datasets.background.exclusion. Choose one of them."
            )
        check_parameters(config, self.has_point_region)
        with prefix_errors("datasets.background"):
            self._make_background_maker()
        with prefix_errors("datasets.safe_mask"):
            self._create("safe_mask_maker")
        with prefix_errors("datasets.geom"):
            if self.has_point_region:
                make_axes(config.datasets.geom.axes)
            elif not self.finds_geometry:
                self._create("geometry")
            elif config.datasets.geom.wcs.width != WidthConfig():
                raise ValueError(
                    "wcs.width needs a wcs.skydir. Without one, the map holds all "
                    "fields of view."
                )
            else:
                make_axes(config.datasets.geom.axes)

    def check_systematics(self) -> None:
        """Find nights and regions in question once, so that mistakes show at once.

        Raises
        ------
        ValueError
            If there are no such nights, or a region is not whole on the map.
        """
        regions, _ = self.factory.systematics_regions, self.factory.systematics_nights
        if not regions or self.finds_geometry:
            return
        # to rank OFF observations, no estimator has to be loaded
        from ..estimators.background_tables import make_region_masks

        # they know where they were written
        make_region_masks(self._create("geometry").to_image(), regions)

    def _create(self, part, **kwargs):
        """Create a part of what Gammapy's analysis creates for its own steps.

        Parameters
        ----------
        part : {"background_maker", "dataset_maker", "geometry", "reference_dataset", \
"safe_mask_maker"}
            What to create.
        **kwargs : dict
            Keywords of Gammapy's method.
        """
        # there is no public method that makes a maker of a configuration
        return getattr(self, f"_create_{part}")(**kwargs)

    def _make_background_maker(self):
        """Make the background maker that Gammapy would make."""
        analysis = copy.copy(self)
        analysis.config = self.config.model_copy(deep=True)
        datasets = analysis.config.datasets
        if self.config.mimic is not None and self._makes_image:
            # Gammapy asks for one bin of energy, but is given an image later
            datasets.geom.axes.energy.nbins = 1
        if self.has_point_region and datasets.background.method == "reflected":
            # Gammapy has no other regions of a radius that depends on energy
            parameters = datasets.background.parameters
            n_regions = parameters.pop("n_off_regions", N_OFF_REGIONS)
            parameters["region_finder"] = make_wobble_finder(n_regions)
        return analysis._create("background_maker")

    @property
    def finds_geometry(self) -> bool:
        """Whether the map holds all fields, as no center of it is given (bool)."""
        config = self.config.datasets
        is_map = self.config.mimic is not None and config.type == "3d"
        return is_map and config.geom.wcs.skydir.lon is None

    @property
    def _needs_plan(self):
        """Whether datasets of targets depend on the plan (bool)."""
        return self.finds_geometry or self.config.mimic.background == "template"

    @property
    def has_point_region(self) -> bool:
        """Whether RAD_MAX of the IRFs is the radius of the region of spectra (bool)."""
        config = self.config.datasets
        is_spectrum = self.config.mimic is not None and config.type == "1d"
        return is_spectrum and config.on_region.radius is None

    @property
    def _makes_image(self):
        """Whether datasets are summed over energy before the background is made."""
        return self.config.datasets.background.method == "ring"

    def get_datasets(self) -> None:
        """Reduce the target observations."""
        if self.config.mimic is None:
            super().get_datasets()
            return
        if self._needs_plan:
            self._make_if_stale("plan", self.get_plan)
        targets = self.factory.make_target_observations(self.plan)
        self.datasets = self.reduce(targets, self.plan)
        self._remember("datasets")
        warn_of_losses({"target": _get_tables(self.datasets)})

    def get_plan(self, path: str | Path | None = None) -> None:
        """Pair target observations with OFF observations.

        Parameters
        ----------
        path : str or `~pathlib.Path`, optional
            Folder to keep the ranking of each target in. Default is None.
        """
        self.plan = self.factory.make_plan(path)
        self._remember("plan")

    def get_mimic_observations(self) -> None:
        """Make the mimic observations of all sets, in memory."""
        self._make_if_stale("plan", self.get_plan)
        self.mimic_observations = {
            mimic_set: self.factory.make_mimic_observations(self.plan, mimic_set)
            for mimic_set in self.plan.sets
        }
        self._remember("mimic_observations")

    def get_mimic_datasets(self) -> None:
        """Reduce the mimic observations of all sets."""
        self._make_if_stale("plan", self.get_plan)
        self._make_if_stale("mimic_observations", self.get_mimic_observations)
        self.mimic_datasets = {
            mimic_set: self.reduce(observations, self.plan, mimic_set)
            for mimic_set, observations in self.mimic_observations.items()
        }
        self._remember("mimic_datasets")
        sets = self.mimic_datasets.items()
        warn_of_losses({f"mimic set {name}": _get_tables(_) for name, _ in sets})

    def get_systematics(self) -> None:
        """Estimate the systematic error of the background from the mimic sets."""
        self._make_if_stale("mimic_datasets", self.get_mimic_datasets)
        self._make_if_stale("datasets", self.get_datasets)
        estimator = self.factory.make_systematics_estimator()
        self.systematics = estimator.run(
            self.mimic_datasets, self.datasets, plan=self.plan
        )

    def _remember(self, name):
        """Note with which settings a result was made."""
        self._made[name] = _Made(getattr(self, name), self._dump_settings(name))

    def _make_if_stale(self, name, make):
        """Make a result if there is none, or one that was made with other settings."""
        value, made = getattr(self, name), self._made.get(name)
        is_own = made is not None and made.value is value
        if not value or (is_own and made.settings != self._dump_settings(name)):
            make()

    def _dump_settings(self, name):
        """Get the settings that a result depends on, to be compared."""
        mimic = self.config.mimic
        if name == "observations":
            options = mimic and (mimic.target_query, mimic.strict)
            return pickle.dumps((self.config.observations.model_dump(), options))
        settings = [self.observations and self.observations.ids]
        if name == "datasets":
            sections = {"background"}
            if mimic.background == "template":
                sections = TEMPLATE_SECTIONS
            elif mimic.exclusion.background:
                sections = TEMPLATE_SECTIONS - {"template"}
            settings += [mimic.model_dump(include=sections)]
            settings += [self._needs_plan and self.plan.table.as_array().tolist()]
        elif name == "plan":
            settings += [mimic.model_dump(include=PLAN_SECTIONS)]
        else:
            settings += [mimic.model_dump(exclude=OTHER_SECTIONS)]
            settings += [self.plan and self.plan.table.as_array().tolist()]
        if name in ("datasets", "mimic_datasets"):
            settings += [self.config.datasets.model_dump()]
        # a parameter of a maker can be a map
        return pickle.dumps(settings)

    def reduce(
        self,
        observations: Observations,
        plan: MimicPlan | None = None,
        mimic_set: int | None = None,
        path: str | Path | None = None,
    ) -> Datasets:
        """Reduce observations as the configuration says.

        With a ring background, maps are summed over energy before the background is
        made. Datasets with OFF counts have them also when they are stacked.

        Parameters
        ----------
        observations : `~gammapy.data.Observations`
            Observations, targets or mimics.
        plan : `~gammapy_mimic.selection.MimicPlan`, optional
            Plan, of mimics, and for a map that holds all fields. Default is None.
        mimic_set : int, optional
            Mimic set of the observations. Default is None, for targets.
        path : str or `~pathlib.Path`, optional
            Folder for the datasets, see `~gammapy_mimic.analysis.datasets`. Those of
            single observations are written by the process that makes them, and not
            kept in memory. Default is none: they are not written.

        Returns
        -------
        datasets : `~gammapy.datasets.Datasets` or list
            Datasets. Those of single observations are named after their OBS_ID. Meta
            tables tell the counts that have no prediction of the background, see
            `~gammapy_mimic.data.meta_tables.Loss`, with templates what they are made
            of, see `~gammapy_mimic.data.template_irfs.make_template_columns`, and for
            mimics ``OFF_OBS_ID``, ``MIMIC_SET``, ``ENERGY_MIN`` and ``ENERGY_MAX``.
            With a folder, a `~gammapy_mimic.analysis.datasets.DatasetEntry` for each.

        Raises
        ------
        ValueError
            If nothing is left of the observations. Names what masks them.
        """
        if path is not None:
            with replace_folder(path) as folder:
                (folder / META_DIR).mkdir()
                entries = self._reduce(observations, plan, mimic_set, folder)
                write_entries(entries, folder)
            return entries
        return self._reduce(observations, plan, mimic_set)

    def _reduce(self, observations, plan, mimic_set, folder=None):
        check_observations(observations)
        if mimic_set is not None:
            observations = select_trusted(observations, plan, mimic_set)
        config, mimic = self.config.datasets, self.config.mimic
        if config.type == "1d":
            check_region(config, observations[0])
        if self.finds_geometry:
            reference = self.factory.make_reference(plan)
        elif self.has_point_region:
            reference = make_point_reference(config)
        else:
            reference = self._create("reference_dataset", name="stacked")
        if mimic_set is not None:
            plan = MimicPlan(plan.table[plan.table["MIMIC_SET"] == mimic_set])
        finish = functools.partial(
            _finish,
            plan=plan,
            mimic_set=mimic_set,
            has_templates=mimic is not None and mimic.background == "template",
            folder=folder,
            stack=config.stack,
        )
        datasets = reduce_observations(
            reference,
            observations,
            self._make_chain(),
            stack=config.stack,
            cutout_width=2 * config.geom.selection.offset_max,
            n_jobs=self.config.general.n_jobs,
            finish=finish,
        )
        _check_reduced(datasets, observations)
        if not config.stack:
            return Datasets(datasets) if folder is None else datasets
        return datasets if folder is None else [write_dataset(datasets[0], folder)]

    def _make_chain(self):
        """Make the makers of a dataset in their order, which is Gammapy's."""
        dataset_maker = self._create("dataset_maker")
        maker, mimic = self._make_background_maker(), self.config.mimic
        if maker is not None and mimic is not None and mimic.exclusion.background:
            maker.exclusion_mask = self.factory.make_exclusion_mask()
        background = [] if maker is None else [maker]
        safe_mask = [self._create("safe_mask_maker")]
        if self.config.datasets.type == "1d":
            return [dataset_maker, *background, *safe_mask]
        image = [ImageMaker()] if self._makes_image else []
        return [dataset_maker, *safe_mask, *image, *background]

    def run(self, force: str | Iterable[str] = ()) -> None:
        """Run all steps into the folder ``general.outdir``, or go on where it stopped.

        See `gammapy_mimic.analysis.pipeline.run_pipeline`.

        Parameters
        ----------
        force : list of str, optional
            Names of finished steps to do again, "all" for all. Default is none.
        """
        # only a run needs what writes the report
        from .pipeline import run_pipeline

        run_pipeline(self, force=force, read=True)


def _finish(datasets, observations, plan, mimic_set, has_templates, folder, stack):
    """Name datasets, complete their meta tables, and write those that are not stacked.

    See `~gammapy_mimic.makers.reduce_observations`.
    """
    if not stack:
        datasets = [rename_dataset(_, get_dataset_name(_)) for _ in datasets]
    if mimic_set is not None:
        add_partners(datasets, plan, mimic_set, observations)
    if has_templates:
        add_templates(datasets, observations)
    if stack or folder is None:
        return datasets
    return [write_dataset(_, folder) for _ in datasets]


def _check_reduced(datasets, observations):
    """Raise an error if nothing is left, and warn of observations in no dataset."""
    tables = _get_tables(datasets)
    obs_ids = {int(_) for table in tables for _ in np.ravel(table["OBS_ID"])}
    if not obs_ids:
        raise ValueError(_NO_DATASETS)
    missing = [_.obs_id for _ in observations if get_obs_id(_) not in obs_ids]
    if missing:
        log.warning(
            f"OBS_ID {missing} are in no dataset: their fields of view do not overlap "
            "with the geometry."
        )
    masked = [_ for _ in find_losses(tables) if _.fraction == 1]
    if len(masked) == len(obs_ids):
        causes = dict.fromkeys(_.cause for _ in masked)
        reasons = " ".join(map(get_reason, causes))
        raise ValueError(
            f"datasets: nothing is left of {len(masked)} observations. "
            f"{describe_loss(masked[0])}. {reasons}"
        )


def _get_tables(datasets):
    """Meta tables of datasets."""
    return [_.meta_table for _ in datasets if _.meta_table is not None]
