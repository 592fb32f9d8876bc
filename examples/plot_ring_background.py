"""
Adaptive ring background
========================

A ring background takes the number of background events at a position from a ring
around it, so that it does not depend on the normalisation of the background model. It
does depend on its shape: inside of the exclusion region, where the ring has to be
large, it compares positions that are far apart. Mimics show what that does.

With ``$GAMMAPY_DATA`` this runs on the MSH 15-52 runs of H.E.S.S. DL3 DR1, else on
simulated data.
"""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import MapDataset, MapDatasetOnOff
from gammapy.makers import (
    AdaptiveRingBackgroundMaker,
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    SafeMaskMaker,
)
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling.models import (
    GaussianSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.utils.scripts import make_path
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.simulate import simulate_observations
from gammapy_mimic.visualization import (
    plot_significance_distribution,
    plot_significance_map,
)

# %%
# Data
# ----

target = SkyCoord(228.53, -59.16, unit="deg")
path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
if path.exists():
    store = DataStore.from_dir(path)
    targets = query_obs_table(store.obs_table, "TARGET_TAG == 'msh1552'")
    off = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
    observations = store.get_observations(targets["OBS_ID"])
    off_observations = store.get_observations(off["OBS_ID"])
else:
    spectrum = PowerLawSpectralModel(index=2.3, amplitude="5.7e-12 cm-2 s-1 TeV-1")
    shape = GaussianSpatialModel(
        lon_0=target.ra, lat_0=target.dec, sigma="0.08 deg", frame="icrs"
    )
    zenith = "36 deg", "42 deg"
    observations = simulate_observations(
        12,
        targets={"target": target},
        zenith=zenith,
        sources=[SkyModel(spectrum, shape)],
    )
    off_observations = simulate_observations(24, first_obs_id=101, zenith=zenith)

# %%
# Plan
# ----
# A target without a partner is left out of the mimics, with a warning.

region = CircleSkyRegion(target, 0.5 * u.deg)
selector = KLBackgroundSelector(off_observations, exclusion_regions=[region])
plan = selector.make_plan(observations, n_sets=3)

# %%
# Ring background
# ---------------
# One function for target and mimics. The exclusion region is that of the target, in the
# mimics as well. The ring grows until a pixel has less than 1/250 of its background.

axis = MapAxis.from_energy_bounds("0.6 TeV", "20 TeV", nbin=1)
geom = WcsGeom.create(skydir=target, width=5.5, binsz=0.05, proj="TAN", axes=[axis])
exclusion_mask = ~geom.to_image().region_mask([region])

makers = DatasetsMaker(
    [
        MapDatasetMaker(selection=["counts", "background"], background_oversampling=8),
        SafeMaskMaker(methods=["offset-max"], offset_max="2 deg"),
        FoVBackgroundMaker(method="scale", exclusion_mask=exclusion_mask),
    ]
)
ring_maker = AdaptiveRingBackgroundMaker(
    r_in="0.3 deg",
    r_out_max="1.5 deg",
    width="0.3 deg",
    stepsize="0.1 deg",
    threshold_alpha=1 / 250,
    exclusion_mask=exclusion_mask,
)


def reduce_ring_background(observations, name):
    """Stack observations to one dataset with a ring background."""
    stacked = makers.run(MapDataset.create(geom), observations)[0]
    dataset = MapDatasetOnOff.create(geom, name=name)
    dataset.stack(ring_maker.run(stacked))
    return dataset


datasets = {}
for mimic_set in plan.sets:
    maker = MimicMaker(off_observations, plan, mimic_set=mimic_set)
    mimic_observations = maker.make_observations(observations)
    datasets[mimic_set] = reduce_ring_background(mimic_observations, f"set {mimic_set}")
target_dataset = reduce_ring_background(observations, "target")

estimator = MimicSystematicsEstimator("0.1 deg", exclusion_mask=exclusion_mask)
result = estimator.run(datasets, target_dataset, plan=plan)

# %%
# Significance
# ------------
# Left and middle: the source, and what is no source. The circle is the exclusion
# region. Right: all mimic sets. A width above 1 would be a systematic error of the
# shape of the acceptance on the scale of the ring.

figure = plt.figure(figsize=(14, 4), layout="constrained")
for idx, name in enumerate(["target", "mimic_1"]):
    ax = figure.add_subplot(131 + idx, projection=geom.to_image().wcs)
    plot_significance_map(result, name, ax=ax, regions=[region], add_cbar=True)

names = ["all", *result.names]
plot_significance_distribution(result, names, ax=figure.add_subplot(133))
print(result)

# %%
# Inside of the exclusion region
# ------------------------------
# An extended source shows in the mean significance of the region. That of the mimics,
# here 0 within about 0.2, is the precision to which the ring background knows it.

inside = ~exclusion_mask.data
for name, maps in result.maps.items():
    mean = np.nanmean(maps.get_image().data[inside])
    print(f"{name}: mean significance {mean:+.2f}")
plt.show()
