"""Makers from a configuration."""

import dataclasses
import logging

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from gammapy.data import Observations
from gammapy.datasets import MapDataset, SpectrumDataset
from gammapy.makers import WobbleRegionsFinder
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from regions import PointSkyRegion

from ..data.datastore import find_broken_files, open_datastore, select_datastore
from ..data.obs_ids import get_obs_id, to_obs_ids
from ..data.observation import get_fixed_pointing
from ..data.query import query_obs_table
from ..exclusion.core import ExclusionRegions
from ..exclusion.sky_regions import regions_to_text
from ..makers import KLBackgroundSelector, MimicMaker, ScrambleMaker
from ..makers.reduction import make_fields_geom
from ..selection.conditions import Conditions
from ..selection.criteria import MatchCriteria
from ..selection.plan import MimicPlan
from .config_text import prefix_errors
from .nights import find_nights

__all__ = [
    "MakerFactory",
    "check_files",
    "check_observations",
    "get_links",
    "make_axes",
    "make_point_reference",
    "make_template_axes",
    "make_wobble_finder",
]

log = logging.getLogger(__name__)

OFF_REGIONS_MAX = 100

MASK_WIDTH = "8 deg"  # of a spectrum, more than the field of view

_NOTHING_TO_SCRAMBLE = (
    "mimic.scramble: there is no source to hide in the fields. Set mimic.exclusion, or "
    "leave scramble out."
)


def check_observations(observations):
    """Raise an error if no target observation is selected.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Target observations.
    """
    if not observations:
        raise ValueError(
            "observations: no observation is selected. See datastore, obs_ids, "
            "obs_file, obs_cone, obs_time and required_irf, and whether the HDU index "
            "has EVENTS and GTI of the observations."
        )


def get_links(config):
    """Get the folders that a configuration names, which datastores may link to."""
    mimic = config.mimic
    others = [mimic.off.datastore, *mimic.links] if mimic else []
    return [_ for _ in (config.observations.datastore, *others) if _]


def check_files(datastore, obs_ids, strict=False, n_jobs=1):
    """Read observations to the end, and tell of those that are broken.

    Parameters
    ----------
    datastore : `~gammapy.data.DataStore`
        Datastore.
    obs_ids : list of int
        Observation IDs.
    strict : bool, optional
        Whether a broken file is an error. Default is False: it is logged.
    n_jobs : int, optional
        Number of processes. Default is 1.

    Returns
    -------
    broken : dict of str
        Reasons by OBS_ID, empty if all is well.

    Raises
    ------
    OSError
        If a file is broken and may not be.
    """
    broken = find_broken_files(datastore, obs_ids, n_jobs=n_jobs)
    for obs_id, reason in broken.items():
        message = f"OBS_ID {obs_id} cannot be read: {' '.join(reason.split())}"
        if strict:
            raise OSError(message)
        # what is lost is said with --quiet, too
        log.error(f"Left out: {message}")
    return broken


def make_axes(config):
    """Make the axes of energy.

    Parameters
    ----------
    config : `~gammapy.analysis.config.EnergyAxesConfig`
        Section ``datasets.geom.axes``.

    Returns
    -------
    axes : dict of `~gammapy.maps.MapAxis`
        Axes "energy" and "energy_true".

    Raises
    ------
    ValueError
        If one lacks min, max or nbins.
    """
    axes = {}
    for name in ("energy", "energy_true"):
        axis = getattr(config, name)
        if None in (axis.min, axis.max, axis.nbins):
            raise ValueError(f"axes.{name} needs all of min, max and nbins.")
        axes[name] = MapAxis.from_energy_bounds(
            axis.min, axis.max, nbin=axis.nbins, name=name
        )
    return axes


def make_template_axes(config):
    """Make the axes of templates that are not the default.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.config.TemplateConfig`
        Section ``mimic.template``.

    Returns
    -------
    axes : list of `~gammapy.maps.MapAxis`
        Axes.
    """
    axes, energy = [], config.energy_axis
    if energy.nbins is not None:
        bounds = energy.min, energy.max, energy.nbins
        axes.append(MapAxis.from_energy_bounds(*bounds))
    position, names = config.offset_axis, ["offset"]
    if config.dimension == "3d":
        position, names = config.fov_axis, ["fov_lon", "fov_lat"]
    if position.nbins is not None:
        high = position.max.deg
        low = 0 if names == ["offset"] else -high
        axes += [
            MapAxis.from_bounds(low, high, position.nbins, unit="deg", name=name)
            for name in names
        ]
    return axes


