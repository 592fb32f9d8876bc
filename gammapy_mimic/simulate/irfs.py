"""Analytic IRFs."""

import astropy.units as u
import numpy as np
from astropy.coordinates import angular_separation
from gammapy.irf import (
    PSF3D,
    Background2D,
    Background3D,
    EffectiveAreaTable2D,
    EnergyDispersion2D,
    FoVAlignment,
    RadMax2D,
)
from gammapy.maps import MapAxes, MapAxis

__all__ = [
    "background_rate",
    "energy_threshold",
    "make_irfs",
    "make_point_like",
    "remove_background",
]


def energy_threshold(zenith):
    """Energy threshold in TeV for a zenith angle in deg: 0.3 TeV / cos(zenith)^2."""
    return 0.3 / np.cos(np.radians(zenith)) ** 2


def background_rate(energy, offset, zenith, width):
    r"""Background rate per energy and solid angle.

    Above the threshold it is a power law in energy at every offset, which the log
    interpolation and integration of Gammapy keep exactly, in bins of any width:

    .. math::
        R = R_0 \cos^{-2} z \, \min(1, E / E_{th})^4 \, E^{-2.7}
            \exp\left(-\frac{\theta^2}{2 \sigma^2} (1 - 0.1 \ln E)\right),
        \quad \sigma = w \cos^{-0.3} z

    The threshold rises with zenith angle such that the total rate goes about as
    :math:`\cos^{1.4} z`. The FoV gets wider with energy and with zenith angle.

    Parameters
    ----------
    energy, offset : `~numpy.ndarray`
        Energy, in TeV, and offset, in deg.
    zenith : float
        Zenith angle, in deg.
    width : float
        Width w of the FoV, in deg.

    Returns
    -------
    rate : `~numpy.ndarray`
        Rate, in s-1 TeV-1 sr-1.
    """
    cos_zenith = np.cos(np.radians(zenith))
    below_threshold = np.minimum(energy / energy_threshold(zenith), 1) ** 4
    spectrum = 230 * below_threshold * energy**-2.7 / cos_zenith**2
    sigma = width * cos_zenith**-0.3
    return spectrum * np.exp(-(offset**2) / 2 / sigma**2 * (1 - 0.1 * np.log(energy)))


def make_irfs(
    zenith,
    background="3d",
    fov_alignment="RADEC",
    rate=1.0,
    width="1.3 deg",
    gradient=0.0,
):
    """Make analytic IRFs for a zenith angle.

    Parameters
    ----------
    zenith : `~astropy.units.Quantity` or str
        Zenith angle, less than 80 deg.
    background : {"3d", "2d"}
        Background as a function of FoV position or of offset. Default is "3d".
    fov_alignment : {"RADEC", "ALTAZ"}
        Alignment of the FoV. Default is "RADEC".
    rate : float, optional
        Background rate relative to the default, which gives about 8000 events in
        28 min at a zenith angle of 20 deg.
    width : `~astropy.units.Quantity` or str, optional
        Gaussian width of the background at 1 TeV and at zenith. Default is 1.3 deg.
    gradient : float, optional
        Relative change of the background rate per deg along ``fov_lon``: the rate
        goes as ``exp(gradient * fov_lon)``. Only for "3d". Default is 0.

    Returns
    -------
    irfs : dict
        IRFs "aeff", "edisp", "psf" and "bkg". ``aeff.meta`` has the safe energy range
        in TeV, LO_THRES and HI_THRES, in which the background is a power law.
    """
    zenith = u.Quantity(zenith).to_value("deg")
    width = u.Quantity(width).to_value("deg")
    if not 0 <= zenith < 80:
        raise ValueError(f"zenith must be between 0 and 80 deg, got {zenith} deg.")
    if background not in ("2d", "3d"):
        raise ValueError(f"background must be '2d' or '3d', got {background!r}.")
    if gradient != 0 and background == "2d":
        raise ValueError(f"gradient={gradient} needs background='3d', got '2d'.")
    if not (rate > 0 and width > 0):
        raise ValueError(f"rate and width must be positive, got {rate}, {width} deg.")

    energy_axis = MapAxis.from_energy_bounds("0.1 TeV", "100 TeV", nbin=24)
    if background == "2d":
        cls = Background2D
        axes = [MapAxis.from_bounds(0, 3, 10, unit="deg", name="offset")]
    else:
        cls = Background3D
        fov_axis = MapAxis.from_bounds(-3, 3, 20, unit="deg", name="fov_lon")
        axes = [fov_axis, fov_axis.copy(name="fov_lat")]
    axes = MapAxes([energy_axis, *axes])
    # values at the centres, between which Gammapy interpolates
    energy, *position = axes.get_coord().values()
    offset = position[0] if background == "2d" else angular_separation(0, 0, *position)
    data = background_rate(energy.value, offset.to_value("deg"), zenith, width)
    # in the unit that GADF prescribes
    data *= 1e-6
    data *= rate
    if gradient:
        data *= np.exp(gradient * position[0].value)
    alignment = FoVAlignment(fov_alignment)
    meta = {"FOVALIGN": alignment.value}
    bkg = cls(axes, data, "s-1 MeV-1 sr-1", fov_alignment=alignment, meta=meta)
    return {**_make_gamma_irfs(zenith, energy_axis), "bkg": bkg}


