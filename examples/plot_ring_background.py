"""
Ring background from one configuration
======================================

A ring background takes the number of background events at a position from a ring
around it, so that it does not depend on the normalisation of the background model. It
does depend on its shape: where the ring is large, it compares positions that are far
apart. Mimics show what that does. Target and mimics have their OFF counts from the
ring to the end, so that the noise of these is in every significance.

With ``$GAMMAPY_DATA`` this runs on the MSH 15-52 runs of H.E.S.S. DL3 DR1, else on
simulated data.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
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
    plot_significance_distribution,
    plot_significance_map,
)

# %%
# Data
# ----
# One datastore holds targets and OFF observations, a query tells them apart.

path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
query = "TARGET_NAME == 'Off data'"
if not path.exists():
    path = Path(tempfile.mkdtemp()) / "simulated"
    query = "OBJECT != 'MSH 15-52'"
    target = SkyCoord(228.53, -59.16, unit="deg")
    fields = {"MSH 15-52": target}
    fields |= {f"OFF {_}": SkyCoord(30.0 * _, -45, unit="deg") for _ in range(4)}
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
# Maps are summed over energy before the ring is made. The bins are there for the shape
# of the background, which differs between energies. What is excluded around the target
# is left out of the ring, in the mimics as well (``background: true``). Stacked, the
# datasets keep the OFF counts.

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
      width: {{width: 5.5 deg, height: 5.5 deg}}
      binsize: 0.05 deg
    selection: {{offset_max: 2 deg}}
    axes:
      energy: {{min: 0.6 TeV, max: 20 TeV, nbins: 16}}
      energy_true: {{min: 0.3 TeV, max: 40 TeV, nbins: 8}}
  map_selection: [counts, background]
  background:
    method: ring
    parameters: {{r_in: 0.6 deg, width: 0.3 deg}}
  safe_mask:
    methods: [offset-max]
    parameters: {{offset_max: 2 deg}}

mimic:
  off: {{query: "{query}"}}
  exclusion: {{regions: ["228.53,-59.16,0.5"], background: true}}
  n_sets: 3
""")

# %%
# Run
# ---

analysis = MimicAnalysis(config)
analysis.get_datasets()
analysis.get_mimic_datasets()
analysis.get_systematics()
for datasets in (analysis.datasets, *analysis.mimic_datasets.values()):
    print(
        datasets[0].tag, f"{datasets[0].counts_off.data.max():.0f} OFF counts at most"
    )

# %%
# Significance
# ------------
# Left and middle: the source, and what is no source. The circle is the exclusion
# region. Right: all mimic sets. A width above 1 would be a systematic error of the
# shape of the acceptance on the scale of the ring.

result = analysis.systematics
regions = list(analysis.exclusion_regions)
geom = analysis.datasets[0].counts.geom.to_image()
figure = plt.figure(figsize=(14, 4), layout="constrained")
for idx, name in enumerate(["target", "mimic_1"]):
    ax = figure.add_subplot(131 + idx, projection=geom.wcs)
    plot_significance_map(result, name, ax=ax, regions=regions, add_cbar=True)

names = ["all", *result.names]
plot_significance_distribution(result, names, ax=figure.add_subplot(133))
print(result)

# %%
# Inside of the exclusion region
# ------------------------------
# An extended source shows in the mean significance of the region. That of the mimics
# is the precision to which the ring background knows it.

inside = geom.region_mask(regions).data
for name, maps in result.maps.items():
    mean = np.nanmean(maps.get_image().data[inside])
    print(f"{name}: mean significance {mean:+.2f}")
plt.show()
