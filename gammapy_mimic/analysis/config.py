"""Configuration: that of Gammapy, with a section ``mimic``."""

import contextlib
import itertools
import json
import logging
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Self

import astropy.units as u
import numpy as np
import yaml
from gammapy.analysis import AnalysisConfig
from gammapy.analysis.config import (
    EnergyAxisConfig,
    GammapyBaseConfig,
    SkyCoordConfig,
    deep_update,
)
from gammapy.utils.scripts import make_path, to_yaml
from gammapy.utils.types import AngleType, EnergyType, PathType
from gammapy.workflow import WorkflowConfig
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from ..data.obs_ids import to_obs_id
from ..makers import KLBackgroundSelector, MimicMaker, ScrambleMaker
from ..selection.criteria import MatchCriteria
from ..selection.cuts import LIVETIMES
from ..selection.ranking import KL_MAX
from ..utils.angles import to_angle
from ..utils.files import check_file
from .config_checks import find_bad_texts, find_bad_values
from .config_text import describe_problems, find_problems, load_yaml

__all__ = [
    "ExclusionConfig",
    "MimicAnalysisConfig",
    "MimicConfig",
    "MimicWorkflowConfig",
    "OffConfig",
    "OffSelectionConfig",
    "PositionAxisConfig",
    "ScrambleConfig",
    "SystematicsConfig",
    "TemplateConfig",
    "start_logging",
]

LOG_HEADER = "# log of gammapy-mimic\n"


def start_logging(config):
    """Log as a configuration says.

    Parameters
    ----------
    config : `~gammapy.analysis.config.LogConfig`
        Configuration. A file is made new, or goes on if it is such a log; with the mode
        "w" a log is emptied first.

    Raises
    ------
    ValueError
        If the level is not known, or the file is there and is not a log.
    """
    options = config.model_dump(exclude_none=True) | {"level": config.level.upper()}
    if config.filename is not None:
        path = make_path(config.filename)
        is_new = not path.exists() or (path.is_file() and path.stat().st_size == 0)
        header = LOG_HEADER.encode()
        is_log = path.is_file() and path.read_bytes().startswith(header)
        if path.is_symlink() or not (is_new or is_log):
            raise ValueError(
                f"filename: {path} is not a log of gammapy-mimic. Choose another name, "
                "or remove it."
            )
        if is_new or config.filemode == "w":
            path.write_bytes(header)
        options["filemode"] = "a"
    logging.basicConfig(**options, force=True)


def _make_enum(name, options):
    return Enum(name, {str(_).upper(): _ for _ in options}, type=str)


DistributionEnum = _make_enum(
    "DistributionEnum", KLBackgroundSelector.available_distributions
)
DimensionEnum = _make_enum("DimensionEnum", KLBackgroundSelector.available_backgrounds)
SmoothEnum = _make_enum(
    "SmoothEnum", filter(None, KLBackgroundSelector.available_smooth)
)
MethodEnum = _make_enum("MethodEnum", ScrambleMaker.available_methods)
AlignmentEnum = _make_enum("AlignmentEnum", MimicMaker.available_alignments)
RankingEnum = _make_enum("RankingEnum", KLBackgroundSelector.available_rankings)
KeptEnum = _make_enum("KeptEnum", ["all", "stacked", "none"])
IrfsEnum = _make_enum("IrfsEnum", ["link", "copy"])
LivetimeEnum = _make_enum("LivetimeEnum", LIVETIMES)
TimeEnum = _make_enum("TimeEnum", MimicMaker.available_times)
BackgroundEnum = _make_enum(
    "BackgroundEnum", (*MimicMaker.available_backgrounds, "template")
)


def _check_radius(value):
    if not 0 < value.deg <= RADIUS_MAX:
        raise ValueError(f"must be positive and at most {RADIUS_MAX} deg")
    return value


RADIUS_MAX = 10  # deg, more than a field of view
N_SETS_MAX = 1000
POSITION_BINS_MAX = 500

