"""
The background's error in a fit
===============================

A spectrum whose background is wrong by some percent has errors that are too small.
Mimic sets measure how wrong it is, by energy, and with which correlation. Here it is in
Gammapy's fit: not at all, as a prior of the norm, as a covariance, and as weights.

Data are simulated: a background that differs from its model by a norm of 10% and a tilt
of 0.05 between observations. Mimic sets are those that `MimicAnalysis` makes, see
:doc:`plot_systematics`.
"""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from gammapy.datasets import Datasets, MapDataset
from gammapy.irf import EDispKernelMap, PSFMap
from gammapy.makers import FoVBackgroundMaker
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    FoVBackgroundModel,
    Models,
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from regions import CircleSkyRegion

from gammapy_mimic.estimators import MimicSystematicsEstimator

# %%
# Data
# ----
# Twelve mimic sets, each of another OFF observation, and a target with a source. The
# FoV background is scaled to the counts of each, outside of the source.

rng = np.random.default_rng(1)
pointing = SkyCoord(83.6, -22, unit="deg")
position = pointing.directional_offset_by(0 * u.deg, 0.5 * u.deg)
region = CircleSkyRegion(position, 0.2 * u.deg)

axis = MapAxis.from_energy_bounds("0.5 TeV", "20 TeV", nbin=12)
true_axis = axis.copy(name="energy_true")
geom = WcsGeom.create(skydir=pointing, width=2.4, binsz=0.1, axes=[axis])
edges = axis.edges.value
background = -250 * np.diff((edges / 0.5) ** -1.7)[:, np.newaxis, np.newaxis]
background = background * np.ones(geom.data_shape)

truth = PowerLawSpectralModel(index=2.3, amplitude="8e-11 cm-2 s-1 TeV-1")
place = PointSpatialModel.from_position(position)
place.freeze()
area = Map.from_geom(geom.to_image().to_cube([true_axis]), data=1e9, unit="m2 s")


def make_dataset(off_obs_id, name):
    norm, tilt = 1 + 0.1 * rng.normal(), 0.05 * rng.normal()
    error = norm * axis.center.value[:, np.newaxis, np.newaxis] ** tilt
    columns = {"OBS_ID": [1], "OFF_OBS_ID": [off_obs_id]}
    columns |= {"RA_PNT": [pointing.ra.deg], "DEC_PNT": [pointing.dec.deg]}
    return MapDataset(
        counts=Map.from_geom(geom, data=rng.poisson(error * background).astype(float)),
        background=Map.from_geom(geom, data=background),
        mask_safe=Map.from_geom(geom, data=True, dtype=bool),
        meta_table=Table(columns),
        name=name,
    )


exclusion_mask = geom.region_mask([region], inside=False)
maker = FoVBackgroundMaker(method="scale", exclusion_mask=exclusion_mask)
mimic_datasets = [
    Datasets([maker.run(make_dataset(_, f"mimic-{_}"))]) for _ in range(1, 13)
]


def make_source(name):
    return SkyModel(truth.copy(), place, name=name)


dataset = make_dataset(0, "target")
dataset.exposure = area
dataset.edisp = EDispKernelMap.from_diagonal_response(axis, true_axis)
dataset.psf = PSFMap.from_gauss(true_axis, sigma="0.06 deg")
dataset.models = [make_source("truth")]
# a convolution may be a bit below 0
dataset.counts.data += rng.poisson(np.maximum(dataset.npred_signal().data, 0))
dataset.models = None
dataset = maker.run(dataset)

# %%
# What the mimics measure
# -----------------------
# In circles of the size of the region that is fitted, at its offset.

estimator = MimicSystematicsEstimator(
    "0.2 deg", energy_edges=axis.edges[::2], position=position, radii=None
)
result = estimator.run(mimic_datasets)
columns = ["e_min", "e_max", "energy", "delta", "delta_err", "spread", "error"]
print(result.to_table("covariance")[columns])

# %%
# The lines to copy
# -----------------
# What the maker has fitted is multiplied into the background first. The fits are those
# of the map in the region: the errors are those of one circle.

prepared = result.prepare_dataset(dataset)
prepared.mask_fit = geom.region_mask([region])

# without: the background is exact
fits = {"without": (prepared, Models([make_source("without")]))}

# with a prior of the norm, for the background that was not scaled
unscaled = dataset.copy(name="prior")
unscaled.mask_fit = prepared.mask_fit
model = FoVBackgroundModel("prior")
model.spectral_model.norm.prior = result.to_prior("norm")
fits["prior of the norm"] = unscaled, Models([make_source("source"), model])

# with the covariance
copied = prepared.copy(name="covariance")
model = result.to_background_model(copied)
models = Models([make_source("source"), model])
models.set_penalties(result.make_penalty(models))
fits["covariance"] = copied, models

# with weights, of the same errors: the default, f, is the spread between places, and
# these observations differ in all of their field
weighted = result.to_weights(prepared, "error")
fits["weights"] = weighted, Models([make_source("source")])

# %%
# Fits
# ----
# Penalties are those of `Datasets.models`: fit these, not a list of them.

figure, axes = plt.subplots(1, 4, figsize=(12, 4), sharey=True, layout="constrained")
energy = np.geomspace(0.5, 20, 50) * u.TeV
for ax, (name, (fitted, models)) in zip(axes, fits.items(), strict=True):
    datasets = Datasets([fitted])
    datasets.models = models
    Fit().run(datasets)
    model = models[0].spectral_model
    value, error = (_ / truth(energy) for _ in model.evaluate_error(energy)[:2])
    low, high = (value - error).to_value(""), (value + error).to_value("")
    ax.fill_between(energy.value, low, high, alpha=0.4, label="fit, 68%")
    ax.plot(energy, value.to_value(""))
    ax.axhline(1, color="black", linestyle="--", label="truth")
    ax.set(xscale="log", xlabel="Energy [TeV]", title=name)
    amplitude, index = model.amplitude, model.index
    print(
        f"{name:18} amplitude {amplitude.value:.3g} ± {amplitude.error:.2g}, "
        f"index {index.value:.3f} ± {index.error:.3f}"
    )
axes[0].set(ylabel="Flux / true flux")
axes[0].legend()
plt.show()

# %%
# Without an error of the background, the errors are those of counts. The prior is that
# of a background that nobody has scaled to the field: here the counts around the source
# know its norm better. The covariance knows how bands go together, and that it is the
# error of this circle. Weights take every band for the worst that others may make of
# it, and correct nothing: flux and index stay where a wrong background has put them.
