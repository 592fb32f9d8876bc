"""What IRFs tell without being read whole, and background rates."""

import functools
import hashlib

import numpy as np
from gammapy.irf import FoVAlignment
from gammapy.utils.fits import HDULocation

from .events import read_column
from .files import read_fits_header
from .headers import to_float
from .observation import get_hdu

__all__ = [
    "convert_dead_time",
    "get_background_version",
    "get_common_range",
    "get_fov_alignment",
    "get_safe_range",
    "interpolate_area",
    "is_in_safe_range",
    "parse_safe_range",
    "scale_rate",
]

ENERGY_TOLERANCE = 1e-5
"""By which edges of bins and safe ranges may differ: files may hold them as float32."""

AREA_OFFSET = 0.5
"""Offset in deg at which effective areas are taken, about that of a source from most
pointings: archives of point-like IRFs may have no other."""

AREA_COLUMNS = {
    **dict.fromkeys(("ENERG_LO", "ENERG_HI"), "TeV"),
    **dict.fromkeys(("THETA_LO", "THETA_HI"), "deg"),
    "EFFAREA": "m2",
}
"""Columns of an effective area, and the units in which they are handled."""


def get_fov_alignment(observation):
    """Get the alignment of the background IRF, reading no more than its header.

    A `~gammapy.irf.Background2D` depends on the offset alone, and counts as RADEC, as
    does an observation without background.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    alignment : {"radec", "altaz"}
        Alignment. The REVERSE_LON_RADEC of old H.E.S.S. files is "radec".
    """
    bkg = get_hdu(observation, "bkg")
    if isinstance(bkg, HDULocation):
        if bkg.hdu_class != "bkg_3d":
            return "radec"
        path = bkg.path()
        # the time of the file, so that one written anew is read anew
        alignment = _read_fov_alignment(path, bkg.hdu_name, path.stat().st_mtime_ns)
    elif getattr(bkg, "has_offset_axis", True):
        return "radec"
    else:
        alignment = bkg.fov_alignment
    return "altaz" if FoVAlignment(alignment) is FoVAlignment.ALTAZ else "radec"


@functools.cache
def _read_fov_alignment(path, hdu_name, mtime):
    """Alignment in a file that was changed at a given time."""
    return read_fits_header(path, hdu_name).get("FOVALIGN", "RADEC")


def get_background_version(observation):
    """Get what changes if the background IRF of an observation does, without reading.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    version : tuple or None
        Place, size and time of its file; its unit, axes and a hash of its data if it is
        in memory; None if there is none, or no such file.
    """
    bkg = get_hdu(observation, "bkg")
    if bkg is None:
        return None
    if isinstance(bkg, HDULocation):
        path = bkg.path()
        if not path.is_file():
            return None
        # a hash would need the data, which are most of the file
        stat = path.stat()
        return str(path), bkg.hdu_name, stat.st_size, stat.st_mtime_ns
    content = hashlib.sha256(np.ascontiguousarray(bkg.data).tobytes()).hexdigest()
    axes = [(_.name, str(_.unit), _.edges.value.tolist()) for _ in bkg.axes]
    return str(bkg.unit), axes, content


def scale_rate(bkg, factor, **meta):
    """Scale the rate of a background IRF.

    Parameters
    ----------
    bkg : `~gammapy.irf.BackgroundIRF`
        Background. Not changed.
    factor : float
        Factor.
    **meta : dict
        Entries of ``meta`` to change.

    Returns
    -------
    bkg : `~gammapy.irf.BackgroundIRF`
        Background.
    """
    options = {} if bkg.has_offset_axis else {"fov_alignment": bkg.fov_alignment}
    if hasattr(bkg, "neff"):
        options["neff"] = bkg.neff
    meta = {**(bkg.meta or {}), **meta}
    data, axes = bkg.data * factor, list(bkg.axes)
    return type(bkg)(axes=axes, data=data, unit=bkg.unit, meta=meta, **options)


def get_safe_range(observation):
    """Get the safe energy range of an observation, reading no more than a header.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation.

    Returns
    -------
    low, high : float
        Range in TeV, see `parse_safe_range`.
    """
    aeff = get_hdu(observation, "aeff")
    if isinstance(aeff, HDULocation):
        path = aeff.path()
        # the time of the file, so that one written anew is read anew
        return _read_safe_range(path, aeff.hdu_name, path.stat().st_mtime_ns)
    return parse_safe_range(getattr(aeff, "meta", None) or {})


