"""
Spurious spectra with reflected regions
=======================================

Reflected regions need no background model: the background is counted at the same offset
from the pointing. Mimics show what is left of errors in energy: the spectrum that the
analysis finds where there is no source.

`ReflectedRegionsBackgroundMaker` reads the events itself. So the mimic observations are
made first, and then reduced like any others.

With ``$GAMMAPY_DATA`` this runs on runs of the flare of PKS 2155-304 in H.E.S.S. DL3
DR1, else on simulated data.
"""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import SpectrumDataset
from gammapy.makers import (
    DatasetsMaker,
    ReflectedRegionsBackgroundMaker,
    SafeMaskMaker,
    SpectrumDatasetMaker,
)
from gammapy.maps import MapAxis, RegionGeom
from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel, SkyModel
from gammapy.stats import WStatCountsStatistic
from gammapy.utils.scripts import make_path
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.simulate import simulate_observations

# %%
# Data
# ----

target = SkyCoord(329.717, -30.226, unit="deg")
path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
if path.exists():
    store = DataStore.from_dir(path)
    query = "TARGET_TAG == 'pks2155_flare' and ZEN_PNT < 40"
    targets = query_obs_table(store.obs_table, query)
    off = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
    observations = store.get_observations(targets["OBS_ID"])
    off_observations = store.get_observations(off["OBS_ID"])
else:
    spectrum = PowerLawSpectralModel(index=3.2, amplitude="3e-11 cm-2 s-1 TeV-1")
    source = SkyModel(spectrum, PointSpatialModel.from_position(target))
    zenith = "10 deg", "40 deg"
    observations = simulate_observations(
        8, targets={"target": target}, zenith=zenith, sources=[source]
    )
    off_observations = simulate_observations(30, first_obs_id=101, zenith=zenith)

# %%
# Mimics
# ------

exclusion = CircleSkyRegion(target, 0.4 * u.deg)
selector = KLBackgroundSelector(off_observations, exclusion_regions=[exclusion])
plan = selector.make_plan(observations, n_sets=5)
mimic_observations = [
    MimicMaker(off_observations, plan, mimic_set=_).make_observations(observations)
    for _ in plan.sets
]

# %%
# Reflected regions
# -----------------
# The same region, bins of energy and makers for all.

on_region = CircleSkyRegion(target, 0.11 * u.deg)
axis = MapAxis.from_energy_bounds("0.5 TeV", "10 TeV", nbin=6)
true_axis = MapAxis.from_energy_bounds("0.3 TeV", "40 TeV", nbin=12, name="energy_true")
geom = RegionGeom.create(on_region, axes=[axis])
makers = DatasetsMaker(
    [
        SpectrumDatasetMaker(selection=["counts", "exposure", "edisp"]),
        ReflectedRegionsBackgroundMaker(),
        SafeMaskMaker(methods=["aeff-default"]),
    ],
    stack_datasets=False,
)


def measure_excess(observations):
    """Counts and background by energy, of all observations together."""
    reference = SpectrumDataset.create(geom, energy_axis_true=true_axis)
    dataset = makers.run(reference, observations).stack_reduce()
    mask = dataset.mask_safe.data
    counts, counts_off = (
        np.where(mask, _.data, 0).ravel() for _ in (dataset.counts, dataset.counts_off)
    )
    return WStatCountsStatistic(counts, counts_off, dataset.alpha.data.ravel())


target_excess = measure_excess(observations)
mimic_excess = [measure_excess(_) for _ in mimic_observations]

# %%
# Excess by energy
# ----------------
# Left: what the mimics show is scattered around zero, over the energies where the
# target has its spectrum. Right: in units of the statistical error. Without systematic
# error two points of three are in the band.

figure, (ax_excess, ax_significance) = plt.subplots(
    ncols=2, figsize=(11, 4.5), layout="constrained"
)
energy = axis.center.to_value("TeV")
n_sets = len(mimic_excess)
for idx, statistic in enumerate([target_excess, *mimic_excess]):
    # side by side in a bin
    x = energy * (1 + 0.05 * (idx - n_sets / 2))
    style = {"ls": "", "marker": ".", "color": f"C{idx}"}
    label = f"mimic set {idx}" if idx else "target"
    ax_excess.errorbar(x, statistic.n_sig, statistic.error, label=label, **style)
    if idx:
        ax_significance.plot(x, statistic.sqrt_ts, label=label, **style)

ax_excess.set_yscale("symlog", linthresh=10)
ax_excess.axhline(0, color="black", lw=0.5)
ax_excess.set_ylabel("Excess counts")
ax_significance.axhspan(-1, 1, color="0.9")
ax_significance.set_ylim(-5, 5)
ax_significance.set_ylabel("Significance")
for ax in (ax_excess, ax_significance):
    ax.set_xscale("log")
    ax.set_xlabel("Energy [TeV]")
    ax.legend(fontsize="small")

# %%
# How well is the background known?
# ---------------------------------
# The excess of all sets relative to their background, by energy. Its statistical error
# is the limit of what these mimics can tell about a systematic one. The error is
# somewhat larger than it says, as the sets share OFF observations.

excess = np.sum([_.n_sig for _ in mimic_excess], axis=0)
error = np.sqrt(np.sum([_.error**2 for _ in mimic_excess], axis=0))
background = np.sum([_.n_bkg for _ in mimic_excess], axis=0)
for edges, *values in zip(
    zip(axis.edges[:-1], axis.edges[1:], strict=True),
    excess / background,
    error / background,
    strict=True,
):
    print("{:.1f} to {:.1f}:".format(*edges), "{:+.0%} ± {:.0%}".format(*values))
plt.show()
