"""The error of the background in spectra of the Crab nebula and MSH 15-52.

H.E.S.S. DL3 DR1: 4 and 20 runs, and five mimic sets of each. The map in a circle around
the source is fitted without an error of the background, with a prior of its norm, with
the covariance between bands of energy, and with weights. The shape of the source is
that of gamma-cat, and so is the cutoff of the Crab nebula. Prints amplitude and index
of each fit, and flux points with their systematic errors, beside those that H.E.S.S.
has published (gamma-cat; errors are statistical, but where "sys" is said).

Run with ``python benchmarks/fit_hess.py`` (5 minutes on one core), needs
``$GAMMAPY_DATA``.
"""

import logging
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.catalog import SourceCatalogGammaCat
from gammapy.datasets import Datasets
from gammapy.estimators import FluxPointsEstimator
from gammapy.modeling import Fit
from gammapy.modeling.models import (
    FoVBackgroundModel,
    GaussianSpatialModel,
    Models,
    PointSpatialModel,
    SkyModel,
)
from regions import CircleSkyRegion

from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.estimators.stacking import make_stacking_geoms, stack_datasets

CONFIG = """
observations: {datastore: $GAMMAPY_DATA/hess-dl3-dr1}
datasets:
  type: 3d
  stack: false
  map_selection: [counts, exposure, background, psf, edisp]
  geom:
    wcs: {width: {width: 3 deg, height: 3 deg}, binsize: 0.04 deg}
    selection: {offset_max: 2 deg}
    axes:
      energy: {min: 0.5 TeV, max: 20 TeV, nbins: 12}
      energy_true: {min: 0.3 TeV, max: 50 TeV, nbins: 24}
  background: {method: fov_background, parameters: {method: scale}}
  safe_mask:
    methods: [aeff-default, offset-max]
    parameters: {offset_max: 2 deg}
mimic:
  off: {query: TARGET_NAME == 'Off data'}
  exclusion: {catalogs: [gamma-cat], radius: 0.3 deg, background: true}
  n_sets: 5
"""
AXIS_EDGES = np.geomspace(0.5, 20, 13) * u.TeV
UNIT = u.Unit("cm-2 s-1 TeV-1")


class Source(NamedTuple):
    """Source: its name in gamma-cat and as a target, position, and what is fitted."""

    name: str
    target_name: str
    position: SkyCoord
    radius: u.Quantity
    energy_edges: u.Quantity


SOURCES = (
    Source(
        "Crab nebula",
        "Crab",
        SkyCoord(83.633, 22.014, unit="deg"),
        0.2 * u.deg,
        AXIS_EDGES[[1, 3, 5, 8, 12]],
    ),
    Source(
        "MSH 15-5-02",
        "MSH 15-52",
        SkyCoord(228.529, -59.158, unit="deg"),
        0.3 * u.deg,
        AXIS_EDGES[[0, 2, 4, 6, 8, 12]],
    ),
)


def make_analysis(source):
    """Analysis with datasets of target and mimics."""
    config = MimicAnalysisConfig.from_yaml(CONFIG)
    position = {"lon": source.position.ra, "lat": source.position.dec, "frame": "icrs"}
    config.datasets.geom.wcs.skydir = position
    config.mimic.target_query = f"TARGET_NAME == {source.target_name!r}"
    config.mimic.systematics.position = position
    config.mimic.systematics.correlation_radius = source.radius
    config.mimic.systematics.energy_edges = list(source.energy_edges)
    analysis = MimicAnalysis(config)
    analysis.get_datasets()
    analysis.get_mimic_datasets()
    return analysis


def make_source(source, entry):
    """Published source, of which amplitude and index are free."""
    model = PointSpatialModel.from_position(source.position)
    if entry.data["morph_type"] == "gauss":
        long, short = (entry.data[_].to("deg") for _ in ("morph_sigma", "morph_sigma2"))
        options = {"sigma": long, "e": np.sqrt(1 - (short / long) ** 2)}
        options["phi"] = entry.data["morph_pa"]
        lon, lat = source.position.ra, source.position.dec
        model = GaussianSpatialModel(lon_0=lon, lat_0=lat, frame="icrs", **options)
    model.freeze()
    spectrum = entry.sky_model().spectral_model
    if "lambda_" in spectrum.parameters.names:
        spectrum.lambda_.frozen = True
    return SkyModel(spectrum, model, name="source")


def stack(datasets, source):
    """Stack datasets, to be fitted in the circle around the source."""
    geoms = make_stacking_geoms(datasets)
    stacked = stack_datasets(datasets, geoms).copy(name="stacked")
    region = CircleSkyRegion(source.position, source.radius)
    stacked.mask_fit = stacked.counts.geom.region_mask([region])
    return stacked


