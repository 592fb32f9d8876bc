"""
The background's error in a fit
===============================

A spectrum whose background is wrong by some percent has errors that are too small.
Mimic sets measure how wrong it is, by energy, and with which correlation. Here it is in
Gammapy's fit: not at all, as a prior of the norm, and as a covariance.

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
from gammapy.irf import EDispKernelMap
from gammapy.makers import FoVBackgroundMaker
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    FoVBackgroundModel,
    Models,
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

dataset = make_dataset(0, "target")
dataset.exposure = area
dataset.edisp = EDispKernelMap.from_diagonal_response(axis, true_axis)
flux = truth.integral(axis.edges[:-1], axis.edges[1:])
excess = rng.poisson((flux * area.quantity[:, 0, 0]).to_value(""))
x, y = (int(_) for _ in np.squeeze(geom.to_image().coord_to_idx(position)))
dataset.counts.data[:, y, x] += excess
dataset = maker.run(dataset)

# %%
# What the mimics measure
# -----------------------
# In circles of the size of the region that the spectrum is taken from, at its offset.

estimator = MimicSystematicsEstimator(
    "0.2 deg", energy_edges=axis.edges[::2], position=position, radii=None
)
result = estimator.run(mimic_datasets)
columns = ["e_min", "e_max", "energy", "delta", "delta_err", "spread", "error"]
print(result.to_table("covariance")[columns])

# %%
# The lines to copy
# -----------------
# What the maker has fitted is multiplied into the background first: a spectrum that is
# taken from a dataset with a model is without it.

prepared = result.prepare_dataset(dataset)


def make_source(name):
    return SkyModel(truth.copy(), name=name)


fits = {}

# without: the background is exact
spectrum = prepared.to_spectrum_dataset(region, name="without")
fits["without"] = spectrum, Models([make_source("without")])

# with a prior of the norm, for the background that was not scaled
spectrum = dataset.to_spectrum_dataset(region, name="prior")
model = FoVBackgroundModel("prior")
model.spectral_model.norm.prior = result.to_prior("norm")
fits["prior of the norm"] = spectrum, Models([make_source("prior"), model])

# with the covariance
spectrum = prepared.to_spectrum_dataset(region, name="covariance")
model = result.to_background_model(spectrum)
models = Models([make_source("covariance"), model])
models.set_penalties(result.make_penalty(models))
fits["covariance"] = spectrum, models

# %%
# Fits
# ----
# Penalties are those of `Datasets.models`: fit these, not a list of them.

figure, ax = plt.subplots(layout="constrained")
energy = np.geomspace(0.5, 20, 50) * u.TeV
for idx, (name, (spectrum, models)) in enumerate(fits.items()):
    datasets = Datasets([spectrum])
    datasets.models = models
    Fit().run(datasets)
    model = models[0].spectral_model
    value, error = (_ / truth(energy) for _ in model.evaluate_error(energy)[:2])
    low, high = (value - error).to_value(""), (value + error).to_value("")
    ax.fill_between(energy.value, low, high, color=f"C{idx}", alpha=0.3, label=name)
    amplitude, index = model.amplitude, model.index
    print(
        f"{name:18} amplitude {amplitude.value:.3g} ± {amplitude.error:.2g}, "
        f"index {index.value:.3f} ± {index.error:.3f}"
    )
ax.axhline(1, color="black", linestyle="--", label="truth")
ax.set(xscale="log", xlabel="Energy [TeV]", ylabel="Flux / true flux")
ax.legend()
plt.show()