@functools.cache
def _read_safe_range(path, hdu_name, mtime):
    """Safe range in a file that was changed at a given time."""
    return parse_safe_range(read_fits_header(path, hdu_name))


def get_common_range(observations):
    """Get the energy range that is safe for all of several observations.

    Parameters
    ----------
    observations : list of `~gammapy.data.Observation`
        Observations.

    Returns
    -------
    low, high : float
        Range in TeV, see `parse_safe_range`.
    """
    low, high = zip(*map(get_safe_range, observations), strict=True)
    return max(low), min(high)


def is_in_safe_range(edges, energy_min, energy_max):
    """Whether energy bins are inside the safe ranges of observations.

    Parameters
    ----------
    edges : `~numpy.ndarray`
        Edges of the energy bins. Shape (n_energy + 1,).
    energy_min, energy_max : float or `~numpy.ndarray`
        Safe range of each observation, in the unit of the edges. Shape (n_obs,), or
        that of one observation.

    Returns
    -------
    is_safe : `~numpy.ndarray` of bool
        Whether a bin is inside. Shape (n_obs, n_energy), or (n_energy,).
    """
    limits = energy_min, energy_max
    low, high = (np.asarray(_, dtype=float)[..., np.newaxis] for _ in limits)
    # a bin that the limit cuts is left out, as its rate is not that of the whole bin
    above = edges[:-1] >= low * (1 - ENERGY_TOLERANCE)
    return above & (edges[1:] <= high * (1 + ENERGY_TOLERANCE))


def parse_safe_range(header):
    """Get the safe energy range from the header of an effective area.

    Parameters
    ----------
    header : dict-like
        Header, with ``LO_THRES`` and ``HI_THRES`` or without.

    Returns
    -------
    low, high : float
        Range in TeV, 0 to infinity where the header does not tell.
    """
    low, high = (to_float(header.get(key)) for key in ("LO_THRES", "HI_THRES"))
    return low if low > 0 else 0.0, high if high > 0 else np.inf


def interpolate_area(table, energy):
    """Interpolate an effective area at `AREA_OFFSET`, in the logarithm of energy.

    Gammapy takes longer to make its IRF than an event list to be read.

    Parameters
    ----------
    table : `~astropy.io.fits.FITS_rec` or `~astropy.table.Table`
        Effective area in the format of GADF (AEFF_2D), of events in a circle or of all.
    energy : `~numpy.ndarray`
        True energies, in TeV. Shape (n_energy,).

    Returns
    -------
    area : `~numpy.ndarray`
        Effective area in m2, that of the nearest offset if there is none on either
        side. NaN beyond the energies of the table. Shape (n_energy,).

    Raises
    ------
    KeyError, ValueError
        If a column is missing, or its values make no sense.
    """
    low, high, offset_low, offset_high, area = (
        read_column(table, name, unit)[0] for name, unit in AREA_COLUMNS.items()
    )
    nodes, offset = np.sqrt(low * high), (offset_low + offset_high) / 2
    if not (low[0] > 0 and np.all(np.diff(nodes) > 0) and np.all(np.diff(offset) > 0)):
        raise ValueError("an effective area with energies or offsets that do not rise")
    position = np.interp(AREA_OFFSET, offset, np.arange(len(offset)))
    idx, weight = int(position), position % 1
    area = (1 - weight) * area[idx] + weight * area[min(idx + 1, len(offset) - 1)]
    area = np.where(area >= 0, area, np.nan)
    return np.interp(np.log(energy), np.log(nodes), area, np.nan, np.nan)


def convert_dead_time(bkg, livetime_fraction):
    """Convert a template to another dead time.

    Parameters
    ----------
    bkg : `~gammapy.irf.BackgroundIRF`
        Template. Not changed. One that does not tell its dead time (DEADC in ``meta``)
        is returned as it is.
    livetime_fraction : float
        Livetime over observation time of what the template is for.

    Returns
    -------
    bkg : `~gammapy.irf.BackgroundIRF`
        Template.
    """
    meta = bkg.meta or {}
    if "DEADC" not in meta:
        return bkg
    # events come in the livetime, Gammapy multiplies the rate by the observation time
    factor = livetime_fraction / meta["DEADC"]
    return scale_rate(bkg, factor, DEADC=float(livetime_fraction))
