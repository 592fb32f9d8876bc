"""Values that make no sense, where Gammapy's configuration takes them."""

import numpy as np

from ..template.smoothing import check_smooth
from ..utils.angles import to_angle
from .config_text import get_field_model

__all__ = ["find_bad_texts", "find_bad_values"]

ANGLES = {
    "datasets.geom.wcs.binsize": 10,
    "datasets.geom.wcs.binsize_irf": 10,
    "datasets.geom.wcs.width.width": 360,
    "datasets.geom.wcs.width.height": 180,
    "datasets.geom.selection.offset_max": 90,
    "datasets.on_region.radius": 90,
    "observations.obs_cone.radius": 180,
}
"""Angles that must be positive, and the largest in deg that makes sense."""

AXES = ("datasets.geom.axes.energy", "datasets.geom.axes.energy_true")
TEMPLATE_AXES = {"energy_axis": None, "offset_axis": "2d", "fov_axis": "3d"}
"""Dimension of the templates that have the axis, None for any."""

N_BINS_MAX = 10_000
N_PIXELS_MAX = 20_000
"""Bins of energy, and pixels of a side of a map."""


def find_bad_values(config):
    """Find values of Gammapy's sections that make no sense.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig`
        Configuration.

    Returns
    -------
    problems : list of tuple
        Keys, and what is wrong with the value.
    """
    problems = []

    def check(is_good, key, what, value):
        if not is_good:
            problems.append((key.split("."), f"must be {what}, got {value}"))

    n_jobs, wcs = config.general.n_jobs, config.datasets.geom.wcs
    check(n_jobs >= 1, "general.n_jobs", "at least 1", n_jobs)
    for key, largest in ANGLES.items():
        angle = _get_value(config, key)
        is_good = angle is None or 0 < angle.deg <= largest
        check(is_good, key, f"above 0 and at most {largest} deg", angle)
    is_given = {_ is not None for _ in (wcs.skydir.lon, wcs.skydir.lat)}
    is_whole = len(is_given) == 1 and (wcs.skydir.frame or is_given == {False})
    what = "frame, lon and lat, or none of them"
    check(is_whole, "datasets.geom.wcs.skydir", what, wcs.skydir)
    if config.mimic is not None:
        _check_template(config.mimic.template, check)
        key = "mimic.systematics.regions"
        regions = config.mimic.systematics.regions
        is_good = not regions or config.datasets.type == "3d"
        check(is_good, key, "left out, as spectra are those of one region", regions)
        is_good = not (config.mimic.systematics.nights and config.datasets.stack)
        key, what = "mimic.systematics.nights", "left out with datasets.stack: true"
        check(is_good, key, what, config.mimic.systematics.nights)
    for key in _get_axes(config):
        axis = _get_value(config, key)
        for name in ("min", "max"):
            energy = getattr(axis, name)
            is_good = energy is None or 0 < energy.value < np.inf
            check(is_good, f"{key}.{name}", "positive and finite", energy)
        is_good = None in (axis.min, axis.max) or axis.min < axis.max
        check(is_good, f"{key}.max", f"above min, which is {axis.min}", axis.max)
        is_good = axis.nbins is None or 1 <= axis.nbins <= N_BINS_MAX
        check(is_good, f"{key}.nbins", f"from 1 to {N_BINS_MAX}", axis.nbins)
    if not problems and config.datasets.type == "3d":
        side = max(wcs.width.width, wcs.width.height)
        is_good = side / wcs.binsize <= N_PIXELS_MAX
        what = f"at most {N_PIXELS_MAX} times wcs.binsize, {wcs.binsize}"
        check(is_good, "datasets.geom.wcs.width", what, side)
    return problems


def _get_axes(config):
    """Keys of the axes in energy."""
    is_mimic = config.mimic is not None
    return (*AXES, "mimic.template.energy_axis") if is_mimic else AXES


def _check_template(template, check):
    """Check what the keys of the section say together."""
    for name, dimension in TEMPLATE_AXES.items():
        axis, key = getattr(template, name), f"mimic.template.{name}"
        is_given = {_ is not None for _ in axis.model_dump().values()}
        what = f"all of {', '.join(type(axis).model_fields)}, or none of them"
        check(len(is_given) == 1, key, what, axis)
        is_used = dimension in (None, template.dimension)
        what = f"left out, as it is for dimension: {dimension}"
        check(is_used or is_given == {False}, key, what, axis)
    is_good = not (template.time_request and template.obs_ids)
    what = "left out, as there are obs_ids, which are all used"
    check(is_good, "mimic.template.time_request", what, template.time_request)
    try:
        check_smooth(template.smooth, template.smooth_options)
    except ValueError as error:
        key, what = "mimic.template.smooth_options", str(error).rstrip(".")
        check(False, key, f"valid ({what})", template.smooth_options)


def _get_value(config, key):
    for name in key.split("."):
        config = getattr(config, name)
    return config


def find_bad_texts(model, data, prefix=()):
    """Find texts that are empty, and values of angles that are none.

    For astropy, "1 m" is an angle; an empty path is the current folder.

    Parameters
    ----------
    model : type
        Model (`pydantic.BaseModel`).
    data : dict
        Its data.
    prefix : tuple of str, optional
        Keys of the section. Default is none.

    Returns
    -------
    problems : list of tuple
        Keys, and what is wrong.
    """
    problems = []
    for name, value in data.items():
        keys, section = (*prefix, name), get_field_model(model, name)
        if section is not None and isinstance(value, dict):
            problems += find_bad_texts(section, value, keys)
        elif isinstance(value, str) and not value.strip():
            problems.append((keys, "must not be empty"))
        elif name in model.model_fields and value is not None:
            if "Angle" not in str(model.model_fields[name].annotation):
                continue
            for item in value if isinstance(value, list) else [value]:
                try:
                    to_angle(item)
                except ValueError as error:
                    problems.append((keys, str(error)))
    return problems
