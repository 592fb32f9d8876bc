"""
Three makers in one chain
=========================

The three makers of this package side by side: `KLBackgroundSelector` says which OFF
observations are alike and makes background templates of them, `ScrambleMaker` hides a
source in an OFF field, and `MimicMaker` moves what is left into the field of view of
the target. In a chain of Gammapy's makers, that is one more link.

The OFF observations hold the Crab nebula here, on purpose: a source in an OFF field
turns up in the mimics, unless it is scrambled.

With ``$GAMMAPY_DATA`` this runs on H.E.S.S. DL3 DR1, else on simulated data.
"""

import astropy.units as u
import matplotlib.pyplot as plt
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import MapDataset
from gammapy.makers import (
    DatasetsMaker,
    FoVBackgroundMaker,
    MapDatasetMaker,
    SafeMaskMaker,
)
from gammapy.maps import MapAxis, WcsGeom
from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel, SkyModel
from gammapy.utils.scripts import make_path
from regions import CircleSkyRegion

from gammapy_mimic import KLBackgroundSelector, MimicMaker, ScrambleMaker
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.simulate import simulate_observations
from gammapy_mimic.visualization import plot_significance

# %%
# Data
# ----
# The targets are runs of the flare of PKS 2155-304 at large zenith angles. At those
# there are few OFF runs, which is a reason to take the Crab runs as well.

target = SkyCoord(329.717, -30.226, unit="deg")
crab = SkyCoord(83.633, 22.014, unit="deg")

path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
if path.exists():
    store = DataStore.from_dir(path)
    observations = store.get_observations([33787, 33788, 33800, 33801])
    query = "TARGET_TAG in ('offdata', 'crab') and ZEN_PNT > 30"
    off = query_obs_table(store.obs_table, query)
    off_observations = store.get_observations(off["OBS_ID"])
else:
    spectrum = PowerLawSpectralModel(index=2.6, amplitude="3.5e-11 cm-2 s-1 TeV-1")
    sources = [
        SkyModel(spectrum, PointSpatialModel.from_position(_)) for _ in (crab, target)
    ]
    options = {"zenith": ("46 deg", "52 deg"), "sources": sources}
    observations = simulate_observations(4, targets={"target": target}, **options)
    off_observations = simulate_observations(8, first_obs_id=101, **options)
    off_observations.extend(
        simulate_observations(4, targets={"Crab": crab}, first_obs_id=201, **options)
    )

# %%
# Which OFF observations are alike?
# ---------------------------------
# The sources of all fields are excluded from the comparison and from the templates. By
# default fields close to the Galactic plane are not used; the Crab nebula is at 6 deg.
# In the plan, one target has a Crab run as partner: 23592 of H.E.S.S., or 202. With the
# plan, the selector makes templates of targets that are as good as those of mimics.

regions = [CircleSkyRegion(crab, 0.3 * u.deg), CircleSkyRegion(target, 0.4 * u.deg)]
selector = KLBackgroundSelector(
    off_observations,
    criteria={"galactic_latitude": None},
    exclusion_regions=regions,
    smooth="gauss",
)
plan = selector.plan = selector.make_plan(observations, n_sets=1)
print(plan.table["OBS_ID", "OFF_OBS_ID", "DELTA_ZENITH", "STATUS"])

# %%
# Chain
# -----
# Selector and mimic makers take the same place in the chain. The selector gives a
# target the template of OFF observations that are alike. With `background=selector` it
# makes the templates of the mimics as well, of as many OFF observations, and without
# those of the mimic set: no mimic is tested on a template that it helped to build. The
# scrambler is given to `MimicMaker`, not put after it, as in a chain each maker is
# handed the observation of the target.

scrambler = ScrambleMaker(regions, method="fill", random_state=0)
makers = {
    "target": selector,
    "not scrambled": MimicMaker(off_observations, plan, background=selector),
    "scrambled": MimicMaker(
        off_observations, plan, background=selector, scramble=scrambler
    ),
}
axis = MapAxis.from_energy_bounds("0.8 TeV", "20 TeV", nbin=8)
geom = WcsGeom.create(skydir=target, width=5.5, binsz=0.05, proj="TAN", axes=[axis])
exclusion_mask = ~geom.to_image().region_mask(regions[1:])

datasets = {}
for name, maker in makers.items():
    chain = DatasetsMaker(
        [
            MapDatasetMaker(selection=["counts", "background"]),
            maker,
            SafeMaskMaker(methods=["offset-max"], offset_max="2 deg"),
            FoVBackgroundMaker(method="scale", exclusion_mask=exclusion_mask),
        ]
    )
    datasets[name] = chain.run(MapDataset.create(geom, name=name), observations)

# %%
# Significance
# ------------
# The Crab nebula shows in the mimics, where the OFF observation had it in its field of
# view. With the source scrambled the field is empty, and the distribution is that of
# noise, of mean 0 and width 1 within the errors. So that, and not the map of what is
# not scrambled, is what to compare the target with.

target_datasets = datasets.pop("target")
estimator = MimicSystematicsEstimator("0.1 deg", exclusion_mask=exclusion_mask)
result = estimator.run(datasets, target_datasets)
print(result.tables["significance"]["name", "mean", "mean_err", "width", "width_err"])
plot_significance(result, ["target", "not scrambled", "scrambled"])
plt.show()