def _make_gamma_irfs(zenith, energy_axis):
    """Effective area, energy dispersion and PSF."""
    # wider than that of the background, as events migrate
    axis = MapAxis.from_energy_bounds(
        "0.05 TeV", "200 TeV", nbin=30, name="energy_true"
    )
    offset_axis = MapAxis.from_bounds(0, 3, 6, unit="deg", name="offset")
    migra_axis = MapAxis.from_bounds(0, 2, 50, name="migra")
    rad_axis = MapAxis.from_bounds(0, 0.6, 120, unit="deg", name="rad")

    axes = MapAxes([axis, offset_axis])
    energy, offset = (_.value for _ in axes.get_coord().values())
    threshold = energy_threshold(zenith)
    area = 2e5 / np.cos(np.radians(zenith)) ** 2 / (1 + (threshold / energy) ** 3)
    # the background is interpolated over its threshold up to the next node
    nodes = energy_axis.center.value
    safe_range = nodes[nodes >= threshold].min(), energy_axis.edges[-1].value
    aeff = EffectiveAreaTable2D(
        axes=axes,
        data=area * np.exp(-(offset**2) / 8),
        unit="m2",
        meta=dict(zip(["LO_THRES", "HI_THRES"], safe_range, strict=True)),
    )
    edisp = EnergyDispersion2D.from_gauss(axis, migra_axis, offset_axis, 0, 0.15)

    axes = MapAxes([axis, offset_axis, rad_axis])
    energy, offset, rad = (_.value for _ in axes.get_coord().values())
    sigma = 0.06 * energy**-0.2 * (1 + 0.05 * offset**2)
    density = np.exp(-(rad**2) / 2 / sigma**2) / (2 * np.pi * np.radians(sigma) ** 2)
    return {"aeff": aeff, "edisp": edisp, "psf": PSF3D(axes, density, unit="sr-1")}


def remove_background(irfs):
    """Make IRFs without a background, as several archives have them.

    Parameters
    ----------
    irfs : dict
        IRFs. Not changed.

    Returns
    -------
    irfs : dict
        IRFs without "bkg".
    """
    return {name: irf for name, irf in irfs.items() if name != "bkg"}


def make_point_like(irfs, rad_max="0.1 deg"):
    """Make point-like IRFs: of the events in a circle around a point source.

    Parameters
    ----------
    irfs : dict
        IRFs "aeff", "edisp" and "psf" of full enclosure. Not changed.
    rad_max : `~astropy.units.Quantity` or str, or a list of two, optional
        Radius of the circle, which the header of "aeff" and "edisp" tells (RAD_MAX).
        Of two, the first is that below 1 TeV, the second that above, which the table
        "rad_max" tells. Default is 0.1 deg.

    Returns
    -------
    irfs : dict
        IRFs "aeff" and "edisp", and maybe "rad_max".
    """
    is_table = isinstance(rad_max, list | tuple)
    low, high = (u.Quantity(_) for _ in (rad_max if is_table else [rad_max] * 2))
    if not (low > 0 and high > 0):
        raise ValueError(f"rad_max must be positive, got {rad_max}.")
    aeff, edisp, psf = (irfs[name] for name in ("aeff", "edisp", "psf"))
    energy, offset = aeff.axes.get_coord().values()
    containment = psf.containment(
        rad=np.where(energy < 1 * u.TeV, low, high), energy_true=energy, offset=offset
    )
    meta = {"HDUCLAS3": "POINT-LIKE"}
    made = {}
    if is_table:
        axis = MapAxis.from_energy_edges([0.05, 1, 200] * u.TeV)
        axes = [axis, MapAxis.from_edges([0, 3] * u.deg, name="offset")]
        data = u.Quantity([low, high])[:, np.newaxis]
        made["rad_max"] = RadMax2D(axes=axes, data=data.to("deg"), unit="deg")
    else:
        meta["RAD_MAX"] = low.to_value("deg")
    for name, irf in {"aeff": aeff, "edisp": edisp}.items():
        made[name] = type(irf)(
            axes=irf.axes,
            data=irf.quantity * containment if name == "aeff" else irf.quantity,
            meta={**(irf.meta or {}), **meta},
            is_pointlike=True,
        )
    return made
