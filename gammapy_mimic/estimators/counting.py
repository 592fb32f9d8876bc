"""Counts of datasets in apertures, by OFF observation, mimic set and band of energy.

Datasets are taken one at a time: what is kept are sums.
"""

from typing import NamedTuple

import numpy as np

from ..data.obs_ids import shorten
from ..data.prediction import get_safe_mask
from .aperture_counts import ApertureCounts
from .apertures import OUTSIDE
from .bias_spread import MIN_APERTURES, measure_bias_spread
from .calibration import Systematic
from .measurement import get_bands, has_rings
from .template_noise import measure_template_noise

__all__ = [
    "BandCounts",
    "count_maps",
    "count_spectra",
    "find_norm_region",
    "get_runs",
    "measure_spectrum",
    "number_targets",
]

NORM_TOLERANCE = 1e-4
"""Relative difference of counts and prediction, up to which a norm was fitted."""

UNSEEN = 1e12
"""Effective background counts that know the spread as 0."""

RING_SHARE = 0.15
"""Area of an aperture over that of the ring of its OFF counts, up to which the spread
is measured: the counts of larger ones are those of the rings of others."""

ON_OFF = ("counts", "counts_off", "acceptance", "acceptance_off")


class BandCounts(NamedTuple):
    """Counts in one band of energy, and what is known of their prediction.

    Attributes
    ----------
    counts : `~gammapy_mimic.estimators.aperture_counts.ApertureCounts`
        Counts.
    norm_share : `~numpy.ndarray`
        Share of each aperture in the counts to which the norm of the prediction was
        fitted, 0 if it was not. Shape (n_sets, n_apertures).
    template_variance : float
        Relative variance of the prediction by the counts of its template. 0 if it was
        not made of a template that tells.
    repetition : float
        Mean number of times that an OFF observation is there, for stacked sets.
    reason : str
        Why a spread cannot be measured, "" if it can.
    """

    counts: ApertureCounts
    norm_share: np.ndarray
    template_variance: float = 0.0
    repetition: float = 1.0
    reason: str = ""

    def select(self, where):
        """Get a part of the apertures.

        Parameters
        ----------
        where : `~numpy.ndarray` of bool
            Which. Shape (n_apertures,).

        Returns
        -------
        counts : `BandCounts`
            Counts.
        """
        return self._replace(
            counts=self.counts.select(where), norm_share=self.norm_share[:, where]
        )

    def join_sets(self):
        """Take each aperture of each set as one of its own.

        Returns
        -------
        counts : `BandCounts`
            Counts of one set, with n_sets x n_apertures apertures. The shares of a norm
            add up to their mean over sets.
        """
        share = self.norm_share.reshape(1, -1) / len(self.norm_share)
        return self._replace(counts=self.counts.join_sets(), norm_share=share)

    def measure(self, positions=None):
        """Measure bias and spread, without the noise of the template.

        Parameters
        ----------
        positions : `~numpy.ndarray`, optional
            Positions of the apertures, in deg. Shape (n_apertures, 2). Default is that
            they are independent.

        Returns
        -------
        result : `~gammapy_mimic.estimators.bias_spread.BiasSpread`
            Result.
        """
        noise = self.template_variance
        template_counts = 1 / noise if noise > 0 else np.inf
        return measure_bias_spread(
            self.counts, self.norm_share, template_counts, positions
        )

    def find_systematic(self, size=1.0):
        r"""Find what is known of the error of the background of a target.

        It has the noise of the template, and sets differ, of which the target is one
        more. So the error of the mean is that of *another* set: that of the mean of
        all, and the scatter of sets, in quadrature. The degrees of freedom of the
        spread are those of its error in another field, as those of a mean square above
        noise (Satterthwaite 1946, Biometrics Bulletin 2, 110). Of one aperture the
        scatter of sets is all there is.

        Parameters
        ----------
        size : float, optional
            Factor of the square of the spread, for a target that is an average over
            several apertures. Default is 1.

        Returns
        -------
        systematic : `~gammapy_mimic.estimators.calibration.Systematic`
            NaN for what cannot be measured.
        """
        # without a template that is known, its noise is part of the spread
        result = self._replace(template_variance=0.0).measure()
        delta_err, n_sets = result.delta.error, result.n_runs
        of_sets = result.set_variance
        if not result.has_runs:
            n_sets = len(self.norm_share) / self.repetition
            delta_err *= np.sqrt(self.repetition)
            # sets that share observations scatter less
            left = len(self.norm_share) - self.repetition
            of_sets *= (len(self.norm_share) - 1) / left if left > 0 else np.nan
        spread = {"f_squared": 0.0, "f_dof": np.inf, "f_background": UNSEEN}
        if result.n_apertures >= MIN_APERTURES:
            square = np.fmax(result.f_squared, 0)
            # the mean of these apertures is not that of others
            delta_err = np.sqrt(delta_err**2 + square / result.n_apertures)
            variance = result.f_squared_err**2 + result.field_err**2
            spread = {
                "f_squared": result.f_squared * size,
                "f_dof": 2 * (square + result.level) ** 2 / variance,
                "f_background": 1 / (result.level * size),
            }
        return Systematic(
            delta=result.delta.value,
            delta_err=float(np.sqrt(delta_err**2 + of_sets)),
            delta_dof=n_sets - 1,
            set_variance=float(of_sets),
            **spread,
        )