def make_fits(analysis, result, source, published):
    """Datasets and models of the four fits."""
    stacked = stack(analysis.datasets, source)
    fits = {"without": (stacked, Models([published.copy(name="source")]))}

    # for the background that was not scaled
    unscaled = [_.copy(name=_.name) for _ in analysis.datasets]
    for dataset in unscaled:
        dataset.models = None
    dataset, model = stack(unscaled, source), FoVBackgroundModel("stacked")
    model.spectral_model.norm.prior = result.to_prior("norm")
    model.spectral_model.norm.value = result.to_prior("norm").mu.value
    fits["prior of the norm"] = dataset, Models([published.copy(name="source"), model])

    dataset = stacked.copy(name="stacked")
    background = result.to_background_model(dataset)
    models = Models([published.copy(name="source"), background])
    models.set_penalties(result.make_penalty(models))
    fits["covariance"] = dataset, models

    for f in ("f", "error"):
        dataset = result.to_weights(stacked, f)
        fits[f"weights, {f}"] = dataset, Models([published.copy(name="source")])
    return fits


def fit(name, dataset, models):
    """Fit, and print amplitude and index."""
    # penalties are those of the models of datasets
    datasets = Datasets([dataset])
    datasets.models = models
    result = Fit().run(datasets)
    parameters = models["source"].spectral_model.parameters
    end = "" if result.success else ", not converged"
    print_values(name, parameters["amplitude"], parameters["index"], end)


def print_values(name, amplitude, index, end=""):
    value, error = (
        1e12 * (_ * amplitude.unit).to_value(UNIT)
        for _ in (amplitude.value, amplitude.error)
    )
    values = f"{index.value:5.3f} ± {index.error:5.3f}"
    print(f"{name:18} {value:6.2f} ± {error:4.2f}   {values}{end}", flush=True)


def print_published(entry, spectrum):
    print_values("published", *(spectrum.parameters[_] for _ in ("amplitude", "index")))
    kind = entry.data["spec_type"]
    norm, index = (entry.data[f"spec_{kind}_{_}_err_sys"] for _ in ("norm", "index"))
    text = f"{1e12 * norm.to_value(UNIT):.2f}" if norm > 0 else "not given"
    print(f"  sys: amplitude {text}, index {index:.2f}")


def study_points(dataset, models, result, source, published):
    """Flux in bands, as a part of that of the published spectrum."""
    datasets = Datasets([dataset])
    datasets.models = models
    estimator = FluxPointsEstimator(
        energy_edges=source.energy_edges,
        source="source",
        selection_optional=["ul"],
        reoptimize=False,
    )
    print("Energy [TeV]   flux / published   sys down, up   sys below (95%)")
    for row in result.to_flux_table(estimator.run(datasets)):
        expected = published.integral(row["e_min"] * u.TeV, row["e_max"] * u.TeV)
        names = "flux", "flux_err", "flux_sys_errn", "flux_sys_errp", "flux_sys_ul"
        flux, err, down, up, limit = (
            (row[_] * u.Unit("cm-2 s-1") / expected).to_value("") for _ in names
        )
        print(
            f"{row['e_min']:5.2f} - {row['e_max']:5.2f}  {flux:.3f} ± {err:.3f}"
            f"      {down:.3f}, {up:.3f}   {limit:.3f}"
        )


def print_published_points(entry, spectrum):
    """Published flux points, as a part of the published spectrum."""
    print("Published points: energy [TeV], over the published spectrum")
    points = entry.flux_points_table
    names = ("dnde_err",) if "dnde_err" in points.colnames else ("dnde_errn",)
    for row in points:
        expected = spectrum(row["e_ref"] * u.TeV)
        values = [
            (row[_] * points[_].unit / expected).to_value("") for _ in ("dnde", *names)
        ]
        print(f"{row['e_ref']:6.2f} {values[0]:.3f} ± {values[1]:.3f}")


def study(source):
    entry = SourceCatalogGammaCat()[source.name]
    published = make_source(source, entry)
    analysis = make_analysis(source)
    estimator = analysis.factory.make_systematics_estimator()
    estimator.spectral_model = published.spectral_model
    estimator.spatial_model = published.spatial_model
    result = estimator.run(
        analysis.mimic_datasets, analysis.datasets, plan=analysis.plan
    )
    print(f"{entry.name}, in a circle of {source.radius}")
    table = result.to_table("covariance")
    for row in table["e_min", "e_max", "delta", "delta_err", "spread", "error"]:
        low, high, delta, delta_err, spread, error = row
        print(
            f"background {low:5.2f} - {high:5.2f} TeV: {delta:+.1%} ± {delta_err:.1%}, "
            f"spread {spread:.1%}, error {error:.1%}"
        )
    fits = make_fits(analysis, result, source, published)
    print("Fit                amplitude [1e-12 / cm2 s TeV], index")
    for name, (dataset, models) in fits.items():
        fit(name, dataset, models)
    print_published(entry, published.spectral_model)
    options = fits["without"]
    study_points(*options, result, source, entry.sky_model().spectral_model)
    print_published_points(entry, entry.sky_model().spectral_model)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    for source in SOURCES:
        study(source)
