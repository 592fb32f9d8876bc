"""Maps of one quantity in bands of energy."""

import dataclasses

from gammapy.maps import Map, MapAxis, WcsNDMap

from .measurement import ALL

__all__ = ["BandMaps"]


@dataclasses.dataclass(frozen=True, eq=False)
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

        def make_map(edges, data):
            axis = MapAxis.from_energy_edges(edges)
            return Map.from_geom(geom.to_cube([axis]), data=data)

        # the last array is that of all energies, and for one band the only one
        bands = make_map(energy_edges, values[: len(energy_edges) - 1])
        return cls(bands, make_map(energy_edges[[0, -1]], values[-1:]))

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

        Raises
        ------
        ValueError
            If there is no such band.
        """
        names = [str(idx) for idx in range(len(self.bands.data))]
        if str(band) == ALL:
            return self.total.slice_by_idx({"energy": 0})
        if str(band) not in names:
            raise ValueError(f"There is no band {band!r}, choose from {[*names, ALL]}.")
        return self.bands.slice_by_idx({"energy": int(band)})
