"""
Background templates by zenith angle
====================================

From OFF runs to a datastore: one background model (a `bkg_2d` HDU) for each range of
zenith angles, made of the events of the OFF runs in it, and written into a datastore in
which every target run has the model of its group. Then the models are put to the test:
do they predict the counts of the targets?

With ``$GAMMAPY_DATA`` the targets are the runs of the flare of PKS 2155-304 in H.E.S.S.
DL3 DR1, else the data are simulated.
"""

import tempfile
from pathlib import Path

import astropy.units as u
import matplotlib.pyplot as plt
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import MapDataset
from gammapy.makers import MapDatasetMaker, SafeMaskMaker
from gammapy.maps import MapAxis, WcsGeom
from gammapy.utils.scripts import make_path
from regions import CircleSkyRegion

from gammapy_mimic.data import query_obs_table, write_background
from gammapy_mimic.simulate import simulate_datastore
from gammapy_mimic.template import make_group_labels, make_templates
from gammapy_mimic.visualization import plot_background, plot_background_spectrum

# %%
# Data
# ----

target = SkyCoord(329.717, -30.226, unit="deg")
path = make_path("$GAMMAPY_DATA/hess-dl3-dr1")
folder = Path(tempfile.mkdtemp())
if path.exists():
    store = DataStore.from_dir(path)
    targets = query_obs_table(store.obs_table, "TARGET_TAG == 'pks2155_flare'")
    off = query_obs_table(store.obs_table, "TARGET_NAME == 'Off data'")
else:
    fields = {"target": target}
    fields |= {f"OFF {_}": SkyCoord(40.0 * _, -25, unit="deg") for _ in range(5)}
    store = simulate_datastore(
        folder / "simulated", 48, targets=fields, zenith=("2 deg", "55 deg")
    )
    targets = query_obs_table(store.obs_table, "OBJECT == 'target'")
    off = query_obs_table(store.obs_table, "OBJECT != 'target'")

# %%
# Templates
# ---------
# Two or four ranges of zenith angle; any columns of the observation table would do. The
# sources of the fields are cut from the counts and from the solid angle. Here that is
# the target alone.

region = CircleSkyRegion(target, 0.4 * u.deg)
groupings = {
    "two groups": {"ZEN_PNT": [0, 30, 60]},
    "four groups": {"ZEN_PNT": [0, 20, 35, 45, 60]},
}
templates = {
    name: make_templates(
        store.get_observations(off["OBS_ID"]),
        off,
        groups,
        exclusion_regions=[region],
        smooth="gauss",
    )
    for name, groups in groupings.items()
}
for bkg in templates["four groups"].values():
    print(f"{bkg.meta['GROUP']} deg: {bkg.meta['N_OBS']} OFF runs")

# %%
# Datastore
# ---------
# Every target run gets the template of its group. All other files are linked.

stores = {"files as they are": store}
for name, groups in groupings.items():
    labels = make_group_labels(targets, groups)
    labels = dict(zip(targets["OBS_ID"].tolist(), labels.tolist(), strict=True))
    write_background(store, folder / name, templates[name], labels)
    stores[name] = DataStore.from_dir(folder / name)

hdu_table = stores["four groups"].hdu_table
hdu_table[hdu_table["HDU_CLASS"] == "bkg_2d"]["OBS_ID", "FILE_NAME"][:4].pprint()

# %%
# Rates
# -----
# At a given energy the rate rises with zenith angle, as the area does that a shower
# lights. So does the energy at which a template starts, that of the threshold.

figure, (ax_offset, ax_energy) = plt.subplots(
    ncols=2, figsize=(11, 4.5), layout="constrained"
)
for label, bkg in templates["four groups"].items():
    name = bkg.meta["GROUP"].replace("ZEN_PNT", "zenith") + " deg,"
    style = {"label": name, "color": f"C{label}"}
    plot_background(bkg, ax=ax_offset, energies=[1] * u.TeV, **style)
    plot_background_spectrum(bkg, ax=ax_energy, offsets=[0.5] * u.deg, **style)

# %%
# Do they predict the counts?
# ---------------------------
# Counts outside of the source region over those that the background predicts, without
# any normalisation to the counts.

axis = MapAxis.from_energy_bounds("0.8 TeV", "10 TeV", nbin=6)
geom = WcsGeom.create(skydir=target, width=5.5, binsz=0.1, axes=[axis])
outside = ~geom.region_mask([region]).data
map_maker = MapDatasetMaker(selection=["counts", "background"])
safe_mask_maker = SafeMaskMaker(["aeff-default", "offset-max"], offset_max="2 deg")


def measure_ratio(observation):
    """Counts over predicted counts, with the statistical error."""
    dataset = map_maker.run(MapDataset.create(geom), observation)
    dataset = safe_mask_maker.run(dataset, observation)
    mask = dataset.mask_safe.data & outside
    counts = dataset.counts.data[mask].sum()
    background = dataset.background.data[mask].sum()
    return counts / background, np.sqrt(counts) / background


targets.sort("ZEN_PNT")
figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for idx, (name, new_store) in enumerate(stores.items()):
    observations = new_store.get_observations(targets["OBS_ID"])
    ratio, error = np.transpose([measure_ratio(_) for _ in observations])
    zenith = targets["ZEN_PNT"] + 0.3 * idx  # side by side
    ax.errorbar(zenith, ratio, error, marker=".", ls=":", label=name)
    print(f"{name}: spread of {np.std(ratio):.1%}")
ax.axhline(1, color="black", lw=0.5)
ax.set_xlabel("Zenith angle [deg]")
ax.set_ylabel("Counts / predicted background")
ax.legend()

# %%
# Inside of a group the rate goes on changing with zenith angle, most of all where the
# angles are large. So wide groups make a sawtooth: each run needs its normalisation, by
# `FoVBackgroundMaker`, and the groups there should be narrow. What a normalisation does
# not put right is the shape. To that end, choose OFF runs for each target by
# `KLBackgroundSelector`.

plt.show()
