"""Whether the IRFs of observations fit the data reduction, before anything is made."""

import copy

import numpy as np
from gammapy.utils.fits import HDULocation

from ..data.datastore import find_hdu_types
from ..data.files import read_fits_header
from ..data.obs_ids import get_obs_id, shorten
from ..data.observation import get_hdu
from ..makers.reduction import raise_missing_background
from ..selection.criteria import MatchCriteria

__all__ = ["check_irfs", "check_region"]

NEEDED = {"exposure": "aeff", "edisp": "edisp", "psf": "psf", "background": "bkg"}
"""IRFs that maps are made of."""


def check_irfs(config, targets, off):
    """Raise an error if targets or OFF observations lack what the reduction needs.

    Index and headers are read, and RAD_MAX of one observation of a kind.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig`
        Configuration with a section ``mimic``.
    targets, off : `~gammapy.data.DataStore`
        Target and OFF observations.

    Raises
    ------
    ValueError
        If an IRF is missing, or point-like ones do not fit. Names the OBS_ID, the key
        and the way out.
    """
    datasets, background = config.datasets, config.mimic.background
    maps = {*datasets.map_selection}
    if datasets.type == "1d":
        maps = {"exposure", "edisp"}
        if datasets.containment_correction:
            maps.add("psf")
    excluded = MatchCriteria.create(config.mimic.selection.criteria).exclude_obs_ids
    # mimics have the IRFs of the OFF observations, and the background of this setting
    unused = {"off": set(), "target": {"off"}, "template": {"target", "off"}}
    for store, name, left_out in ((targets, "target", ()), (off, "off", excluded)):
        is_used = name not in unused[background]
        types = find_hdu_types(store)
        types = {obs_id: _ for obs_id, _ in types.items() if obs_id not in left_out}
        needed = maps if is_used else maps - {"background"}
        _check_missing(datasets.type, needed, types)
        for obs_ids in _group(types):
            _check_kind(datasets, maps, store, obs_ids)


def _check_missing(kind, maps, types):
    for name in sorted(maps & set(NEEDED)):
        irf = NEEDED[name]
        missing = sorted(obs_id for obs_id, _ in types.items() if irf not in _)
        if missing and name == "background":
            raise_missing_background(missing)
        if missing:
            raise ValueError(
                f"OBS_ID {shorten(missing)} have no {irf} in the HDU index, of which "
                f"{name} is made. Leave these observations out (OFF observations with "
                f"the criterion exclude_obs_ids){_get_way_out(kind, name)}."
            )


def _get_way_out(kind, name):
    """Say how to do without an IRF. Spectra need exposure and edisp in any case."""
    if kind == "3d":
        return f", or {name} (datasets.map_selection)"
    return ", or set datasets.containment_correction to false" * (name == "psf")


def _group(types):
    """Observations that have the same IRFs. Lists of OBS_ID."""
    kinds = {}
    for obs_id, names in sorted(types.items()):
        kinds.setdefault(frozenset(names), []).append(obs_id)
    return kinds.values()


def _check_kind(datasets, maps, store, obs_ids):
    """Check the first of these observations that can be read."""
    for obs_id in obs_ids:
        observation = store.obs(obs_id, [], require_events=False)
        try:
            is_pointlike = _is_pointlike(observation)
        # files that are broken are named when all are read
        except (OSError, KeyError):
            continue
        if datasets.type == "1d":
            check_region(datasets, observation)
        elif is_pointlike and maps & {"exposure", "edisp", "psf"}:
            raise ValueError(
                f"datasets.type: the IRFs of OBS_ID {obs_id} are point-like, for the "
                "events of a point source in a circle, and not for maps. Use type: 1d."
            )
        return


def _is_pointlike(observation):
    aeff = get_hdu(observation, "aeff")
    if isinstance(aeff, HDULocation):
        header = read_fits_header(aeff.path(), aeff.hdu_name)
        return str(header.get("HDUCLAS3", "")).strip().upper() == "POINT-LIKE"
    return bool(getattr(aeff, "is_pointlike", False))


def check_region(datasets, observation):
    """Raise an error if the region of spectra does not fit the IRFs.

    Parameters
    ----------
    datasets : `~gammapy.analysis.config.DatasetsConfig`
        Section ``datasets``.
    observation : `~gammapy.data.Observation`
        Observation.

    Raises
    ------
    ValueError
        If it does not.
    """
    # what is read is not kept
    observation, radius = copy.copy(observation), datasets.on_region.radius
    obs_id = get_obs_id(observation)
    where = f"datasets.on_region.radius: the IRFs of OBS_ID {obs_id}"
    if not _is_pointlike(observation):
        if radius is None:
            raise ValueError(f"{where} are not point-like, and need a radius.")
        return
    if datasets.containment_correction:
        raise ValueError(
            f"datasets.containment_correction: the IRFs of OBS_ID {obs_id} are "
            "point-like and have it. Set it to false."
        )
    rad_max = observation.rad_max
    if rad_max is None or radius is None:
        return
    if not rad_max.is_fixed_rad_max:
        raise ValueError(
            f"{where} are point-like, with a RAD_MAX that depends on energy or offset, "
            "which is the radius. Leave radius out."
        )
    expected = rad_max.quantity.to_value("deg").flat[0]
    if not np.isclose(radius.deg, expected, rtol=1e-3):
        raise ValueError(
            f"{where} are point-like, for {expected:.6g} deg (RAD_MAX), got "
            f"{radius.deg:.6g} deg."
        )