Radius = Annotated[AngleType, BeforeValidator(to_angle), AfterValidator(_check_radius)]
PositiveFinite = Annotated[PositiveFloat, Field(allow_inf_nan=False)]


def _to_texts(value):
    """Take one text for a list."""
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(_, str | Path) for _ in values):
        raise ValueError(
            'must be a list of files or of circles in quotes, such as "83.6,22,0.3"'
        )
    return [str(_) for _ in values]


ObsId = Annotated[int, BeforeValidator(to_obs_id)]
"""Digits in a text are that number, as everywhere."""


class OffConfig(GammapyBaseConfig):
    """Which observations are OFF observations.

    Attributes
    ----------
    datastore : path, optional
        Datastore. Default is that of the target observations.
    obs_ids : list of int
        Observation IDs. Default are all that the query selects.
    query : str, optional
        Expression in the columns of the observation index, such as
        ``TARGET_NAME == 'Off data'``. Default are all that are not targets.
    index : path, optional
        File of the `~gammapy_mimic.selection.OffIndex`, made if it does not exist.
    """

    datastore: PathType | None = None
    obs_ids: list[ObsId] = Field(default_factory=list)
    query: str | None = None
    index: PathType | None = None


class OffSelectionConfig(GammapyBaseConfig):
    """How the OFF observation of a target is chosen.

    Attributes
    ----------
    ranking : {"conditions", "kl"}
        Whether the best candidate is that of the smallest distance of the conditions,
        or that of the smallest divergence of the background.
    distribution : {"counts", "irf"}
        What is compared, see `~gammapy_mimic.KLBackgroundSelector`.
    kl_max : float, optional
        Largest KL_CORR of a good pair. None if it may have any: with the ranking
        "conditions", no events are read then, and the rates are not compared.
    criteria : dict
        Parameters of `~gammapy_mimic.selection.MatchCriteria`.
    randomise : bool
        Whether to draw among the candidates, or to take the best.
    n_best : int, optional
        Number of candidates to draw from, the best. Default is all.
    """

    ranking: RankingEnum = "conditions"
    distribution: DistributionEnum = "counts"
    kl_max: PositiveFinite | None = KL_MAX
    criteria: dict[str, Any] = Field(default_factory=dict)
    randomise: bool = True
    n_best: PositiveInt | None = None

    @property
    def reads_events(self):
        """Whether candidates are compared by their events or IRFs."""
        return self.ranking != "conditions" or self.kl_max is not None

    @field_validator("criteria")
    @classmethod
    def _check_criteria(cls, value):
        MatchCriteria.create(value)
        return value


class ExclusionConfig(GammapyBaseConfig):
    """Sources in the fields of targets and OFF observations.

    Attributes
    ----------
    catalogs : list of str
        Catalogues, see `~gammapy_mimic.exclusion.ExclusionRegions.from_catalogs`.
    regions : list of str
        Circles as ``RA,DEC,RADIUS`` (ICRS, in deg or with units) or ``NAME,RADIUS``, or
        ds9 region files.
    fov_radius : angle
        Radius of the fields of view in which sources and stars are looked for.
    radius : angle
        Radius of the region around a point source of a catalogue.
    stars : path, optional
        Catalogue of stars.
    magnitude_max : float
        Magnitude of the faintest star that is left out.
    star_radius : angle
        Radius of the region around a star.
    background : bool
        Whether the background maker leaves the regions out, too, for targets and
        mimics alike. Else it has the mask ``datasets.background.exclusion``, if any.
    """

    catalogs: list[str] = Field(default_factory=list)
    regions: Annotated[list[str], BeforeValidator(_to_texts)] = Field(
        default_factory=list
    )
    fov_radius: Radius = "2.5 deg"
    radius: Radius = "0.4 deg"
    stars: PathType | None = None
    magnitude_max: FiniteFloat = 6
    star_radius: Radius = "0.3 deg"
    background: bool = False

    @property
    def is_empty(self):
        """Whether nothing is excluded (bool)."""
        return not (self.catalogs or self.regions or self.stars)


