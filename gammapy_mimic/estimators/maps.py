"""Maps of one quantity in bands of energy."""

import dataclasses

from gammapy.maps import Map, MapAxis, WcsNDMap

from .measurement import ALL

__all__ = ["BandMaps"]


@dataclasses.dataclass(frozen=True)
class BandMaps:
    """Maps in bands of energy, and of all energies together.

    Attributes
    ----------
    bands : `~gammapy.maps.WcsNDMap`
        Map with an axis of the bands of energy.
    total : `~gammapy.maps.WcsNDMap`
        Map of all energies, with an axis of one bin. The same if there is one band.
    """

    bands: WcsNDMap
    total: WcsNDMap

    @classmethod
    def create(cls, values, geom, energy_edges):
        """Make maps of arrays.

        Parameters
        ----------
        values : `~numpy.ndarray`
            Values in the bands of `~gammapy_mimic.estimators.measurement.get_bands`.
            Shape (n_bands, n_y, n_x).
        geom : `~gammapy.maps.WcsGeom`
            Geometry of the image.
        energy_edges : `~astropy.units.Quantity`
            Edges of the bands.

        Returns
        -------
        maps : `BandMaps`
            Maps.
        """
        n_bands = len(energy_edges) - 1
        pairs = (energy_edges, values[:n_bands]), (energy_edges[[0, -1]], values[-1:])
        return cls(
            *(
                Map.from_geom(
                    geom.to_cube([MapAxis.from_energy_edges(edges)]), data=data
                )
                for edges, data in pairs
            )
        )

    def get_image(self, band=ALL):
        """Get the map of a band.

        Parameters
        ----------
        band : str or int, optional
            Index of the band, or "all" (default) for all energies.

        Returns
        -------
        image : `~gammapy.maps.WcsNDMap`
            Map without energy axis.
        """
        map_, idx = (self.total, 0) if str(band) == ALL else (self.bands, int(band))
        return map_.slice_by_idx({"energy": idx})
