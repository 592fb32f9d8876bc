"""Toys of a point source on a small map: what is fitted where there is none."""

import astropy.units as u
import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets, MapDataset
from gammapy.irf import EDispKernelMap, PSFMap
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)

from gammapy_mimic.estimators import MimicSystematics

POSITION = SkyCoord(83.6, -22, unit="deg")
RADIUS = Angle("0.1 deg")
EDGES = [1, 2.154434690031884, 4.641588833612779, 10] * u.TeV
AMPLITUDE_UNIT = u.Unit("cm-2 s-1 TeV-1")
IN_CIRCLE = (2000, 400, 80)  # background counts of each bin of energy


def make_source(index=2.5, amplitude=1e-12 * AMPLITUDE_UNIT, is_free=False):
    """Point source at the position, which is frozen."""
    spatial = PointSpatialModel.from_position(POSITION)
    spatial.freeze()
    spectral = PowerLawSpectralModel(index=index, amplitude=amplitude)
    spectral.index.frozen = not is_free
    return SkyModel(spectral, spatial, name="source")


def make_toy_dataset(in_circle=IN_CIRCLE, n_pixels=15, binsz=0.04, exposure=1e10):
    """Flat background, whose counts are its prediction, with a PSF of 0.05 deg."""
    edges = EDGES[: len(in_circle) + 1]
    axis = MapAxis.from_energy_edges(edges)
    true = MapAxis.from_energy_edges(edges, name="energy_true")
    options = {"skydir": POSITION, "binsz": binsz, "npix": n_pixels, "proj": "TAN"}
    geom = WcsGeom.create(**options, axes=[axis])
    density = np.array(in_circle) * binsz**2 / (np.pi * RADIUS.deg**2)
    data = np.broadcast_to(density[:, np.newaxis, np.newaxis], geom.data_shape)
    # as stacking needs them: on the map, with an exposure
    edisp = EDispKernelMap.from_diagonal_response(axis, true, geom=geom.to_image())
    psf = PSFMap.from_gauss(true, sigma="0.05 deg", geom=geom.to_image())
    for irf in (edisp, psf):
        irf.exposure_map.data[...] = exposure
    return MapDataset(
        counts=Map.from_geom(geom, data=data),
        background=Map.from_geom(geom, data=data),
        mask_safe=Map.from_geom(geom, data=np.ones(geom.data_shape, dtype=bool)),
        exposure=Map.from_geom(
            geom.to_image().to_cube([true]), data=exposure, unit="m2 s"
        ),
        edisp=edisp,
        psf=psf,
        meta_table=Table(
            {"OBS_ID": [1], "RA_PNT": [POSITION.ra.deg], "DEC_PNT": [POSITION.dec.deg]}
        ),
        name="toy",
    )


def make_toy_result(f, total=0.1, edges=EDGES, reason=""):
    """Result with these errors of the background, by band, all energies at the end."""
    bands = [*map(str, range(len(edges) - 1)), "all"]
    # one band is that of all energies
    bands = bands[-1:] if len(edges) == 2 else bands
    low = [*edges[:-1].value, edges[0].value][-len(bands) :] * u.TeV
    high = [*edges[1:].value, edges[-1].value][-len(bands) :] * u.TeV
    base = {"band": bands, "e_min": low, "e_max": high}
    ones = np.ones(len(bands))
    tables = {
        "significance": Table({"name": ["all"] * len(bands)} | base),
        "systematics": Table(
            base
            | {"offset_band": ["all"] * len(bands), "f": f * ones}
            | {"total": total * ones, "reason": [reason] * len(bands)}
        ),
    }
    return MimicSystematics(tables, RADIUS, 10)