def get_runs(off_obs_ids, nights=None):
    """Get the OFF observation of each dataset, if each has one, or its night.

    Parameters
    ----------
    off_obs_ids : list of list of int
        OFF observations of `~gammapy_mimic.estimators.checks.get_off_obs_ids`.
    nights : dict, optional
        Night of each OFF observation. Default is that each is one of its own.

    Returns
    -------
    runs : list or None
        OFF observations, or nights. None if one is not known, or a dataset is stacked.

    Raises
    ------
    ValueError
        If the night of an OFF observation is missing.
    """
    if not all(len(_) == 1 for _ in off_obs_ids):
        return None
    runs = [_[0] for _ in off_obs_ids]
    if nights is None:
        return runs
    missing = sorted(set(runs) - set(nights))
    if missing:
        raise ValueError(
            f"nights has no night of the OFF observations {shorten(missing)}. Give one "
            "for each OBS_ID, or leave nights out."
        )
    return [str(nights[_]) for _ in runs]


def count_maps(
    sets, runs, geom, apertures, energy_edges, source_free=True, repetition=1.0
):
    """Count in apertures of maps.

    Of rings, the OFF counts of an aperture are the mean of those of its pixels.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Datasets of each set.
    runs : list of int or None
        OFF observation of each dataset, see `get_runs`. None if not known.
    geom : `~gammapy.maps.WcsGeom`
        Geometry of the image that holds all, of which each dataset is a part.
    apertures : list of `~gammapy_mimic.estimators.apertures.Apertures`
        Apertures on that image.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    source_free : `~numpy.ndarray` of bool, optional
        Pixels without known source of the target, to which a norm may have been fitted.
        Shape (n_y, n_x). Default is all.
    repetition : float, optional
        Mean number of times that an OFF observation is there. Default is 1.

    Returns
    -------
    counts : list of list of `BandCounts`
        For each of the apertures, those of each band.
    """
    cells, n_runs = _get_cells(sets, runs)
    n_bands = len(get_bands(energy_edges))
    sums = [
        _Sums(n_runs, len(sets), n_bands, len(_.pixels), bool(runs)) for _ in apertures
    ]
    for dataset, run, idx in cells:
        images = _make_images(dataset, energy_edges)
        place = _find_place(dataset.counts.geom, geom)
        clear = np.broadcast_to(source_free, geom.data_shape)[place]
        norm_total = _find_norm_total(dataset, clear)
        is_ring = has_rings(dataset)
        for one, total in zip(apertures, sums, strict=True):
            part = one.cut(*place)
            values = {name: part.add(image) for name, image in images.items()}
            if is_ring:
                # all pixels of an aperture have about the same ring
                number = np.maximum(part.add(images["acceptance_off"] > 0), 1)
                for name in ("counts_off", "acceptance_off"):
                    values[name] /= number
                total.has_rings = True
            total.add(run, idx, values, norm_total)
    variances = measure_template_noise(sets.values(), energy_edges)
    return [
        [_._replace(repetition=repetition) for _ in one.get_bands(variances)]
        for one in sums
    ]