def make_point_reference(config):
    """Make the reference dataset of spectra in a region of the radius RAD_MAX.

    Parameters
    ----------
    config : `~gammapy.analysis.config.DatasetsConfig`
        Section ``datasets``.

    Returns
    -------
    dataset : `~gammapy.datasets.SpectrumDataset`
        Reference dataset, of a position.
    """
    region, axes = config.on_region, make_axes(config.geom.axes)
    center = SkyCoord(region.lon, region.lat, frame=region.frame)
    geom = RegionGeom.create(PointSkyRegion(center), axes=[axes["energy"]])
    energy_axis_true = axes["energy_true"]
    return SpectrumDataset.create(
        geom, energy_axis_true=energy_axis_true, name="stacked"
    )


def make_wobble_finder(n_off_regions):
    """Make the finder of background regions at the offset of a position.

    Parameters
    ----------
    n_off_regions : int
        Number of regions.

    Returns
    -------
    finder : `~gammapy.makers.WobbleRegionsFinder`
        Finder.
    """
    is_whole = isinstance(n_off_regions, int) and not isinstance(n_off_regions, bool)
    if not (is_whole and 1 <= n_off_regions <= OFF_REGIONS_MAX):
        raise ValueError(
            f"parameters.n_off_regions must be a whole number from 1 to "
            f"{OFF_REGIONS_MAX}, got {n_off_regions!r}"
        )
    return WobbleRegionsFinder(n_off_regions=n_off_regions)


