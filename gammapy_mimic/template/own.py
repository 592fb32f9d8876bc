"""A background template from the run itself, where there is no archive."""

import copy

import numpy as np
from gammapy.data import Observation

from ..data.observation import load_events_file
from ..utils.angles import check_angle
from .core import make_template_counts

__all__ = ["OWN_METHODS", "make_own_counts", "make_own_template"]

OWN_METHODS = {"radial": "2d", "masked": "3d", "rotated": "3d"}
"""Dimension of the template by method."""


def make_own_template(
    observation,
    method="radial",
    smooth=None,
    smooth_options=None,
    keep_empty=False,
    **options,
):
    """Make a background template from the events of the observation that it is for.

    For an observation without an archive of OFF observations. It is an approximation:
    *what is looked for may be in its own background*. Exclude the known sources, and
    where one is looked for. A source that is not excluded subtracts itself: the more
    the brighter it is with "masked", its share of the ring with "radial"; with
    "rotated" it makes a hole on the other side. Emission that is extended over rings of
    the field of view (FoV) subtracts itself with any method.

    There are no more events in the template than in the observation. With "masked" its
    fluctuations are those of the counts, and significances come out too small. With
    "rotated" they add to those of the counts, and significances scatter too much, but
    less if smoothed.

    =========  =========  ============================  =========================
    method     dimension  rate at a position            gradient over the FoV
    =========  =========  ============================  =========================
    "radial"   2D         mean of its ring              averaged
    "masked"   3D         its own, in excluded bins     kept, but smooth in
                          a smooth shape                excluded bins
    "rotated"  3D         that of the positions turned  turned with them: opposite
                          about the pointing, counts    for 180 deg, averaged for
                          and unmasked exposure alike   angles all around
    =========  =========  ============================  =========================

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. Not changed.
    method : {"radial", "masked", "rotated"}, optional
        Method. Default is "radial".
    smooth, smooth_options, keep_empty
        As for `make_template`.
    **options : dict, optional
        As for `make_own_counts`.

    Returns
    -------
    bkg : `~gammapy.irf.Background2D` or `~gammapy.irf.Background3D`
        Background rate, in s-1 TeV-1 sr-1, for the dead time of the observation, see
        `make_template`.

    Raises
    ------
    ValueError
        If an option is not valid, or `make_template` raises it.
    """
    counts = make_own_counts(observation, method, **options)
    return counts.to_irf(smooth, smooth_options, keep_empty=keep_empty)


def make_own_counts(observation, method="radial", angles=None, **options):
    """Count the events of an observation for a template of its own.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. Not changed.
    method : {"radial", "masked", "rotated"}, optional
        Method, see `make_own_template`. Default is "radial".
    angles : list of `~astropy.units.Quantity` or of str, optional
        Angles of "rotated", by which a position is turned, from north to growing RA or
        azimuth. 0 deg is the position itself. Default is 180 deg.
    **options : dict, optional
        Axes, exclusion regions and alignment, as for `make_template_counts`.

    Returns
    -------
    counts : `TemplateCounts`
        Counts and exposure, of several angles their mean.

    Raises
    ------
    ValueError
        If the method or an angle is not valid.
    """
    if not isinstance(observation, Observation):
        raise TypeError(f"It must be one Observation, got {observation!r}.")
    if method not in OWN_METHODS:
        raise ValueError(f"method must be one of {list(OWN_METHODS)}, got {method!r}.")
    if method != "rotated":
        if angles is not None:
            raise ValueError(f'angles are for method="rotated", not {method!r}.')
        return make_template_counts(observation, OWN_METHODS[method], **options)
    return _count_rotated(observation, _check_angles(angles), **options)


def _check_angles(angles):
    """List of different angles."""
    angles = ["180 deg"] if angles is None else angles
    if isinstance(angles, str) or not np.iterable(angles) or len(angles) == 0:
        raise ValueError(
            f"angles must be a list of angles such as ['180 deg'], got {angles!r}."
        )
    angles = [
        check_angle("angles", _, low=-360, high=360, with_low=True) for _ in angles
    ]
    degrees = [_.deg for _ in angles]
    if len({round(_ % 360, 6) for _ in degrees}) < len(angles):
        text = ", ".join(f"{_:g} deg" for _ in degrees)
        raise ValueError(f"angles has the same angle twice, got {text}.")
    return angles


def _count_rotated(observation, angles, **options):
    """Mean of the counts, and of the exposures, turned by angles.

    Not their sum: it has no more events than the observation.
    """
    # read once for all angles
    observation = copy.copy(observation)
    load_events_file(observation)
    parts = [
        make_template_counts(observation, "3d", angle=_, **options) for _ in angles
    ]
    total = parts[0]
    for name in ("counts", "spectra", "areas", "moments"):
        setattr(total, name, sum(getattr(_, name) for _ in parts) / len(parts))
    return total
