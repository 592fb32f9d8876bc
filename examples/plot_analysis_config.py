"""
An analysis and its mimics from one configuration
=================================================

A configuration of Gammapy's `AnalysisConfig` gets one more section, ``mimic``. Then the
target and its mimics are reduced by the same makers, made from the same settings: what
is seen in the mimics is the systematic error of just this analysis.

With ``$GAMMAPY_DATA`` this runs on the MSH 15-52 runs of H.E.S.S. DL3 DR1, else on
simulated data.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from astropy.coordinates import SkyCoord
from gammapy.modeling.models import (
    GaussianSpatialModel,
    PowerLawSpectralModel,
    SkyModel,
)
from gammapy.utils.scripts import make_path

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.simulate import simulate_datastore
from gammapy_mimic.visualization import (
    plot_significance,
    plot_significance_distribution,
)

# %%
# Data
# ----
# One datastore holds targets and OFF observations, a query tells them apart.

path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
folder = Path(tempfile.mkdtemp())
query = "TARGET_NAME == 'Off data'"
if not path.exists():
    path = folder / "simulated"
    query = "OBJECT != 'MSH 15-52'"
    target = SkyCoord(228.53, -59.16, unit="deg")
    fields = {"MSH 15-52": target}
    fields |= {f"OFF {_}": SkyCoord(30.0 * _, -45, unit="deg") for _ in range(6)}
    spectrum = PowerLawSpectralModel(index=2.3, amplitude="5.7e-12 cm-2 s-1 TeV-1")
    shape = GaussianSpatialModel(
        lon_0=target.ra, lat_0=target.dec, sigma="0.08 deg", frame="icrs"
    )
    source = SkyModel(spectrum, shape)
    zenith = "36 deg", "42 deg"
    simulate_datastore(path, 36, targets=fields, zenith=zenith, sources=[source])

# %%
# Configuration
# -------------
# In a file it would be read with ``MimicAnalysisConfig.read("config.yaml")``, and run
# on the command line with ``gammapy-mimic run config.yaml``. The file with regions
# holds the source, whose events would make every OFF observation look different.

regions = folder / "target.reg"
regions.write_text("icrs\ncircle(228.53, -59.16, 0.5)\n")

config = MimicAnalysisConfig.from_yaml(f"""
general:
  log: {{level: warning}}

observations:
  datastore: {path}
  obs_cone: {{frame: icrs, lon: 228.53 deg, lat: -59.16 deg, radius: 2 deg}}

datasets:
  type: 3d
  stack: true
  geom:
    wcs:
      skydir: {{frame: icrs, lon: 228.53 deg, lat: -59.16 deg}}
      width: {{width: 5 deg, height: 5 deg}}
      binsize: 0.05 deg
    selection: {{offset_max: 2 deg}}
    axes:
      energy: {{min: 0.6 TeV, max: 20 TeV, nbins: 8}}
      energy_true: {{min: 0.3 TeV, max: 40 TeV, nbins: 8}}
  map_selection: [counts, background]
  background:
    method: fov_background
    parameters: {{method: scale}}
  safe_mask:
    methods: [aeff-default, offset-max]
    parameters: {{offset_max: 2 deg}}

mimic:
  off: {{query: "{query}"}}
  exclusion: {{regions: {regions}}}
  selection:
    criteria: {{livetime: 0.1, airmass: 0.15}}
  n_sets: 3
""")

# %%
# Run
# ---
# As with `gammapy.analysis.Analysis`, with two more steps.

analysis = MimicAnalysis(config)
analysis.get_observations()
analysis.get_datasets()
analysis.get_mimic_datasets()
analysis.get_systematics()
print(analysis.plan)

# %%
# Significance
# ------------
# Target and mimics on one scale. A cluster of high significance in a mimic is noise or
# a flaw of the background: so may be one of the same height in the target.

result = analysis.systematics
plot_significance(result, ["target", *result.names])

# %%
# Distribution
# ------------
# Numbers to quote: the width of all mimic sets is the factor by which a significance of
# this analysis is overestimated. The errors are statistical and take the sets as
# independent, though they share OFF observations. The expected mean is that of noise:
# the bias of the Cash statistic. The target's distribution is that outside of the
# source.

columns = ["name", "mean", "mean_err", "expected_mean", "width", "width_err"]
print(result.tables["significance"][columns])

figure, ax = plt.subplots(layout="constrained")
plot_significance_distribution(result, ["all", "target", *result.names], ax=ax)
plt.show()
