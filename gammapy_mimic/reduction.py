"""Data reduction of observations and of their mimics, by the same makers."""

from astropy.coordinates import Angle, SkyCoord, UnitSphericalRepresentation
from gammapy.datasets import MapDataset
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    SafeMaskMaker,
)
from gammapy.maps import MapAxis, WcsGeom

from .observation import get_fixed_pointing

__all__ = ["get_center", "reduce_fov_background"]


def get_center(observations):
    """Find the center of the observed fields.

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.

    Returns
    -------
    center : `~astropy.coordinates.SkyCoord`
        Mean direction of the pointings (ICRS).
    """
    mean = _get_pointings(observations).cartesian.mean()
    direction = mean.represent_as(UnitSphericalRepresentation)
    return SkyCoord(direction, frame="icrs")


def reduce_fov_background(
    observations,
    center=None,
    energy_range=("0.5 TeV", "20 TeV"),
    energy_bins=10,
    width=None,
    binsz="0.05 deg",
    offset_max="2 deg",
    exclusion_mask=None,
    n_jobs=None,
):
    """Reduce observations to one stacked dataset, with the FoV background.

    The background IRF of every observation is scaled to its counts outside the
    exclusion mask (`~gammapy.makers.FoVBackgroundMaker`).

    Parameters
    ----------
    observations : `~gammapy.data.Observations`
        Observations.
    center : `~astropy.coordinates.SkyCoord`, optional
        Center of the map. Default is that of the pointings.
    energy_range : tuple of `~astropy.units.Quantity` or str, optional
        Range of the reconstructed energy. Default is 0.5 to 20 TeV.
    energy_bins : int, optional
        Number of energy bins. Default is 10.
    width : `~astropy.coordinates.Angle` or str, optional
        Width of the map. Default is what holds all events up to the largest offset.
    binsz, offset_max : `~astropy.coordinates.Angle` or str, optional
        Size of a pixel, and largest offset of an event. Default is 0.05 deg and 2 deg.
    exclusion_mask : `~gammapy.maps.WcsNDMap`, optional
        Exclusion mask, True where the background is normalised. Default is None.
    n_jobs : int, optional
        Number of processes. Default is that of `gammapy.utils.parallel`, 1.

    Returns
    -------
    dataset : `~gammapy.datasets.MapDataset`
        Stacked dataset with counts and background.
    """
    energy_axis = MapAxis.from_energy_bounds(*energy_range, nbin=energy_bins)
    center = get_center(observations) if center is None else center
    offset_max = Angle(offset_max)
    if width is None:
        separation = _get_pointings(observations).separation(center).max()
        width = 2 * (separation + offset_max + Angle(binsz))
    geom = WcsGeom.create(
        skydir=center,
        width=Angle(width),
        binsz=Angle(binsz).deg,
        proj="TAN",
        axes=[energy_axis],
    )
    makers = DatasetsMaker(
        [
            MapDatasetMaker(selection=["counts", "background"]),
            SafeMaskMaker(
                methods=["aeff-default", "offset-max"], offset_max=offset_max
            ),
            FoVBackgroundMaker(method="scale", exclusion_mask=exclusion_mask),
        ],
        n_jobs=n_jobs,
    )
    reference = MapDataset.create(geom, name="stacked")
    return makers.run(reference, observations)[0]


def _get_pointings(observations):
    return SkyCoord([get_fixed_pointing(_) for _ in observations])