def count_spectra(sets, runs, energy_edges, repetition=1.0):
    """Count in the on region of spectra, which is an aperture for each observation.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Spectra of each set.
    runs : list of int or None
        OFF observation of each dataset, see `get_runs`. None if not known.
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    repetition : float, optional
        Mean number of times that an OFF observation is there. Default is 1.

    Returns
    -------
    counts : list of `BandCounts`
        Those of each band.
    """
    cells, n_runs = _get_cells(sets, runs)
    targets = number_targets(sets)
    n_bands, n_apertures = len(get_bands(energy_edges)), max(targets) + 1
    total = _Sums(n_runs, len(sets), n_bands, n_apertures, bool(runs))
    for (dataset, run, idx), target in zip(cells, targets, strict=True):
        values = {}
        for name, image in _make_images(dataset, energy_edges).items():
            values[name] = np.zeros((n_bands, n_apertures))
            values[name][:, target] = image.sum(axis=(1, 2))
        total.add(run, idx, values, norm_total=0)
    bands = total.get_bands(np.zeros(n_bands))
    return [_._replace(repetition=repetition) for _ in bands]


def measure_spectrum(datasets, geom=None, apertures=None):
    """Add up the prediction of the background in apertures, by energy.

    Parameters
    ----------
    datasets : list of `~gammapy.datasets.MapDataset`
        Datasets.
    geom : `~gammapy.maps.WcsGeom`, optional
        Geometry of the image that holds all maps. Default is none, for spectra.
    apertures : `~gammapy_mimic.estimators.apertures.Apertures`, optional
        Apertures on that image. Default is all of the datasets.

    Returns
    -------
    energy : `~astropy.units.Quantity`
        Energies of the bins. Shape (n_bins,).
    spectrum : `~numpy.ndarray`
        Prediction. Same shape.
    """
    axis = datasets[0].counts.geom.axes["energy"]
    spectrum = np.zeros(axis.nbin)
    for dataset in datasets:
        # each bin is a band, and all together are the last
        values = _make_images(dataset, axis.edges)["background"][: axis.nbin]
        if apertures is not None:
            part = apertures.cut(*_find_place(dataset.counts.geom, geom))
            values = values * (part.labels != OUTSIDE)
        spectrum += values.sum(axis=(1, 2))
    return axis.center, spectrum


def _get_cells(sets, runs):
    """Datasets with the indices of their run and of their set."""
    flat = [(_, idx) for idx, values in enumerate(sets.values()) for _ in values]
    names, indices = np.unique(runs or [0] * len(flat), return_inverse=True)
    cells = [
        (dataset, run, idx)
        for (dataset, idx), run in zip(flat, indices.tolist(), strict=True)
    ]
    return cells, len(names)


def number_targets(sets):
    """Give the target of each spectrum a number, the same in all sets.

    Parameters
    ----------
    sets : dict of `~gammapy.datasets.Datasets`
        Spectra of each set.

    Returns
    -------
    numbers : list of int
        Number of each spectrum, those of the first set first.
    """
    names = {}
    numbers = []
    for datasets in sets.values():
        for idx, dataset in enumerate(datasets):
            table = dataset.meta_table
            is_known = table is not None and "OBS_ID" in table.colnames
            name = tuple(np.ravel(table["OBS_ID"])) if is_known else idx
            numbers.append(names.setdefault(name, len(names)))
    return numbers


