"""
How much of an excess can the background fake?
==============================================

Numbers for a paper, from mimic sets: bias and spread of the background by energy and
by angular scale, a significance that is calibrated by what is seen where no source is,
and the spread of the background normalisation as a prior of a fit.

With ``$GAMMAPY_DATA`` this runs on the PKS 2155-304 flare of H.E.S.S. DL3 DR1, else on
simulated data.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from astropy.coordinates import SkyCoord
from gammapy.datasets import Datasets
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    PointSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.utils.scripts import make_path

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.simulate import simulate_datastore

# %%
# Data
# ----

position = SkyCoord(329.717, -30.226, unit="deg")
path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
folder = Path(tempfile.mkdtemp())
query = "TARGET_NAME == 'Off data'"
if not path.exists():
    path = folder / "simulated"
    query = "OBJECT != 'PKS 2155-304'"
    fields = {"PKS 2155-304": position}
    fields |= {f"OFF {_}": SkyCoord(30.0 * _, -45, unit="deg") for _ in range(6)}
    spectrum = PowerLawSpectralModel(index=3, amplitude="3e-11 cm-2 s-1 TeV-1")
    source = SkyModel(spectrum, PointSpatialModel.from_position(position))
    zenith = "20 deg", "30 deg"
    simulate_datastore(path, 28, targets=fields, zenith=zenith, sources=[source])

# %%
# Configuration
# -------------
# One dataset for each observation (``stack: false``): the bias map in the field of view
# and the spread of the normalisation need them.

regions = folder / "target.reg"
regions.write_text("icrs\ncircle(329.717, -30.226, 0.6)\n")

config = MimicAnalysisConfig.from_yaml(f"""
general:
  log: {{level: warning}}

observations:
  datastore: {path}
  obs_cone: {{frame: icrs, lon: 329.717 deg, lat: -30.226 deg, radius: 2 deg}}

datasets:
  type: 3d
  stack: false
  geom:
    wcs:
      skydir: {{frame: icrs, lon: 329.717 deg, lat: -30.226 deg}}
      width: {{width: 3 deg, height: 3 deg}}
      binsize: 0.05 deg
    selection: {{offset_max: 2 deg}}
    axes:
      energy: {{min: 0.5 TeV, max: 8 TeV, nbins: 4}}
      energy_true: {{min: 0.3 TeV, max: 20 TeV, nbins: 6}}
  background: {{method: fov_background, parameters: {{method: scale}}}}
  safe_mask:
    methods: [aeff-default, offset-max]
    parameters: {{offset_max: 2 deg}}

mimic:
  off: {{query: "{query}"}}
  exclusion: {{regions: {regions}, background: true}}
  n_sets: 5
  systematics:
    correlation_radius: 0.2 deg
    energy_edges: [0.5 TeV, 1 TeV, 8 TeV]
    radii: [0.1 deg, 0.2 deg, 0.4 deg]
    position: {{frame: icrs, lon: 329.717 deg, lat: -30.226 deg}}
""")

# %%
# Systematic error
# ----------------
# Counts of mimics in circles differ from the prediction by a bias, and scatter around
# it by more than noise: the spread. Together they are the total. Errors know which OFF
# observations the sets share. The significance of the source is calibrated by what
# mimics have at the same offset, given how well that is known.

analysis = MimicAnalysis(config)
analysis.get_systematics()
result = analysis.systematics
print(result)

# %%
# What a paper prints of it.

print(result.to_text("paper"))

# %%
# A prior
# -------
# How much the normalisation of the background model varies between observations, beyond
# its statistical error. An OFF observation that is in several sets counts once. In a
# fit of the source, it keeps the background from taking what is not its own, without
# being fixed.

columns = ["n_runs", "mean", "mean_err", "spread", "spread_ul", "other_err"]
print(result.to_table("normalisation")[columns])
prior = result.to_prior("norm")

source = SkyModel(
    PowerLawSpectralModel(index=3, amplitude="3e-11 cm-2 s-1 TeV-1"),
    PointSpatialModel.from_position(position),
    name="source",
)
source.spatial_model.freeze()
dataset = analysis.datasets[0]
background = dataset.background_model
background.spectral_model.norm.prior = prior
dataset.models = [source, background]
Fit().run(Datasets([dataset]))
print(dataset.models.to_parameters_table())

# %%
# Maps and distribution
# ---------------------
# Left: the target, with what is no source around it. Right: all mimics, and the target
# outside of the source.

figure = plt.figure(figsize=(10, 4.2), layout="constrained")
wcs = result.maps["target"].total.geom.wcs
result.plot_map(ax=figure.add_subplot(121, projection=wcs), position=position)
result.plot_distribution(ax=figure.add_subplot(122))

# %%
# Bias and spread
# ---------------
# By energy and by the radius of the circles. A point is the bias with its error, the
# box around it the spread; where this is not significant, a dashed box has the height
# of its upper limit (95%).

figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
result.plot_systematics(ax=axes[0])
result.plot_systematics(ax=axes[1], by="radius")
plt.show()