class MakerFactory:
    """OFF observations and makers that a configuration stands for.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig`
        Configuration with a section ``mimic``.
    observations : `~gammapy.data.Observations`
        Target observations.

    Attributes
    ----------
    left_out : list of int
        OFF observations that the last plan was made without, as they are broken.

    Raises
    ------
    ValueError
        If the configuration has no such section, there is no target observation, or
        no source to scramble.
    """

    def __init__(self, config, observations):
        if getattr(config, "mimic", None) is None:
            raise ValueError("The configuration has no section 'mimic'.")
        check_observations(observations)
        exclusion, scramble = config.mimic.exclusion, config.mimic.scramble
        if scramble and scramble.method != "azimuth" and exclusion.is_empty:
            raise ValueError(_NOTHING_TO_SCRAMBLE)
        self.config = config
        self.observations = observations
        self.left_out = []
        self._made = {}

    def _make_once(self, make, *sections):
        """Call a method, or return what it has made from the same configuration."""
        key = [_ if isinstance(_, str) else _.model_dump_json() for _ in sections]
        known = self._made.get(make.__name__)
        if known is None or known[0] != key:
            known = self._made[make.__name__] = key, make()
        return known[1]

    @property
    def off_datastore(self):
        """OFF observations (`~gammapy.data.DataStore`)."""
        config = self.config
        sections = config.mimic.off, config.observations, f"{config.mimic.strict}"
        return self._make_once(self._open_off, *sections)

    def _open_off(self):
        config = self.config.mimic.off
        path = config.datastore or self.config.observations.datastore
        with prefix_errors("mimic.off.datastore"):
            datastore = open_datastore(path, get_links(self.config))
        table = datastore.obs_table
        if config.query is not None:
            with prefix_errors("mimic.off.query"):
                table = query_obs_table(table, config.query)
        obs_ids = to_obs_ids(table["OBS_ID"]).tolist()
        if config.obs_ids:
            missing = sorted(set(config.obs_ids) - set(obs_ids))
            if missing:
                raise ValueError(
                    f"mimic.off.obs_ids: OBS_ID {missing} are not in {path}, or not "
                    "selected by the query."
                )
            obs_ids = config.obs_ids
        elif config.query is None:
            targets = {get_obs_id(_) for _ in self.observations}
            obs_ids = [_ for _ in obs_ids if _ not in targets]
        if not obs_ids:
            raise ValueError(f"mimic.off: {path} has no observations but the targets.")
        if self.config.mimic.strict:
            n_jobs = self.config.general.n_jobs
            check_files(datastore, obs_ids, strict=True, n_jobs=n_jobs)
        return select_datastore(datastore, obs_ids)

    @property
    def exclusion_regions(self):
        """Sources in any field (`~gammapy_mimic.exclusion.ExclusionRegions`)."""
        config, mimic = self.config, self.config.mimic
        sections = config.observations, mimic.off, mimic.exclusion
        return self._make_once(self._find_exclusion_regions, *sections)

    def _find_exclusion_regions(self):
        config = self.config.mimic.exclusion
        if config.is_empty:
            return ExclusionRegions()
        off = Conditions.from_obs_table(self.off_datastore.obs_table).pointing
        # the index may not know them all
        off = off[np.isfinite(off.ra.deg) & np.isfinite(off.dec.deg)]
        positions = SkyCoord([*map(get_fixed_pointing, self.observations), *off])
        with prefix_errors("mimic.exclusion"):
            _read_regions(config.regions)
            return ExclusionRegions.from_catalogs(
                positions,
                config.fov_radius,
                catalogs=config.catalogs,
                point_radius=config.radius,
                stars=config.stars,
                magnitude_max=config.magnitude_max,
                star_radius=config.star_radius,
                regions=config.regions,
            )

    @property
    def selector(self):
        """Selector of OFF observations, with its index (`KLBackgroundSelector`)."""
        return self._make_selector(self._index)

    @property
    def _index(self):
        config, regions = self.config, regions_to_text(list(self.exclusion_regions))
        sections = config.observations, config.mimic.off, regions
        return self._make_once(self._make_index, *sections)

    def _make_selector(self, index=None, criteria=None, plan=None):
        config = self.config.mimic
        template = config.template
        missing = sorted({*template.obs_ids} - {*self.off_datastore.obs_ids.tolist()})
        if missing:
            raise ValueError(
                f"mimic.template.obs_ids: OBS_ID {missing} are not OFF observations, "
                "see mimic.off."
            )
        return KLBackgroundSelector(
            self.off_datastore,
            criteria=criteria or config.selection.criteria,
            ranking=config.selection.ranking,
            distribution=config.selection.distribution,
            exclusion_regions=list(self.exclusion_regions),
            kl_max=config.selection.kl_max,
            time_request=template.time_request,
            background=template.dimension,
            smooth=template.smooth,
            smooth_options=template.smooth_options,
            template_axes=make_template_axes(template) or None,
            template_obs_ids=template.obs_ids or None,
            keep_empty=template.keep_empty,
            plan=plan,
            index=index,
        )

    def _make_index(self):
        path = self.config.mimic.off.index
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"mimic.off.index: there is no folder {path.parent}.")
        selector = self._make_selector()
        return selector.make_index(path, n_jobs=self.config.general.n_jobs)

    def make_plan(self, path=None):
        """Make the plan that pairs targets with OFF observations.

        The files of all partners are read to the end. If one is broken, the plan is
        made again without it.

        Parameters
        ----------
        path : str or `~pathlib.Path`, optional
            Folder to keep the ranking of each target in. Default is None.

        Returns
        -------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.

        Raises
        ------
        ValueError
            If there is no candidate for any target.
        """
        criteria = MatchCriteria.create(self.config.mimic.selection.criteria)
        excluded, checked, left_out = [*criteria.exclude_obs_ids], set(), set()
        while True:
            criteria = dataclasses.replace(criteria, exclude_obs_ids=excluded)
            plan = self._make_plan(criteria, path)
            partners = set(plan.reuse) - checked
            if not partners:
                break
            checked |= partners
            broken = self.check_partners(partners)
            excluded += broken
            left_out |= {*broken}
        if self.config.mimic.selection.reads_events:
            left_out |= {*self.selector.index.broken["OBS_ID"].tolist()}
        self.left_out = sorted(left_out)
        return plan

    def check_partners(self, obs_ids):
        """Read the files of OFF observations to the end, and tell of broken ones.

        Parameters
        ----------
        obs_ids : set of int
            Observation IDs.

        Returns
        -------
        broken : dict of str
            Reasons by OBS_ID, empty if all is well.
        """
        n_jobs = self.config.general.n_jobs
        return check_files(self.off_datastore, sorted(obs_ids), n_jobs=n_jobs)

    def _make_plan(self, criteria, path):
        """Make the plan of these criteria."""
        config = self.config.mimic
        options = {
            "n_sets": config.n_sets,
            "randomise": config.selection.randomise,
            "n_best": config.selection.n_best,
            "random_state": config.random_state,
            "livetime": config.livetime,
        }
        if not config.selection.reads_events:
            links = get_links(self.config)
            store = open_datastore(self.config.observations.datastore, links)
            table = store.obs_table
            targets = table.select_obs_id([get_obs_id(_) for _ in self.observations])
            _set_livetimes(targets, self.observations)
            off = self.off_datastore.obs_table
            return MimicPlan.from_obs_tables(targets, off, criteria, **options)
        selector = self._make_selector(self._index, criteria)
        n_jobs = self.config.general.n_jobs
        return selector.make_plan(
            self.observations, path=path, n_jobs=n_jobs, **options
        )

    def find_fields(self, plan):
        """Find the targets that have a partner in any set.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.

        Returns
        -------
        observations : `~gammapy.data.Observations`
            Target observations.
        """
        treated = set().union(*(plan.partners(mimic_set) for mimic_set in plan.sets))
        return Observations([_ for _ in self.observations if get_obs_id(_) in treated])

    def make_reference(self, plan):
        """Make the reference dataset of a map that holds all fields.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan. The fields are those of the targets that have a partner.

        Returns
        -------
        dataset : `~gammapy.datasets.MapDataset`
            Reference dataset, in the TAN projection.
        """
        geom = self.config.datasets.geom
        return MapDataset.create(
            self._make_fields_geom(self.find_fields(plan)),
            energy_axis_true=make_axes(geom.axes)["energy_true"],
            binsz_irf=geom.wcs.binsize_irf.deg,
            name="stacked",
        )

    def _make_fields_geom(self, observations):
        geom = self.config.datasets.geom
        return make_fields_geom(
            observations,
            make_axes(geom.axes)["energy"],
            binsz=geom.wcs.binsize,
            offset_max=geom.selection.offset_max,
        )

    @property
    def maker_options(self):
        """Options of the `~gammapy_mimic.MimicMaker` of any set (dict)."""
        config = self.config.mimic
        is_template = config.background == "template"
        scramble = config.scramble
        if scramble is not None:
            regions = list(self.exclusion_regions)
            if not regions and scramble.method != "azimuth":
                raise ValueError(_NOTHING_TO_SCRAMBLE)
            options = {"method": scramble.method, "width": scramble.width}
            scramble = ScrambleMaker(
                regions or None, random_state=config.random_state, **options
            )
        return {
            "alignment": config.alignment,
            "time": config.time,
            "background": self.selector if is_template else config.background,
            "scramble": scramble,
        }

    def make_maker(self, plan, mimic_set):
        """Make the maker of a mimic set.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.
        mimic_set : int
            Mimic set.

        Returns
        -------
        maker : `~gammapy_mimic.MimicMaker`
            Maker.
        """
        options = self.maker_options
        return MimicMaker(self.off_datastore, plan, mimic_set=mimic_set, **options)

    def make_mimic_observations(self, plan, mimic_set):
        """Make the mimic observations of a set.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.
        mimic_set : int
            Mimic set.

        Returns
        -------
        observations : `~gammapy.data.Observations`
            Mimics of the targets that have a partner.
        """
        maker = self.make_maker(plan, mimic_set)
        treated = Observations([_ for _ in self.observations if maker.can_make(_)])
        n_jobs = self.config.general.n_jobs
        observations = maker.make_observations(treated, n_jobs=n_jobs)
        if treated and not observations:
            # each with a warning, and only for want of OFF observations
            raise ValueError(
                f"mimic.background: no mimic of set {mimic_set} has enough OFF "
                "observations for a template. Widen mimic.selection, use fewer targets "
                "or more OFF observations, or another background."
            )
        return observations

    def make_template_table(self, plan):
        """Tell what the templates of the targets and of all mimics are made of.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`
            Plan.

        Returns
        -------
        table : `~astropy.table.Table`
            See `~gammapy_mimic.KLBackgroundSelector.make_template_table`.
        """
        selector = self._make_selector(self._index, plan=plan)
        return selector.make_template_table(self.observations)

    def make_target_observations(self, plan=None):
        """Make the observations to compare mimics with.

        Parameters
        ----------
        plan : `~gammapy_mimic.selection.MimicPlan`, optional
            Plan whose mimics are compared with them, for their templates. Default is
            None.

        Returns
        -------
        observations : `~gammapy.data.Observations`
            Target observations, with templates as background if the mimics have them.
        """
        if self.config.mimic.background != "template":
            return self.observations
        n_jobs = self.config.general.n_jobs
        selector = self._make_selector(self._index, plan=plan)
        observations = selector.make_observations(self.observations, n_jobs=n_jobs)
        if not observations:
            raise ValueError(
                "mimic.background: there is no good OFF observation for the template "
                "of any target. Widen mimic.selection."
            )
        return observations

    @property
    def systematics_regions(self):
        """Regions in question (list of `~regions.SkyRegion`)."""
        key, regions = "mimic.systematics.regions", []
        for text in self.config.mimic.systematics.regions:
            with prefix_errors(key):
                found = _read_regions([text])
            for region in found:
                region.meta["text"] = region.meta["text"] or text
                # for errors of what is known with the map only
                region.meta["comment"] = f"{key}: {text!r}"
            regions += found
        return regions

    @property
    def systematics_nights(self):
        """Night of each OFF observation by OBS_ID (dict), None without nights."""
        nights = self.config.mimic.systematics.nights
        if not nights:
            return None
        with prefix_errors("mimic.systematics.nights"):
            column = None if nights is True else nights
            return find_nights(self.off_datastore.obs_table, column)

    def make_systematics_estimator(self):
        """Make the estimator of the systematic error.

        Returns
        -------
        estimator : `~gammapy_mimic.estimators.MimicSystematicsEstimator`
            Estimator.
        """
        # to rank OFF observations, no estimator has to be loaded
        from ..estimators import MimicSystematicsEstimator

        config, datasets = self.config.mimic.systematics, self.config.datasets
        position = config.position if datasets.type == "3d" else datasets.on_region
        if position.lon is not None:
            position = SkyCoord(position.lon, position.lat, frame=position.frame)
        else:
            position = None
        options = {}
        if config.radii:
            options["radii"] = _to_quantity(config.radii)
        return MimicSystematicsEstimator(
            config.correlation_radius,
            energy_edges=_to_quantity(config.energy_edges),
            offset_edges=_to_quantity(config.offset_edges),
            regions=self.systematics_regions,
            position=position,
            exclusion_mask=self.make_exclusion_mask(),
            min_background=config.min_background,
            nights=self.systematics_nights,
            flux=config.flux,
            n_jobs=self.config.general.n_jobs,
            **options,
        )

    def make_exclusion_mask(self):
        """Make the mask of the known sources.

        Returns
        -------
        mask : `~gammapy.maps.WcsNDMap` or None
            The mask ``datasets.background.exclusion`` if there is one, else that of the
            exclusion regions. None without them.
        """
        config = self.config.datasets
        if config.background.exclusion is not None:
            return Map.read(config.background.exclusion)
        if not self.exclusion_regions:
            return None
        wcs = config.geom.wcs
        if config.type == "3d" and wcs.skydir.lon is None:
            geom = self._make_fields_geom(self.observations).to_image()
            return self.exclusion_regions.to_mask(geom)
        center, width = wcs.skydir, (wcs.width.width, wcs.width.height)
        if config.type == "1d":
            center, width = config.on_region, (MASK_WIDTH, MASK_WIDTH)
        geom = WcsGeom.create(
            skydir=SkyCoord(center.lon, center.lat, frame=center.frame),
            frame=center.frame,
            width=tuple(Angle(_).deg for _ in width),
            binsz=wcs.binsize.deg,
        )
        return self.exclusion_regions.to_mask(geom)


def _set_livetimes(obs_table, observations):
    """Set the livetimes of observations that a filter in time has cut."""
    if "LIVETIME" not in obs_table.colnames:
        return
    column, obs_ids = obs_table["LIVETIME"], to_obs_ids(obs_table["OBS_ID"])
    for observation in observations:
        if observation.obs_filter.time_filter is not None:
            livetime = observation.observation_live_time_duration
            is_row = obs_ids == get_obs_id(observation)
            column[is_row] = livetime.to_value(column.unit or "s")


def _read_regions(texts):
    """Read regions from texts or files, none of which may be empty."""
    regions = []
    for text in texts:
        found = ExclusionRegions.from_text(text)
        if not len(found):
            raise ValueError(f"there is no region in {text}. Leave it out.")
        for region, name in zip(found, found.names, strict=True):
            named = region.copy()
            named.meta["text"] = name
            regions.append(named)
    return regions


def _to_quantity(values):
    """Quantity of a list, None for an empty one."""
    return u.Quantity(values) if values else None