class _Sums:
    """Sums over datasets. Arrays of shape (n_runs, n_sets, n_bands, n_apertures)."""

    def __init__(self, n_runs, n_sets, n_bands, n_apertures, has_runs):
        self.shape = n_runs, n_sets, n_bands, n_apertures
        self.has_runs = has_runs
        self.values = {}
        self.norm_totals = np.zeros(n_sets)
        self.normed = np.zeros(self.shape[1:])
        self.has_rings = False

    def add(self, run, idx, values, norm_total):
        """Add the values of a dataset. Shape (n_bands, n_apertures)."""
        for name, value in values.items():
            if name not in self.values:
                self.values[name] = np.zeros(self.shape)
            self.values[name][run, idx] += value
        if norm_total > 0:
            self.norm_totals[idx] += norm_total
            self.normed[idx] += values["background"]

    def get_bands(self, template_variances):
        """Make the counts of each band."""
        share = np.divide(
            self.normed,
            self.norm_totals[:, np.newaxis, np.newaxis],
            out=np.zeros_like(self.normed),
            where=self.norm_totals[:, np.newaxis, np.newaxis] > 0,
        )
        # what is next to the pixels of a fit may be a bit more than they
        share /= np.maximum(share.sum(axis=2, keepdims=True), 1)
        # those to which no norm was fitted have none of it
        total = self.values["background"].sum(axis=0)
        share *= np.divide(
            self.normed, total, out=np.zeros_like(total), where=total > 0
        )
        bands = []
        for band, variance in enumerate(template_variances):
            counts, reason = self._make_counts(band), ""
            if self.has_rings and _get_median_alpha(counts) > RING_SHARE:
                reason = "circles are not small against the rings of their OFF counts"
            row = counts, share[:, band], float(variance)
            bands.append(BandCounts(*row, reason=reason))
        return bands

    def _make_counts(self, band):
        values = {name: value[:, :, band] for name, value in self.values.items()}
        if "counts_off" in values:
            off = values["counts_off"]
            ratios = [
                np.divide(values[a], values[b], out=np.zeros(off.shape), where=where)
                for a, b, where in (
                    ("background", "counts_off", off > 0),
                    ("acceptance", "acceptance_off", values["acceptance_off"] > 0),
                )
            ]
            values = {
                "counts": values["counts"],
                "counts_off": off,
                "alpha": np.where(off > 0, *ratios),
            }
        if not self.has_runs:
            values = {name: value.sum(axis=0) for name, value in values.items()}
        return ApertureCounts(**values)


def _get_median_alpha(counts):
    """Median of the ratio of exposures, 0 where there is none."""
    alpha = counts.alpha[counts.alpha > 0]
    return np.median(alpha) if len(alpha) else 0.0


def _make_images(dataset, energy_edges):
    """Make images of counts, and of their prediction. Shape (n_bands, n_y, n_x)."""
    # as ExcessMapEstimator
    mask = get_safe_mask(dataset)
    if dataset.mask_fit is not None:
        mask = mask & dataset.mask_fit.data
    if dataset.stat_type == "wstat":
        arrays = {name: getattr(dataset, name).data for name in ON_OFF}
        on, off = arrays["acceptance"], arrays["acceptance_off"]
        mask = mask & (off > 0)
        alpha = np.divide(on, off, out=np.zeros(on.shape), where=mask)
        arrays["background"] = alpha * arrays["counts_off"]
    else:
        arrays = {"counts": dataset.counts.data}
        arrays["background"] = dataset.npred_background().data
    energy = dataset.counts.geom.axes["energy"].center
    bins = [
        (energy >= band.e_min) & (energy < band.e_max)
        for band in get_bands(energy_edges)
    ]
    images = {}
    for name, array in arrays.items():
        values = np.where(mask, array, 0)
        images[name] = np.stack([np.sum(values[_], axis=0, dtype=float) for _ in bins])
    return images


def _find_place(geom, total):
    """Part of a larger image that the image of a geometry is."""
    first = np.rint(total.wcs.wcs.crpix - geom.wcs.wcs.crpix).astype(int)
    n_y, n_x = geom.data_shape[-2:]
    return slice(first[1], first[1] + n_y), slice(first[0], first[0] + n_x)


def find_norm_region(dataset, clear):
    """Find the pixels to whose counts the norm of a background was fitted.

    The norm of a FoV background makes counts and prediction equal, where it is fitted:
    everywhere, or outside of the known sources.

    Parameters
    ----------
    dataset : `~gammapy.datasets.MapDataset`
        Dataset.
    clear : `~numpy.ndarray` of bool
        Pixels without known source. Shape (n_y, n_x).

    Returns
    -------
    region : `~numpy.ndarray` of bool or None
        Pixels, of the same shape. None if no norm was fitted there.
    """
    if dataset.stat_type != "cash":
        return None
    mask, background = get_safe_mask(dataset), dataset.npred_background().data
    for region in (clear, np.ones_like(clear)):
        where = region & mask
        counts, total = dataset.counts.data[where].sum(), background[where].sum()
        if counts > 0 and abs(total / counts - 1) < NORM_TOLERANCE:
            return region
    return None


def _find_norm_total(dataset, clear):
    """Prediction to whose counts the norm was fitted, 0 if it was not."""
    region = find_norm_region(dataset, clear)
    if region is None:
        return 0.0
    where = region & get_safe_mask(dataset)
    return float(dataset.npred_background().data[where].sum())