class ScrambleConfig(GammapyBaseConfig):
    """How sources of an OFF field are hidden in its background.

    Attributes
    ----------
    method : {"annulus", "fill", "azimuth"}
        Method, see `~gammapy_mimic.ScrambleMaker`.
    width : angle, optional
        Half width of the annuli. Default is the radius of each region.
    """

    method: MethodEnum = "annulus"
    width: Radius | None = None


class PositionAxisConfig(GammapyBaseConfig):
    """Bins of equal width in the field of view.

    Attributes
    ----------
    max : angle, optional
        Largest offset, or longitude and latitude, which go from -max to max.
    nbins : int, optional
        Number of bins.
    """

    max: Radius | None = None
    nbins: Annotated[PositiveInt, Field(le=POSITION_BINS_MAX)] | None = None


class TemplateConfig(GammapyBaseConfig):
    """Background template that is made from the best OFF observations.

    Attributes
    ----------
    dimension : {"2d", "3d"}
        Dimension.
    smooth : {"gauss", "poly", "spline"}, optional
        Smoothing.
    smooth_options : dict
        Its option: ``sigma`` (angle), ``degree`` or ``n_intervals``.
    time_request : str, optional
        Livetime to stack, such as "10 h". Default are all good observations.
    obs_ids : list of int
        OFF observations that all templates are made of, but for those of the mimic set.
        Default is to select them for each target.
    energy_axis : `~gammapy.analysis.config.EnergyAxisConfig`
        Bins in energy. Default are 24 from 0.1 to 100 TeV.
    offset_axis : `PositionAxisConfig`
        Bins in offset, of "2d". Default are 10 up to 2.5 deg.
    fov_axis : `PositionAxisConfig`
        Bins in longitude and in latitude, of "3d". Default are 20 from -2.5 to 2.5 deg.
    keep_empty : bool
        Whether templates have all these energies, or those with exposure.
    """

    dimension: DimensionEnum = "2d"
    smooth: SmoothEnum | None = None
    smooth_options: dict[str, Any] = Field(default_factory=dict)
    time_request: str | None = None
    obs_ids: list[ObsId] = Field(default_factory=list)
    energy_axis: EnergyAxisConfig = EnergyAxisConfig()
    offset_axis: PositionAxisConfig = PositionAxisConfig()
    fov_axis: PositionAxisConfig = PositionAxisConfig()
    keep_empty: bool = False

    @field_validator("time_request")
    @classmethod
    def _check_time(cls, value):
        with contextlib.suppress(TypeError, ValueError):
            if value is None or 0 < u.Quantity(value).to_value("s") < np.inf:
                return value
        raise ValueError("must be a positive time such as '10 h'")


class SystematicsConfig(GammapyBaseConfig):
    """How the systematic error is estimated from the mimic sets.

    Attributes
    ----------
    correlation_radius : angle
        Radius in which counts are added.
    energy_edges : list of energy
        Edges of bands of energy. Default is one band.
    offset_edges : list of angle
        Edges of bands of offset. Default is none.
    radii : list of angle
        Radii of the table of the error by scale. Default is 0.05 to 1 deg.
    regions : list of str
        Regions in question, of maps: circles or files, as those of the exclusion.
    position : `~gammapy.analysis.config.SkyCoordConfig`
        Position of a possible source: ``frame``, ``lon`` and ``lat``.
    min_background : float
        Background counts that a position must have.
    nights : bool or str
        Whether errors are from the scatter of nights, those of OFF observations that
        begin less than 12 hours apart, or the column of the observation index that
        names the night. Default is the scatter of OFF observations.
    flux : bool
        Whether a source is fitted at the position, which takes most of the time.
    """

    correlation_radius: Radius = "0.1 deg"
    energy_edges: list[EnergyType] = Field(default_factory=list)
    offset_edges: list[AngleType] = Field(default_factory=list)
    radii: list[Radius] = Field(default_factory=list)
    regions: Annotated[list[str], BeforeValidator(_to_texts)] = Field(
        default_factory=list
    )
    position: SkyCoordConfig = SkyCoordConfig()
    min_background: PositiveFinite = 10
    nights: bool | str = False
    flux: bool = True

    @field_validator("energy_edges", "offset_edges")
    @classmethod
    def _check_edges(cls, value):
        is_rising = all(low < high for low, high in itertools.pairwise(value))
        if value and not (len(value) > 1 and is_rising and np.isfinite(value[-1])):
            raise ValueError("must be two or more rising edges")
        if value and value[0].value < 0:
            raise ValueError("must not be negative")
        return value

    @field_validator("position")
    @classmethod
    def _check_position(cls, value):
        if len({_ is None for _ in (value.frame, value.lon, value.lat)}) > 1:
            raise ValueError("needs all of frame, lon and lat")
        return value


