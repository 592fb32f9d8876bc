"""Mimic sets that share OFF observations, with planted errors of the background."""

import astropy.units as u
import numpy as np
from gammapy.datasets import Datasets
from scipy import stats
from scipy.ndimage import gaussian_filter

from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.estimators.apertures import make_grid

from .counts_toys import find_truth
from .test_systematics import N_EVENTS, Field, few_random_maps

BINSZ = 0.1  # deg
N_SETS = 5
RADII = [0.2, 0.5, 1.0] * u.deg


class SetsToy:
    """Sets of observations that are drawn from a pool, in one field of view.

    ``errors`` of the field of view are those of all observations: random ones of the
    rms ``spread`` in pixels on a ``scale`` (in deg), a radial ``gradient`` (per deg)
    and a ``tilt`` of the spectrum. Observations have a norm of their own
    (``norm_spread``), which is fitted in each (``is_fitted``) or not.
    """

    def __init__(
        self,
        spread=0.0,
        scale=0.3,
        n_off=30,
        n_obs=12,
        n_energies=1,
        gradient=0.0,
        tilt=0.0,
        norm_spread=0.05,
        is_fitted=True,
    ):
        self.spread, self.scale = spread, scale
        self.n_off, self.n_obs, self.norm_spread = n_off, n_obs, norm_spread
        self.gradient, self.tilt, self.is_fitted = gradient, tilt, is_fitted
        self.field = Field(1, n_energies, BINSZ, N_EVENTS / n_obs)
        self.shape = self.field.geom.data_shape[1:]
        self.offset = np.hypot(*self.field.fov[0])
        rng = np.random.default_rng(0)
        self.norm = np.std([self._draw_noise(rng) for _ in range(50)])

    def _draw_noise(self, rng):
        # edges have no neighbours on the other side
        noise = rng.normal(size=[2 * _ for _ in self.shape])
        noise = gaussian_filter(noise, self.scale / BINSZ, mode="wrap")
        return noise[: self.shape[0], : self.shape[1]]

    def draw_errors(self, rng):
        """Draw the relative errors of the background. Shape (n_y, n_x)."""
        errors = self.spread * self._draw_noise(rng) / self.norm
        return errors + self.gradient * self.offset

    def get_background(self, errors):
        """True background of an observation of norm 1. Shape (n_energies, n_y, n_x)."""
        return self.field.get_truth(0, tilt=self.tilt) * np.maximum(1 + errors, 0)

    def draw(self, rng, errors):
        """Draw sets. No observation is in one of them twice."""
        truth = self.get_background(errors)
        norms = rng.normal(1, self.norm_spread, self.n_off)
        counts = [rng.poisson(truth * _) for _ in norms]
        sets = []
        for _ in range(N_SETS):
            runs = rng.choice(self.n_off, self.n_obs, replace=False)
            sets.append(Datasets([self.make_dataset(counts[_], _) for _ in runs]))
        return sets

    def make_dataset(self, counts, run):
        """Make a dataset of an observation."""
        dataset = self.field.make_dataset(0, counts, run)
        if not self.is_fitted:
            dataset.models = None
        return dataset

    def get_truth(self, errors, radius, band=None):
        """Delta and squared spread in circles of a radius (in deg).

        Of the expected counts: the spread is the rms of the errors that are averaged
        over a circle, after their mean is taken out, as circles are weighted.
        """
        truth, model = self.get_background(errors), self.field.background[0]
        band = slice(None) if band is None else slice(band, band + 1)
        if self.is_fitted:
            model = model * truth.sum() / model.sum()
        grid = make_grid(self.shape, BINSZ, radius)
        true, model = (grid.add(_[band].sum(axis=0)) for _ in (truth, model))
        inside = model > 0
        true, model = true[inside], model[inside]
        return find_truth(true / model - 1, self.n_obs * model)


def measure_toy(toy, seed, radii=RADII, energy_edges=None):
    """Run the estimator on a toy.

    Parameters
    ----------
    toy : `SetsToy`
        Toy.
    seed : list of int
        Seed.
    radii : `~astropy.units.Quantity`, optional
        Radii of circles.
    energy_edges : `~astropy.units.Quantity`, optional
        Edges of bands, each of which is one bin of energy.

    Returns
    -------
    rows : list of dict
        Those of the table "scales", with what is true, whether limits and intervals
        hold it, and the row of the norm (``norm_...``) if it was fitted.
    """
    rng = np.random.default_rng(seed)
    errors, others = toy.draw_errors(rng), toy.draw_errors(rng)
    estimator = MimicSystematicsEstimator(radii[0], energy_edges, radii=radii)
    result = estimator.run(toy.draw(rng, errors))
    norm = {}
    if toy.is_fitted:
        row = result.select("normalisation", band=None)[0]
        norm = {f"norm_{name}": row[name] for name in row.colnames}
    table = result.tables["scales"]
    rows = [dict(zip(_.colnames, _, strict=True)) | norm for _ in table]
    for row in rows:
        number = None if row["band"] == "all" else int(row["band"])
        delta, square = toy.get_truth(errors, row["radius"], number)
        _, other = toy.get_truth(others, row["radius"], number)
        total = np.sqrt(delta**2 + square * (1 + delta) ** 2)
        truths = {"f": np.sqrt(square), "total": total}
        row |= {"true_delta": delta, "true_f_squared": square}
        for name, truth in truths.items():
            row[f"{name}_covered"] = row[f"{name}_lo"] <= truth <= row[f"{name}_hi"]
            row[f"{name}_limited"] = truth <= row[f"{name}_ul"]
        row["f_other_limited"] = np.sqrt(other) <= row["f_other_ul"]
        row["delta_pull"] = (row["delta"] - delta) / row["delta_err"]
        half = stats.t.ppf(0.841345, row["n_runs"] - 1)
        row["delta_covered"] = abs(row["delta_pull"]) <= half
    return rows


def measure_position(toy, seed, is_same=True, offset=1.0, ratio=1.0):
    """Calibrate the significance of a position that holds nothing but background.

    Parameters
    ----------
    toy : `SetsToy`
        Toy.
    seed : list of int
        Seed.
    is_same : bool, optional
        Whether the target has the errors of the mimics, as those of an instrument, or
        others of the same kind.
    offset : float, optional
        Offset of the position, in deg.
    ratio : float, optional
        Observations of the target over those of a mimic set.

    Returns
    -------
    row : `~astropy.table.Row`
        Row of the table "position".
    """
    rng = np.random.default_rng(seed)
    errors = toy.draw_errors(rng)
    sets = toy.draw(rng, errors)
    errors = errors if is_same else toy.draw_errors(rng)
    truth, runs = toy.get_background(errors), range(round(ratio * toy.n_obs))
    target = [toy.make_dataset(rng.poisson(truth), toy.n_off + _) for _ in runs]
    angle = rng.uniform(0, 360) * u.deg
    position = toy.field.pointings[0].directional_offset_by(angle, offset * u.deg)
    estimator = MimicSystematicsEstimator("0.2 deg", position=position, radii=None)
    with few_random_maps(2):
        result = estimator.run(sets, target)
    return result.select("position")[0]
