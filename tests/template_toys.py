"""Templates of counts that are drawn in bins, against the rate they are drawn from."""

import astropy.units as u
import numpy as np

from gammapy_mimic.simulate.irfs import background_rate, energy_threshold
from gammapy_mimic.template import TemplateBins, TemplateCounts
from gammapy_mimic.template.nodes import AxisRule, apply
from gammapy_mimic.utils.coordinates import from_fov_lon_lat, get_offset

RINGS = np.array([0, 0.75, 1.25, 1.75, 2, 2.25])
"""Edges of the rings that are compared, in deg."""
ENERGIES = np.geomspace(0.1, 100, 25)
LIVETIME = 1500.0


def get_rate(energy, offset, zenith=20, width=0.8, shape="gauss"):
    """Rate in a field of view that is radial, in s-1 TeV-1 sr-1."""
    if shape == "gauss":
        return background_rate(energy, offset, zenith, width)
    # flat, with an edge
    rate = background_rate(energy, 0 * offset, zenith, width)
    return rate * np.exp(-((offset / 2 / width) ** 4))


def get_means(bins, get_rate, of_offset=True):
    """Mean of a rate in the bins. Shape (n_energy, n_position).

    The rate is a function of energy, in TeV, and offset, or position, in deg.
    """
    rules = [AxisRule(_) for _ in bins.axes]
    energy, *position = np.meshgrid(*(_.points for _ in rules), indexing="ij")
    position = np.degrees(position)
    if of_offset and bins.is_3d:
        position = [get_offset(from_fov_lon_lat(*position))]
    rate = get_rate(np.exp(energy), *position)
    means = apply([_.make_mean() for _ in rules], rate)
    return means.reshape(len(means), -1)


def make_runs(
    dimension, n_events, zeniths=(20,), masks=None, axes=None, ranges=None, **truth
):
    """Expected counts and exposure of runs, of which each has a zenith angle.

    Parameters
    ----------
    dimension : {"2d", "3d"}
        Dimension.
    n_events : float
        Expected counts of all runs together.
    zeniths : list of float, optional
        Zenith angles, in deg. Default is 20.
    masks : list of `~numpy.ndarray`, optional
        Masked part of each bin, for each run. Default is none.
    axes : dict, optional
        Axes of the bins.
    ranges : list of tuple, optional
        Safe energy range of each run, in TeV. Default is that of its zenith angle.
    **truth : dict
        Options of `get_rate`.

    Returns
    -------
    bins : `~gammapy_mimic.template.TemplateBins`
        Bins.
    expected : list of `~numpy.ndarray`
        Expected counts of each run. Shape (n_energy, n_position).
    exposures : list of tuple of `~numpy.ndarray`
        Livetimes and unmasked areas of each run.
    """
    bins = TemplateBins.create(dimension, **(axes or {}))
    expected, exposures = [], []
    masks = [np.zeros(bins.solid_angle.size)] * len(zeniths) if masks is None else masks
    ranges = ranges or [(energy_threshold(_), 100) for _ in zeniths]
    for zenith, mask, energies in zip(zeniths, masks, ranges, strict=True):
        rate = get_means(bins, lambda *args, z=zenith: get_rate(*args, z, **truth))
        covered = bins.get_covered_mask(*energies)
        area = bins.solid_angle * (1 - mask)
        exposures.append((LIVETIME * covered, area))
        expected.append(np.outer(LIVETIME * covered, area) * bins.energy_width * rate)
    scale = n_events / np.sum(expected)
    exposures = [(scale * livetime, area) for livetime, area in exposures]
    return bins, [scale * _ for _ in expected], exposures


def make_template(bins, counts, exposures, **options):
    """Make a template of the counts of runs."""
    livetimes, areas = map(np.array, zip(*exposures, strict=True))
    total = float(livetimes.max(axis=1).sum())
    moments = np.zeros((len(areas), len(bins.axes) - 1, areas.shape[1]))
    meta = {"OBS_IDS": list(range(len(counts))), "ONTIME": total, "LIVETIME": total}
    spectra = np.array([_.sum(axis=1) for _ in counts])
    args = np.sum(counts, axis=0), spectra, livetimes, areas, moments, meta
    return TemplateCounts(bins, "RADEC", *args).to_irf(**options)


def make_grid(is_3d, rings=RINGS, step=0.05):
    """Positions in the FoV, and what each of them stands for.

    Returns offset or longitude and latitude, and offset, in deg, and solid angle.
    """
    if not is_3d:
        offset = (np.arange(0, rings[-1], step) + step / 2)[np.newaxis]
        return offset, offset[0], np.sin(np.radians(offset[0]))
    grid = np.arange(-rings[-1], rings[-1], step) + step / 2
    lon, lat = (_.ravel() for _ in np.meshgrid(grid, grid))
    offset = get_offset(from_fov_lon_lat(lon, lat))
    return np.array([lon, lat]), offset, np.cos(np.radians(lat))


def compare_rings(bkg, get_rate, energies=ENERGIES, rings=RINGS):
    """Counts that Gammapy predicts by a template over those of a rate, in rings.

    Up to a factor that all have. Shape (n_rings,).
    """
    is_3d = not bkg.has_offset_axis
    position, offset, weights = make_grid(is_3d, rings)
    if not is_3d:  # as MapDatasetMaker does
        bkg = bkg.pad(1, mode="edge", axis_name="offset")
    names = ["fov_lon", "fov_lat"] if is_3d else ["offset"]
    position = {
        name: values[np.newaxis] * u.deg
        for name, values in zip(names, position, strict=True)
    }
    fine = np.geomspace(energies[0], energies[-1], 2 * (len(energies) - 1) + 1)
    predicted = bkg.integrate_log_log(
        axis_name="energy", energy=fine[:, np.newaxis] * u.TeV, **position
    )
    predicted = predicted.to_value("s-1 sr-1").sum(axis=0) * weights
    center = np.sqrt(fine[1:] * fine[:-1])[:, np.newaxis]
    # the integral of a power law over a narrow bin, to second order
    width = np.log(fine[1] / fine[0])
    rate = get_rate(center, offset) * center * width * (1 + (1.7 * width) ** 2 / 24)
    expected = rate.sum(axis=0) * weights
    predicted, expected = (
        np.histogram(offset, rings, weights=_)[0] for _ in (predicted, expected)
    )
    return predicted / expected
