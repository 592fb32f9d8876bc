"""
Scramble the Crab nebula out of its own field
=============================================

A known source in an OFF field is hidden in the background of the field, before the
field is used as one without source. Here the source is as bright as they come, so that
it is easy to see how well that works, and where it does not.

With ``$GAMMAPY_DATA`` this runs on the four Crab runs of the H.E.S.S. DL3 DR1 release,
else on simulated data.
"""

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import MapDataset, MapDatasetOnOff
from gammapy.makers import MapDatasetMaker, RingBackgroundMaker, SafeMaskMaker
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.utils.scripts import make_path
from regions import CircleSkyRegion

from gammapy_mimic import ScrambleMaker
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.scramble import ScrambleCheck
from gammapy_mimic.simulate import simulate_observations
from gammapy_mimic.visualization import plot_scramble, plot_significance

# %%
# Data
# ----
# Two of the four H.E.S.S. runs have the source 0.5 deg from the pointing, two 1.5 deg.

crab = SkyCoord(83.633, 22.014, unit="deg")
hess = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
if hess.exists():
    store = DataStore.from_dir(hess)
    observations = store.get_observations([23523, 23526, 23559, 23592])
else:
    spectrum = PowerLawSpectralModel(index=2.6, amplitude="3.5e-11 cm-2 s-1 TeV-1")
    source = SkyModel(spectrum, PointSpatialModel.from_position(crab))
    observations = simulate_observations(
        4, targets={"Crab": crab}, zenith=("46 deg", "52 deg"), sources=[source]
    )

# %%
# Scramble
# --------
# "annulus" gives the events of an annulus through the source new positions in it. The
# excess stays, spread over the annulus, and the maker warns that the source is too
# bright for that. "fill" replaces the events of the region by copies of other events.

region = CircleSkyRegion(crab, 0.4 * u.deg)
makers = {
    method: ScrambleMaker([region], method=method, random_state=0)
    for method in ("annulus", "fill")
}
scrambled = {
    method: maker.make_observations(observations) for method, maker in makers.items()
}

# %%
# One observation
# ---------------
# The events, and their distributions in the ring of offsets that is scrambled. What is
# expected without source is measured outside of the region.

for method, maker in makers.items():
    check = ScrambleCheck.create(maker, observations[0], scrambled[method][0])
    plot_scramble(check)

# %%
# Significance
# ------------
# A ring background does not need a background model. All are reduced in the same way.

axis = MapAxis.from_energy_bounds("0.7 TeV", "20 TeV", nbin=1)
geom = WcsGeom.create(skydir=crab, width=4, binsz=0.05, proj="TAN", axes=[axis])
exclusion_mask = ~geom.to_image().region_mask([region])


def reduce_ring_background(observations):
    """Stack observations to one dataset with a ring background."""
    stacked = MapDatasetOnOff.create(geom, name="stacked")
    makers = [
        MapDatasetMaker(selection=["counts", "background", "exposure"]),
        SafeMaskMaker(methods=["offset-max"], offset_max="2 deg"),
        RingBackgroundMaker("0.5 deg", "0.3 deg", exclusion_mask),
    ]
    for observation in observations:
        dataset = MapDataset.create(geom, name=f"{observation.obs_id}")
        for maker in makers:
            dataset = maker.run(dataset, observation)
        stacked.stack(dataset)
    return stacked


samples = {"before": observations, **scrambled}
datasets = {name: reduce_ring_background(sample) for name, sample in samples.items()}
result = MimicSystematicsEstimator("0.1 deg").run(datasets)
print(result.tables["significance"]["name", "mean", "mean_err", "width", "width_err"])
near = geom.to_image().region_mask([region]).data
for name, maps in result.maps.items():
    print(f"{name}: at most {np.nanmax(maps.total.data[0][near]):.1f} at the source")

# %%
# The source is gone with "fill". With "annulus" it is spread, and that is seen as well:
# as more events in the annulus than around it.

plot_significance(result, regions=[region])
plt.show()
