"""
Mimic observations, step by step
================================

Pair target observations with OFF observations, move the events of the OFF observations
into the field of view of the targets, and look at the significance map.

With ``$GAMMAPY_DATA`` this runs on the MSH 15-52 runs of the H.E.S.S. DL3 DR1 release,
else on simulated data.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.utils.scripts import make_path

from gammapy_mimic import MimicMaker
from gammapy_mimic.data import query_obs_table
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.makers import reduce_fov_background
from gammapy_mimic.selection import MimicPlan
from gammapy_mimic.simulate import simulate_datastore
from gammapy_mimic.visualization import plot_significance

# %%
# Data
# ----
# One datastore holds the targets and the OFF observations.

path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
if path.exists():
    store = DataStore.from_dir(path)
    targets = query_obs_table(store.obs_table, "TARGET_TAG == 'msh1552'")[:6]
    off = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
else:
    fields = {"target": SkyCoord(228.5, -59.2, unit="deg")}
    fields |= {f"OFF {_}": SkyCoord(20.0 * _, -45, unit="deg") for _ in range(8)}
    folder = Path(tempfile.mkdtemp())
    zenith = "36 deg", "45 deg"
    store = simulate_datastore(folder / "store", 36, targets=fields, zenith=zenith)
    targets, off = store.obs_table[:4], store.obs_table[4:]

# %%
# Plan
# ----
# The plan is a table that can be read, edited and kept. Here targets have partners that
# were taken under like conditions, in two mimic sets; `KLBackgroundSelector.make_plan`
# compares their events as well, and refuses those that differ. A target that no OFF
# observation matches is listed.

criteria = {"livetime": 0.1, "airmass": 0.2}
plan = MimicPlan.from_obs_tables(targets, off, criteria, n_sets=2)
print(plan.table["OBS_ID", "MIMIC_SET", "OFF_OBS_ID", "LIVETIME_RATIO", "DELTA_ZENITH"])
print("To be looked at:", plan.questionable)
plan.plot()

# %%
# Mimic observations
# ------------------
# They have the events of the OFF observation and the pointing of the target. Reduced
# like the targets would be, nothing but noise should be seen.

observations = store.get_observations(targets["OBS_ID"])
datasets = {}
for mimic_set in plan.sets:
    maker = MimicMaker(store, plan, mimic_set=mimic_set)
    mimic_observations = maker.make_observations(observations)
    datasets[mimic_set] = reduce_fov_background(mimic_observations, fields=observations)
print(mimic_observations[0])

# %%
# Significance
# ------------
# Mean and width of each set and of both, with statistical errors.

result = MimicSystematicsEstimator("0.1 deg").run(datasets, plan=plan)
print(result.tables["significance"]["name", "mean", "mean_err", "width", "width_err"])
plot_significance(result)
plt.show()
