"""Parameters of Gammapy's makers, by the keys of the configuration."""

import inspect

from gammapy.makers import (
    FoVBackgroundMaker,
    ReflectedRegionsBackgroundMaker,
    RingBackgroundMaker,
    SafeMaskMaker,
)

__all__ = ["check_parameters"]

MAKERS = {
    "fov_background": FoVBackgroundMaker,
    "reflected": ReflectedRegionsBackgroundMaker,
    "ring": RingBackgroundMaker,
}
"""Makers of the background by method."""

N_OFF_REGIONS = "n_off_regions"
"""Parameter of ours, of spectra in a region whose radius is RAD_MAX of the IRFs."""


def check_parameters(config, has_point_region=False):
    """Check that the makers of a configuration know their parameters.

    Parameters
    ----------
    config : `~gammapy_mimic.analysis.MimicAnalysisConfig`
        Configuration.
    has_point_region : bool, optional
        Whether RAD_MAX of the IRFs is the radius of the region of spectra. Default is
        False.

    Raises
    ------
    ValueError
        If one does not, or rings are asked for in several bins of energy. Names the
        key.
    """
    background, safe_mask = config.datasets.background, config.datasets.safe_mask
    nbins, method = config.datasets.geom.axes.energy.nbins, background.method
    if method is not None:
        own = [N_OFF_REGIONS] * (has_point_region and method == "reflected")
        _check("datasets.background", MAKERS[method], background.parameters, own)
    _check("datasets.safe_mask", SafeMaskMaker, safe_mask.parameters)
    if method == "ring" and config.mimic is None and nbins not in (None, 1):
        raise ValueError(
            f"datasets.geom.axes.energy.nbins: must be 1 for the background method "
            f"'ring', got {nbins}. With a section mimic, maps are summed over energy "
            "before."
        )


def _check(key, maker, parameters, own=()):
    known = [*inspect.signature(maker).parameters, *own]
    # that of the configuration has a key of its own
    known = [_ for _ in known if _ != "methods"]
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"{key}.parameters: {maker.__name__} has no parameter {name!r}. Choose "
                f"from {', '.join(known)}."
            )
