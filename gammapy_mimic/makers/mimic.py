"""Put the events of an OFF observation into the field of view of a target."""

import copy
import logging
import operator
import uuid
from types import MappingProxyType
from typing import Any

import numpy as np
from astropy.coordinates import AltAz
from astropy.table import Column
from gammapy.data import (
    GTI,
    Observation,
    ObservationFilter,
)
from gammapy.makers import MapDatasetMaker
from gammapy.utils.metadata import (
    ObsInfoMetaData,
    PointingInfoMetaData,
)

from ..data.cut import cut_observation
from ..data.events import replace_table, update_sky_columns
from ..data.headers import ALIGNMENT_KEYS, derive_header, make_time_info
from ..data.irfs import (
    ENERGY_TOLERANCE,
    get_common_range,
    get_fov_alignment,
    get_safe_range,
    scale_rate,
)
from ..data.meta_tables import make_range_columns, make_range_keys
from ..data.obs_ids import NO_PARTNER, get_obs_id
from ..data.observation import (
    IRF_NAMES,
    PoolLike,
    get_altaz_pointing,
    get_fixed_pointing,
    get_good_events,
    get_gti,
    get_hdu,
    get_livetime_fraction,
    get_location,
    get_off_observation,
    load_events_file,
    replace_background,
    to_pool,
)
from ..selection.plan import MimicPlan, PlanLike
from ..utils.coordinates import move_altaz, move_radec
from ..version import __version__
from .core import ObservationMaker, check_dataset_maker, check_option, check_type
from .scramble import ScrambleMaker
from .selector import KLBackgroundSelector

__all__ = ["MimicMaker"]

log = logging.getLogger(__name__)

TARGET_KEYS = ("OBJECT", "RA_OBJ", "DEC_OBJ", "CONV_RA", "CONV_DEC", "CONV_DEP")
LOCATION_KEYS = ("GEOLON", "GEOLAT", "GEOALT", "ALTITUDE")
CUT_KEYS = ("MIM_TSTA", "MIM_TSTO")

_WARNED: set[str] = set()
"""Tokens of the makers that have warned: once, also if they are sent to a process of a
pool with each of its tasks."""


def _check_mimic_set(value):
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"mimic_set must be an integer, got {value!r}") from None