class MimicConfig(GammapyBaseConfig):
    """Section ``mimic`` of the configuration.

    Attributes
    ----------
    target_query : str, optional
        Expression in the columns of the observation index that selects target
        observations, from those of the section ``observations``. Default is all.
    off : `OffConfig`
        OFF observations.
    links : list of path
        Folders that the indices of datastores may lead to, besides the datastores and
        what our own were linked from.
    strict : bool
        Whether a file that cannot be read is an error. Default is that its observation
        is left out, with a warning.
    selection : `OffSelectionConfig`
        How the OFF observation of a target is chosen.
    exclusion : `ExclusionConfig`
        Sources in the fields.
    scramble : `ScrambleConfig`, optional
        How sources of OFF fields are hidden. Default is not to.
    n_sets : int
        Number of mimic sets.
    livetime : {"cut", "whole"}
        Whether OFF observations that are longer than their target are cut, or all are
        used whole, and those that are too long are refused.
    alignment, time : str
        See `~gammapy_mimic.MimicMaker`.
    background : {"off", "target", "template"}
        Background IRF of the mimics. With "template", those of the targets are
        replaced, too.
    template : `TemplateConfig`
        Template, for ``background="template"``.
    random_state : int
        Seed of the plan and of the scrambling.
    write_datastore : bool
        Whether to write the mimic sets as datastores.
    write_datasets : {"all", "stacked", "none"}
        Which datasets are left in the end: those of ``datasets.stack``, one for the
        targets and one for each mimic set, or none. What is not kept is made again
        if another setting of ``systematics`` needs it.
    irfs : {"link", "copy"}
        Whether these link the IRFs of the OFF observations, or have copies.
    systematics : `SystematicsConfig`
        How the systematic error is estimated.
    pictures : bool
        Whether the pictures of the report are written as PNG and PDF, too, to
        ``report_files``.
    """

    target_query: str | None = None
    off: OffConfig = OffConfig()
    links: list[PathType] = Field(default_factory=list)
    strict: bool = False
    selection: OffSelectionConfig = OffSelectionConfig()
    exclusion: ExclusionConfig = ExclusionConfig()
    scramble: ScrambleConfig | None = None
    n_sets: Annotated[PositiveInt, Field(le=N_SETS_MAX)] = 5
    livetime: LivetimeEnum = "cut"
    alignment: AlignmentEnum = "auto"
    time: TimeEnum = "target"
    background: BackgroundEnum = "off"
    template: TemplateConfig = TemplateConfig()
    random_state: NonNegativeInt = 0
    write_datastore: bool = True
    write_datasets: KeptEnum = "all"
    irfs: IrfsEnum = "link"
    systematics: SystematicsConfig = SystematicsConfig()
    pictures: bool = False

    @property
    def selects_templates(self):
        """Whether OFF observations are selected for templates, and not given."""
        return self.background == "template" and not self.template.obs_ids


