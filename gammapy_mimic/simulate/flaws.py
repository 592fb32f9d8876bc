"""Flaws of a background: what events have, and the background IRF has not."""

from typing import NamedTuple

import numpy as np
from astropy.coordinates import angular_separation

from .irfs import make_irfs

__all__ = ["BackgroundFlaw"]


class BackgroundFlaw(NamedTuple):
    r"""Factor by which a background differs from its IRF, fixed in the field of view.

    .. math::
        e^{g\,\mathrm{fov\_lon}} \left(1 + h\,e^{-d^2 / 2 \sigma^2}\right)

    with the distance d from the spot.

    Parameters
    ----------
    gradient : float, optional
        Gradient g along ``fov_lon``, per deg. Default is 0.
    height : float, optional
        Height h of the spot over the rest. Default is 0.
    position : tuple of float, optional
        ``fov_lon`` and ``fov_lat`` of the spot, in deg. Default is the center.
    width : float, optional
        Gaussian width of the spot, in deg. Default is 0.3 deg.

    Examples
    --------
    >>> flaw = BackgroundFlaw(gradient=0.05)
    >>> options = {"irfs": flaw.make_irfs, "kept_irfs": flaw.hide}
    >>> observations = simulate_observations(4, **options)  # doctest: +SKIP
    """

    gradient: float = 0.0
    height: float = 0.0
    position: tuple = (0.0, 0.0)
    width: float = 0.3

    def evaluate(self, fov_lon, fov_lat):
        """Evaluate the factor.

        Parameters
        ----------
        fov_lon, fov_lat : `~numpy.ndarray`
            Position in the field of view, in deg.

        Returns
        -------
        factor : `~numpy.ndarray`
            Factor, in the shape of both together.
        """
        place = np.radians(self.position)
        distance = angular_separation(np.radians(fov_lon), np.radians(fov_lat), *place)
        spot = np.exp(-((np.degrees(distance) / self.width) ** 2) / 2)
        return np.exp(self.gradient * fov_lon) * (1 + self.height * spot)

    def make_irfs(self, zenith):
        """Make the IRFs by which events are drawn: `make_irfs` with the flaw.

        Parameters
        ----------
        zenith : `~astropy.units.Quantity`
            Zenith angle.

        Returns
        -------
        irfs : dict
            IRFs.
        """
        irfs = make_irfs(zenith)
        return irfs | {"bkg": self._scale(irfs["bkg"], 1)}

    def hide(self, irfs):
        """Make the IRFs that an observation has, which know nothing of the flaw.

        Parameters
        ----------
        irfs : dict
            IRFs of `make_irfs`, with a `~gammapy.irf.Background3D`. Not changed.

        Returns
        -------
        irfs : dict
            IRFs without the flaw.
        """
        return irfs | {"bkg": self._scale(irfs["bkg"], -1)}

    def _scale(self, bkg, exponent):
        """Background times the factor to the power of an exponent."""
        coords = bkg.axes.get_coord()
        position = (coords[name].to_value("deg") for name in ("fov_lon", "fov_lat"))
        return type(bkg)(
            axes=bkg.axes,
            data=bkg.data * self.evaluate(*position) ** exponent,
            unit=bkg.unit,
            meta=bkg.meta,
            fov_alignment=bkg.fov_alignment,
        )