class MimicMaker(ObservationMaker):
    """Put the events of a matching OFF observation into the field of view of a target.

    Of an OFF observation that the plan cuts, only that part of the good time is used.
    The result has events, GTI and IRFs of the OFF observation, and pointing and OBS_ID
    of the target. Every event keeps its offset and its position angle in the field of
    view (``alignment="radec"``), or its camera position (``"altaz"``), to rounding.

    Approximations: the OFF observation was taken at other zenith and azimuth angles,
    under another night sky; ``background="off"`` keeps the background model that
    belongs to the events. With ``"radec"`` a background that is fixed in the camera
    is smeared by the field rotation of the OFF observation, not of the target.

    Parameters
    ----------
    off_observations : `~gammapy.data.DataStore`, `~gammapy.data.Observations` or list
        OFF observations.
    plan : `~gammapy_mimic.selection.MimicPlan`, `~astropy.table.Table` or dict
        Plan, or its table, or ``{obs_id: off_obs_id}``, or a file with it.
    mimic_set : int, optional
        Set of the plan. Default is 1.
    alignment : {"auto", "radec", "altaz"}, optional
        What the camera position of an event is aligned with. "auto" takes the
        alignment of the background IRF of the OFF observation. Default is "auto".
    time : {"target", "off"}, optional
        "target" shifts events and GTI to the start of the target observation, "off"
        keeps them. Default is "target".
    background : {"off", "target"} or `KLBackgroundSelector`, optional
        Whose background IRF the result has. That of the target is a rate per
        observation time, and converted to the dead time of the OFF observation, whose
        events it is for. A selector makes a template for each mimic, for the
        conditions of the OFF observation, whose events it is for, and without all OFF
        observations of the mimic set. Those of targets are made alike by a selector
        with the same ``plan``. Default is "off".
    scramble : `ScrambleMaker`, optional
        Applied to the OFF observation before it is moved, with other random numbers in
        each mimic set. Default is None.
    dataset_maker : `~gammapy.makers.MapDatasetMaker`, optional
        Maker of the maps in a chain, or a `~gammapy.makers.SpectrumDatasetMaker`: the
        one that the chain starts with, with all its options. Default is
        ``MapDatasetMaker()`` with the maps that the dataset has. Not for spectra.

    Raises
    ------
    ValueError
        If an option is not valid, or the plan is not.
    TypeError
        If the OFF observations, or one of the makers, are something else.

    Examples
    --------
    >>> maker = MimicMaker(data_store, {33787: 20275})  # doctest: +SKIP
    >>> mimic_observations = maker.make_observations(observations)  # doctest: +SKIP
    """

    tag = "MimicMaker"
    trace = "OFF_OBS_ID"
    available_alignments = ("auto", "radec", "altaz")
    available_times = ("target", "off")
    available_backgrounds = ("off", "target")
    checks = MappingProxyType(
        {
            "off_observations": to_pool,
            "plan": MimicPlan.create,
            "mimic_set": _check_mimic_set,
            "alignment": check_option("alignment", available_alignments),
            "time": check_option("time", available_times),
            "background": check_option(
                "background", available_backgrounds, KLBackgroundSelector
            ),
            "scramble": check_type("scramble", "a ScrambleMaker", ScrambleMaker),
            "dataset_maker": check_dataset_maker,
        }
    )

    def __init__(
        self,
        off_observations: PoolLike,
        plan: PlanLike,
        mimic_set: int = 1,
        alignment: str = "auto",
        time: str = "target",
        background: str | KLBackgroundSelector = "off",
        scramble: ScrambleMaker | None = None,
        dataset_maker: MapDatasetMaker | None = None,
    ) -> None:
        self._set(
            off_observations=off_observations,
            plan=plan,
            mimic_set=mimic_set,
            alignment=alignment,
            time=time,
            background=background,
            scramble=scramble,
            dataset_maker=dataset_maker,
        )

    def _update(self, changed):
        # raises an error if there is no such set
        _ = self._partners
        if self.alignment == "altaz" and self.time == "off":
            raise ValueError(_ALTAZ_NEEDS_TIME)
        other = getattr(self.background, "plan", None)
        is_other = other is not None and other is not self.plan
        if is_other and other.to_pairs() != self.plan.to_pairs():
            raise ValueError(
                "background: the plan of the selector is another one, so that the "
                "templates of targets and of mimics would not be alike. Give it the "
                "plan of the mimics."
            )
        # of the warnings, which are given once
        self._token = uuid.uuid4().hex

    @property
    def _partners(self):
        """OFF observation by target, of the plan as it is now."""
        return self.plan.partners(self.mimic_set)

    @property
    def _cuts(self):
        """Parts of OFF observations by target, of the plan as it is now."""
        return self.plan.cuts(self.mimic_set)

    def can_make(self, observation: Observation) -> bool:
        """Whether the plan has a partner for this observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.

        Returns
        -------
        can_make : bool
            Whether there is a partner.
        """
        return get_obs_id(observation) in self._partners

    def get_off_observation(self, observation: Observation) -> Observation:
        """Get the OFF observation that stands in for a target observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation.

        Returns
        -------
        off_observation : `~gammapy.data.Observation`
            OFF observation, or the part of it that the plan uses.

        Raises
        ------
        ValueError
            If the plan has no partner, or names one that is not there, or a part that
            is not in its good time or has no events.
        """
        if not self.can_make(observation):
            raise ValueError(
                f"OBS_ID {observation.obs_id} has no partner in mimic set "
                f"{self.mimic_set} of the plan. Leave it out or change the plan."
            )
        obs_id = get_obs_id(observation)
        off_obs_id = self._partners[obs_id]
        off = get_off_observation(self.off_observations, off_obs_id)
        cut = self._cuts.get(obs_id)
        if cut is None:
            return off
        try:
            part = cut_observation(off, *cut)
            if len(part.events.table) == 0:
                start, stop = cut
                raise ValueError(
                    f"the part from CUT_START, {start:.10g} s, to CUT_STOP, "
                    f"{stop:.10g} s, has no events. Change it, or set both to nan for "
                    "the whole."
                )
            return part
        except ValueError as error:
            raise ValueError(
                f"OBS_ID {obs_id} in mimic set {self.mimic_set} of the plan, with "
                f"OFF_OBS_ID {off_obs_id}: {error}"
            ) from error

    def make_observation(self, observation: Observation) -> Observation:
        """Make the mimic of a target observation.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Target observation. Its events are not read but for a template.

        Returns
        -------
        observation : `~gammapy.data.Observation`
            Events, GTI and IRFs of the OFF observation, with pointing and OBS_ID of
            the target. IRFs that are on disk are not read. The header of the events
            tells which part of the good time of the OFF observation is used, in s,
            unless it is all: MIM_TSTA and MIM_TSTO.

        Raises
        ------
        ValueError
            If there is no partner, the plan uses a part that is not there, the OFF
            observation has no valid events or no GTI, the target has no GTI, a location
            is missing (ALTAZ), one of them was taken in DRIFT mode, or the selector
            finds too few OFF observations for the template.
        """
        off = self.get_off_observation(observation)
        load_events_file(off)
        # what is read of the target is not kept
        target, observation = observation, copy.copy(observation)
        if self.scramble is not None:
            off = self.scramble.make_observation(off, self.mimic_set)
        target_header = load_events_file(observation, with_events=False)
        gti = get_gti(off)
        events, good = get_good_events(off, is_required=True)
        shift = None
        if self.time == "target":
            shift = get_gti(observation).time_start[0] - gti.time_start[0]
            start, stop = gti.time_start + shift, gti.time_stop + shift
            gti = GTI.create(start, stop, reference_time=gti.time_ref)
        # what scales the livetime: the events are filtered already
        filters = [
            _
            for _ in off.obs_filter.event_filters
            if _["type"] == "custom" and _["opts"].get("parameter") == "PHASE"
        ]
        obs_filter = ObservationFilter(event_filters=filters)
        header = self._merge_headers(observation, off, target_header, events.table.meta)
        fraction = 1 - off.observation_dead_time_fraction
        fraction *= obs_filter.livetime_fraction
        header.update(derive_header(header, gti, fraction))

        mimic = Observation(
            obs_id=get_obs_id(observation),
            meta=self._make_meta(observation, off, gti, header),
            gti=gti,
            events=self._move_events(observation, off, events, good, shift, header),
            pointing=observation.pointing,
            location=_get_location(observation, off),
            obs_filter=obs_filter,
            **self._get_irfs(observation, off),
        )
        if isinstance(self.background, KLBackgroundSelector):
            args = target, mimic, self.plan, self.mimic_set
            bkg = self.background.make_mimic_background(*args)
            # Gammapy would mirror it, as it does the IRFs of old H.E.S.S. files
            mimic.events.table.meta["HDUVERS"] = "0.3"
            mimic = replace_background(mimic, bkg)
        return mimic

    def make_columns(self, observation: Observation | None) -> dict[str, Any]:
        """Make the columns of a meta table that tell what a mimic was made of.

        They are ``OFF_OBS_ID``, -1 for an observation without partner, ``MIMIC_SET``,
        ``CUT_START`` and ``CUT_STOP``, those of the plan, NaN for an observation used
        whole, and ``ENERGY_MIN`` and ``ENERGY_MAX``, the energy range that is safe for
        target and OFF observation, as far as their effective areas tell (``LO_THRES``,
        ``HI_THRES``): outside of it, the mimic does not test the target. With
        ``scramble``, or a selector as ``background``, there are the columns of those
        makers as well.

        Parameters
        ----------
        observation : `~gammapy.data.Observation`
            Mimic observation, or a target without partner.

        Returns
        -------
        columns : dict
            Values by column.
        """
        obs_id = get_obs_id(observation)
        off_obs_id = self._partners.get(obs_id, NO_PARTNER)
        made = None if off_obs_id == NO_PARTNER else observation
        columns: dict[str, Any] = {}
        for maker in (self.scramble, self.background):
            if isinstance(maker, ObservationMaker):
                columns |= maker.make_columns(made)
        header = {}
        if made is not None:
            header = load_events_file(copy.copy(made), with_events=False)
        start, stop = self._cuts.get(obs_id, (np.nan, np.nan))
        columns |= {"OFF_OBS_ID": off_obs_id, "MIMIC_SET": self.mimic_set}
        columns |= {"CUT_START": start, "CUT_STOP": stop}
        return columns | make_range_columns(header)

    def _warn_of_unseen(self, observation, made):
        if self._token in _WARNED:
            return
        ranges = [get_safe_range(_) for _ in (observation, made)]
        if np.allclose(*ranges, rtol=ENERGY_TOLERANCE):
            return
        _WARNED.add(self._token)
        off_obs_id = self._partners[get_obs_id(observation)]
        target, off = ("{:.3g} to {:.3g} TeV".format(*_) for _ in ranges)
        log.warning(
            f"The safe energy range of OBS_ID {observation.obs_id} is {target}, that "
            f"of its OFF observation {off_obs_id} is {off}. In a chain, "
            'SafeMaskMaker(["aeff-default"]) takes that of the target. For '
            "that of the events call MimicMaker.make_observations(observations) first, "
            "and reduce what it returns. Other observations may differ as well."
        )

    def _move_events(self, observation, off, events, good, shift, header):
        table = events.table[good.is_good]
        table.meta = header
        off_time = table["TIME"]
        if shift is not None:
            table["TIME"] = off_time + shift

        coords = good.ra, good.dec
        pointings = get_fixed_pointing(off), get_fixed_pointing(observation)
        alignment = self.alignment
        if alignment == "auto":
            alignment = get_fov_alignment(off)
        if alignment == "altaz" and self.time == "off":
            raise ValueError(_ALTAZ_NEEDS_TIME)
        if alignment == "radec":
            coords = move_radec(*coords, *pointings)
        else:
            frames = [
                AltAz(obstime=time, location=get_location(obs))
                for obs, time in ((off, off_time), (observation, table["TIME"]))
            ]
            coords = move_altaz(*coords, *pointings, *frames)

        for name, values in zip(("RA", "DEC"), coords, strict=True):
            table[name] = Column(
                values, unit="deg", description=table[name].info.description
            )
        update_sky_columns(table, _get_location(observation, off))

        return replace_table(events, table)

    def _merge_headers(self, observation, off, target, off_header):
        """Make the header of the mimic from those of target and OFF observation."""
        pointing, off_pointing = (get_fixed_pointing(_) for _ in (observation, off))
        tracked = {
            "OBS_ID": get_obs_id(observation),
            **get_altaz_pointing(observation, target),
            # whatever the header of the target says
            "RA_PNT": float(pointing.ra.deg),
            "DEC_PNT": float(pointing.dec.deg),
        }
        provenance = {
            "MIM_OBS": get_obs_id(off),
            # the pointing that events are moved from
            "RA_ORG": float(off_pointing.ra.deg),
            "DEC_ORG": float(off_pointing.dec.deg),
            "RA_SRC": off_header.get("RA_OBJ"),
            "DEC_SRC": off_header.get("DEC_OBJ"),
            "MIM_SET": self.mimic_set,
            "MIM_SEED": self.plan.seed,
            "MIM_VERS": __version__,
            # where the mimic tests the target
            **make_range_keys(get_common_range([observation, off])),
        }
        # also of what is not in both headers
        for key, value in (off_header | get_altaz_pointing(off, off_header)).items():
            if key.endswith("_PNT"):
                provenance.setdefault(f"{key[:-4]}_ORG", value)

        header = {
            key: copy.deepcopy(value)
            for key, value in off_header.items()
            if not key.endswith(("_PNT", "_ORG")) and key not in TARGET_KEYS + CUT_KEYS
        }
        cut = self._cuts.get(get_obs_id(observation), ())
        header.update(zip(CUT_KEYS, cut, strict=False))
        for key in target:
            if key.endswith("_PNT") or key in TARGET_KEYS + LOCATION_KEYS:
                header[key] = target[key]
        header.update(tracked)
        # FITS has no None
        header.update({k: v for k, v in provenance.items() if v is not None})

        if self.background == "target":
            # Gammapy decides by them how to read the background of old H.E.S.S. files
            for key in ALIGNMENT_KEYS:
                header.pop(key, None)
                if key in (observation.meta.optional or {}):
                    header[key] = observation.meta.optional[key]
        return header

    def _make_meta(self, observation, off, gti, header):
        pointing = get_fixed_pointing(observation)
        update = {
            # one that was made in memory may have none
            "pointing": observation.meta.pointing
            or PointingInfoMetaData(radec_mean=pointing),
            "target": observation.meta.target,
            "location": _get_location(observation, off),
            "time_info": make_time_info(gti),
        }
        obs_id = get_obs_id(observation)
        obs_info = off.meta.obs_info or ObsInfoMetaData(obs_id=obs_id)
        update["obs_info"] = obs_info.model_copy(update={"obs_id": obs_id})
        # Gammapy reads them here, and not in the header
        keys = dict.fromkeys([*(off.meta.optional or {}), *ALIGNMENT_KEYS])
        update["optional"] = {key: header[key] for key in keys if key in header}
        return off.meta.model_copy(update=update)

    def _get_irfs(self, observation, off):
        """Get the IRFs, which stay on disk unless the background is to be scaled."""
        irfs = {name: get_hdu(off, name) for name in IRF_NAMES}
        if self.background == "target":
            irfs["bkg"] = get_hdu(observation, "bkg")
            target, other = map(get_livetime_fraction, (observation, off))
            if irfs["bkg"] is not None and not np.isclose(target, other, rtol=1e-9):
                # a rate per observation time, but events come in the livetime
                irfs["bkg"] = scale_rate(observation.bkg, other / target)
        return irfs


_ALTAZ_NEEDS_TIME = (
    "The ALTAZ alignment needs time='target': at the time of the OFF observation the "
    "target's field of view has another orientation. For alignment='auto' the "
    "background IRF of the OFF observation says ALTAZ."
)


def _get_location(observation, off):
    location = observation.observatory_earth_location
    return off.observatory_earth_location if location is None else location