class _ConfigWithMimic(GammapyBaseConfig):
    """What Gammapy's configurations lack: the section, and errors that name the key."""

    mimic: MimicConfig | None = None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read from a YAML file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File.

        Returns
        -------
        config : `GammapyBaseConfig`
            Configuration.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not valid. Names the key and the line.
        """
        path = make_path(path)
        check_file(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no configuration file {path}.")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not a text file: {error}") from error
        lines = [line.strip() for line in text.splitlines()]
        if all(not line or line.startswith("#") for line in lines):
            raise ValueError(f"{path} is empty. Write one: gammapy-mimic init.")
        return cls._from_text(text, str(path))

    @classmethod
    def from_yaml(cls, config_str: str) -> Self:
        """Create from YAML text.

        Parameters
        ----------
        config_str : str
            YAML text.

        Returns
        -------
        config : `GammapyBaseConfig`
            Configuration.

        Raises
        ------
        ValueError
            If the text is not valid. Names the key and the line.
        """
        return cls._from_text(config_str, "configuration")

    @classmethod
    def _from_text(cls, text, source):
        try:
            node, data = load_yaml(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{source} is not valid YAML: {error}") from error
        data = {} if data is None else data
        if not isinstance(data, dict):
            raise ValueError(f"{source} must have keys such as 'observations:'.")
        data.pop("metadata", None)
        return cls.from_dict(data, source, node)

    @classmethod
    def from_dict(
        cls,
        data: dict[str, Any],
        source: str = "configuration",
        node: yaml.Node | None = None,
    ) -> Self:
        """Create from a dict.

        Parameters
        ----------
        data : dict
            Sections.
        source : str, optional
            Where they come from, for the message of an error.
        node : `yaml.Node`, optional
            Node of the data in a file, which knows the lines. Default is None.

        Returns
        -------
        config : `GammapyBaseConfig`
            Configuration.

        Raises
        ------
        ValueError
            If a value is not valid. Names the key, and the line if there is one.
        """
        problems = find_bad_texts(cls, data)
        if not problems:
            try:
                config = cls(**data)
            # Gammapy's types let a TypeError of astropy pass
            except (ValidationError, TypeError, ValueError) as error:
                problems = find_problems(cls, data, error)
            else:
                problems = find_bad_values(config)
        if problems:
            raise ValueError(describe_problems(problems, source, node))
        return config

    def to_yaml(self) -> str:
        """Write as YAML text. Without mimics, it is one that Gammapy reads.

        Returns
        -------
        text : str
            YAML text.
        """
        data = json.loads(self.model_dump_json())
        if self.mimic is None:
            del data["mimic"]
        return to_yaml(data)

    def set_logging(self) -> None:
        """Set the logging, as Gammapy does, also with a file and no mode for it.

        Does nothing if that was done before, see `start_logging`.
        """
        if not logging.getLogger().handlers:
            start_logging(self.general.log)

    def update(self, config: str | GammapyBaseConfig | None = None) -> Self:
        """Update with other settings.

        Parameters
        ----------
        config : str or `GammapyBaseConfig`
            YAML text, or a configuration of which the values count that are not
            defaults. In a text, those that are defaults count as well.

        Returns
        -------
        config : `GammapyBaseConfig`
            New configuration.

        Raises
        ------
        TypeError
            If it is something else.
        """
        if isinstance(config, str):
            new = self.from_yaml(config).model_dump(exclude_unset=True)
        elif isinstance(config, AnalysisConfig | WorkflowConfig):
            new = config.model_dump(exclude_defaults=True)
        else:
            raise TypeError(
                f"config must be YAML text or a configuration, got {config!r}"
            )
        return type(self)(**deep_update(self.model_dump(exclude_defaults=True), new))


class MimicAnalysisConfig(_ConfigWithMimic, AnalysisConfig):
    """`~gammapy.analysis.AnalysisConfig` with a section ``mimic``.

    Attributes
    ----------
    mimic : `MimicConfig`, optional
        Mimics to make. Default is none: an analysis as by Gammapy alone.

    Examples
    --------
    >>> config = MimicAnalysisConfig.read("config.yaml")  # doctest: +SKIP
    >>> config.mimic.n_sets = 3  # doctest: +SKIP
    """


class MimicWorkflowConfig(_ConfigWithMimic, WorkflowConfig):
    """`~gammapy.workflow.WorkflowConfig` with a section ``mimic``.

    Attributes
    ----------
    mimic : `MimicConfig`, optional
        Mimics to make, by the steps of `gammapy_mimic.analysis.workflow`.
    """