def fit_amplitudes(counts, background, signal, weights=1.0):
    """Fit the amplitude of a source to many maps at once, and its significance.

    Maximum of the weighted Poisson likelihood by Newton's method.

    Parameters
    ----------
    counts : `~numpy.ndarray`
        Shape (n_toys, n_bins).
    background, signal, weights : `~numpy.ndarray`
        Shape (n_bins,).

    Returns
    -------
    amplitude, significance : `~numpy.ndarray`
        In units of the signal, and the signed root of the test statistic.
    """
    amplitude = np.zeros(len(counts))
    lowest = -0.99 * np.min(background[signal > 0] / signal[signal > 0])
    for _ in range(30):
        npred = background + amplitude[:, np.newaxis] * signal
        ratio = counts / npred
        slope = np.sum(weights * signal * (1 - ratio), axis=1)
        curvature = np.sum(weights * signal**2 * ratio / npred, axis=1)
        step = slope / curvature
        amplitude = np.maximum(amplitude - step, (amplitude + lowest) / 2)
        if np.all(np.abs(step) < 1e-8 * np.abs(amplitude) + 1e-12):
            break
    npred = background + amplitude[:, np.newaxis] * signal
    stat = weights * (background - npred + counts * np.log(npred / background))
    root = np.sqrt(np.maximum(2 * stat.sum(axis=1), 0))
    return amplitude, np.sign(amplitude) * root


def draw_errors(rng, f, n_toys, shape, kind):
    """Draw relative errors of a background. Shape (n_toys, n_bands, n_y, n_x).

    Parameters
    ----------
    kind : {"same", "bands", "pixels"}
        The same everywhere, another one in each band of energy, or in each pixel, whose
        average over the circle has the rms f.
    """
    if kind == "pixels":
        n_circle = np.pi * (RADIUS.deg / 0.04) ** 2
        return f * np.sqrt(n_circle) * rng.normal(size=(n_toys, *shape))
    n_bands = 1 if kind == "same" else shape[0]
    errors = f * rng.normal(size=(n_toys, n_bands, 1, 1))
    return np.broadcast_to(errors, (n_toys, *shape))


def simulate_blank(f, weight_f, kind="same", n_toys=2000, in_circle=IN_CIRCLE, seed=0):
    """Significance of a source at blank positions, without and with weights.

    Returns
    -------
    significance : `~numpy.ndarray`
        Shape (2, n_toys).
    """
    dataset = make_toy_dataset(in_circle)
    edges = EDGES[: len(in_circle) + 1]
    weighted = make_toy_result(weight_f, edges=edges).to_weights(dataset)
    dataset.models = [make_source()]
    signal = dataset.npred_signal().data.ravel()
    background = dataset.background.data.ravel()
    weights = weighted.mask_fit.data.ravel()
    rng = np.random.default_rng(seed)
    values = []
    for start in range(0, n_toys, 1000):
        number = min(1000, n_toys - start)
        errors = draw_errors(rng, f, number, dataset.background.data.shape, kind)
        truth = background * np.maximum(1 + errors.reshape(number, -1), 0)
        counts = rng.poisson(truth)
        values.append(
            [fit_amplitudes(counts, background, signal, _)[1] for _ in (1.0, weights)]
        )
    return np.concatenate(values, axis=1)


def make_mimic(rng, exposure, delta=0.0, off_obs_id=None, obs_id=1, n_pixels=21):
    """Counts of a background that is higher by a part delta than its prediction."""
    dataset = make_toy_dataset(n_pixels=n_pixels, exposure=exposure)
    truth = dataset.background.data * (1 + delta)
    dataset.counts.data = rng.poisson(truth).astype(float)
    dataset.meta_table["OBS_ID"] = obs_id
    if off_obs_id is not None:
        dataset.meta_table["OFF_OBS_ID"] = off_obs_id
    dataset = dataset.copy(name=f"obs_{obs_id}_{off_obs_id}")
    return Datasets([dataset])


def make_asimov(exposure, delta, amplitude):
    """Counts without noise of a source and such a background."""
    dataset = make_toy_dataset(n_pixels=21, exposure=exposure)
    dataset.models = [make_source(amplitude=amplitude)]
    signal = dataset.npred_signal().data
    dataset.counts.data = dataset.background.data * (1 + delta) + signal
    dataset.models = None
    return dataset


def recover_spectrum(dataset):
    """Fit flux and index of a source, with the background as it is."""
    model = make_source(amplitude=1e-11 * AMPLITUDE_UNIT, is_free=True)
    dataset.models = [model]
    Fit().run([dataset])
    spectrum = model.spectral_model
    return spectrum.integral(*EDGES[[0, -1]]), spectrum.index.value
