"""Counts of datasets in apertures, by OFF observation, mimic set and band of energy.

Datasets are taken one at a time: what is kept are sums.
"""

import itertools
from typing import NamedTuple

import numpy as np

from ..data.nights import to_night
from ..data.obs_ids import shorten
from ..data.prediction import get_safe_mask
from .aperture_counts import ApertureCounts
from .apertures import OUTSIDE, Apertures, ApertureSums
from .bias_spread import MIN_APERTURES, measure_bias_spread
from .calibration import MIN_SETS, Systematic
from .excess import add_bins, find_bins
from .measurement import get_bands, has_rings, is_map
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
        Share of each aperture in the counts that the prediction follows: those to which
        its norm was fitted, or of which the OFF counts of rings are (if runs are
        known). 0 if there are none. Shape (n_sets, n_apertures).
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
        all, and the scatter of sets, in quadrature. Of one aperture the scatter of sets
        is all there is.

        All sets have the same field, whose n apertures make the n - 1 degrees of
        freedom of the spread. Sets make its noise smaller: it is the :math:`v_0` that
        gives the variance of :math:`f^2`, that of another field, :math:`2 (f^2 +
        v_0)^2 / (n - 1)`.

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
            dof = max(result.n_apertures, MIN_SETS) - 1
            noise = np.sqrt(variance * dof / 2) - square
            spread = {
                "f_squared": result.f_squared * size,
                "f_dof": dof,
                "f_background": 1 / (noise * size),
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
        Night of each OFF observation, see `~gammapy_mimic.data.nights.to_night`.
        Default is that each is one of its own.

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
    names = {run: to_night(nights.get(run)) for run in runs}
    missing = sorted(run for run, name in names.items() if not name)
    if missing:
        raise ValueError(
            f"nights has no night of the OFF observations {shorten(missing)}. Give one "
            "for each OBS_ID, or leave nights out."
        )
    return [names[_] for _ in runs]


def count_maps(
    sets, runs, geom, apertures, energy_edges, source_free=True, repetition=1.0
):
    r"""Count in apertures of maps.

    Of rings, the OFF counts of an aperture are the mean of those of its pixels. They
    are the counts of other apertures, so that :math:`\delta` of all of them is nearly 0
    by construction, and its noise by counts that of a norm fitted to the field.

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
    datasets = itertools.chain(*sets.values())
    sums = _Sums(
        apertures,
        _get_cells(sets, runs),
        ((_, _find_place(_.counts.geom, geom)) for _ in datasets),
        np.broadcast_to(source_free, geom.data_shape),
        energy_edges,
    )
    variances = measure_template_noise(sets.values(), energy_edges)
    if variances is None:
        variances = np.zeros(len(get_bands(energy_edges)))
    return sums.get_bands(variances, repetition)


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
    numbers = number_targets(sets)
    n = max(numbers) + 1
    # as pixels side by side, of which each is an aperture
    places = [(slice(1), slice(_, _ + 1)) for _ in numbers]
    sums = _Sums(
        [Apertures(np.arange(n)[np.newaxis], np.zeros((n, 2)), 0.0)],
        _get_cells(sets, runs),
        zip(itertools.chain(*sets.values()), places, strict=True),
        np.ones((1, n), dtype=bool),
        energy_edges,
    )
    (counts,) = sums.get_bands(np.zeros(len(get_bands(energy_edges))), repetition)
    return counts


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
        mask, arrays = _read_arrays(dataset)
        if apertures is not None:
            labels = apertures.labels[_find_place(dataset.counts.geom, geom)]
            mask = mask & (labels != OUTSIDE)
        values = np.where(mask, arrays["background"], 0)
        spectrum += values.sum(axis=(1, 2), dtype=float)
    return axis.center, spectrum


class _Cells(NamedTuple):
    """Row and column of each dataset in arrays (n_runs, n_sets, ...).

    ``runs`` are the names of the OFF observations of the rows. Shape (n_runs, n_sets).
    None if they are not known: then there is one row.
    """

    rows: list
    columns: list
    runs: np.ndarray | None


def _get_cells(sets, runs):
    """Find the cells of datasets, a row for each OFF observation of a set."""
    numbers = [len(_) for _ in sets.values()]
    columns = np.repeat(np.arange(len(sets)), numbers).tolist()
    if not runs:
        return _Cells([0] * len(columns), columns, None)
    names, rows = [{} for _ in sets], []
    for column, run in zip(columns, runs, strict=True):
        rows.append(names[column].setdefault(run, len(names[column])))
    n_rows = max(rows) + 1
    # rows of nothing may have any name
    names = [[*_, *[next(iter(_))] * (n_rows - len(_))] for _ in names]
    return _Cells(rows, columns, np.transpose(names))


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
    """Sums of datasets in apertures, of which one at a time is taken.

    Parameters
    ----------
    apertures : list of `~gammapy_mimic.estimators.apertures.Apertures`
        Apertures on one map.
    cells : `_Cells`
        Where they are in the sums.
    datasets : iterable of tuple
        Each dataset, and the part of the map that it is, a tuple of slice.
    clear : `~numpy.ndarray` of bool
        Pixels without known source. Shape (n_y, n_x).
    energy_edges : `~astropy.units.Quantity`
        Edges of the bands of energy.
    """

    def __init__(self, apertures, cells, datasets, clear, energy_edges):
        self.runs = cells.runs
        self.sums = ApertureSums(apertures)
        self.bands = get_bands(energy_edges)
        shape = max(cells.columns) + 1, len(self.bands), self.sums.parts[-1].stop
        # arrays of shape (n_runs, n_sets, n_bands, n_apertures)
        self.shape = max(cells.rows) + 1, *shape
        self.values = {}
        self.normed = np.zeros(shape)
        self.norm_totals = np.zeros((*shape[:2], 1))
        self.has_rings = False
        for row, column, one in zip(cells.rows, cells.columns, datasets, strict=True):
            self._add(row, column, *one, clear)

    def _add(self, row, column, dataset, place, clear):
        """Add the sums of a dataset, whose prediction is made once."""
        mask, arrays = _read_arrays(dataset)
        bins = find_bins(dataset, self.bands)
        images = {
            name: add_bins(np.where(mask, values, 0), bins)
            for name, values in arrays.items()
        }
        is_ring = is_map(dataset) and has_rings(dataset)
        if is_ring:
            images["n_off"] = images["acceptance_off"] > 0
        sums = self.sums.add(np.stack([*images.values()]), place)
        sums = dict(zip(images, sums, strict=True))
        if is_ring:
            # all pixels of an aperture have about the same ring
            number = np.maximum(sums.pop("n_off"), 1)
            for name in ("counts_off", "acceptance_off"):
                sums[name] /= number
            self.has_rings = True
        for name, values in sums.items():
            if name not in self.values:
                self.values[name] = np.zeros(self.shape)
            self.values[name][row, column] += values
        _, total = _find_norm(dataset, arrays["background"], clear[place])
        if is_ring and self.runs is not None:
            # their errors, which the scatter of runs tells, can be as small as this
            total = images["background"].sum(axis=(1, 2))[:, np.newaxis]
        if np.any(total):
            # the prediction that follows the counts of the field, of all or by band
            self.norm_totals[column] += total
            self.normed[column] += sums["background"]

    def get_bands(self, template_variances, repetition):
        """Make the counts of each of the apertures, a list of those of each band."""
        bands = []
        for part in self.sums.parts:
            share = self._get_norm_share(part)
            bands.append([])
            for idx, variance in enumerate(template_variances):
                counts, reason = self._make_counts(part, idx), ""
                if self.has_rings and _get_median_alpha(counts) > RING_SHARE:
                    reason = (
                        "circles are not small against the rings of their OFF counts"
                    )
                row = counts, share[:, idx], float(variance), repetition, reason
                bands[-1].append(BandCounts(*row))
        return bands

    def _get_norm_share(self, part):
        """Share of apertures in the counts to which a norm was fitted."""
        normed = self.normed[..., part]
        share = np.divide(
            normed,
            self.norm_totals,
            out=np.zeros_like(normed),
            where=self.norm_totals > 0,
        )
        # what is next to the pixels of a fit may be a bit more than they
        share /= np.maximum(share.sum(axis=2, keepdims=True), 1)
        # those to which no norm was fitted have none of it
        total = self.values["background"][..., part].sum(axis=0)
        share *= np.divide(normed, total, out=np.zeros_like(total), where=total > 0)
        return share

    def _make_counts(self, part, band):
        values = {name: value[:, :, band, part] for name, value in self.values.items()}
        if "counts_off" in values:
            off = values["counts_off"]
            ratios = [
                np.divide(values[a], values[b], out=np.zeros(off.shape), where=where)
                for a, b, where in (
                    ("background", "counts_off", off > 0),
                    ("acceptance", "acceptance_off", values["acceptance_off"] > 0),
                )
            ]
            alpha = np.where(off > 0, *ratios)
            values = {"counts": values["counts"], "counts_off": off, "alpha": alpha}
        if self.runs is None:
            values = {name: value[0] for name, value in values.items()}
        return ApertureCounts(**values, runs=self.runs)


def _get_median_alpha(counts):
    """Median of the ratio of exposures, 0 where there is none."""
    alpha = counts.alpha[counts.alpha > 0]
    return np.median(alpha) if len(alpha) else 0.0


def _read_arrays(dataset):
    """Read where a dataset is counted, and its arrays. Shape (n_bins, n_y, n_x)."""
    # as ExcessMapEstimator
    mask = get_safe_mask(dataset)
    if dataset.mask_fit is not None:
        # weights of a likelihood are no part of a count
        mask = mask & (dataset.mask_fit.data != 0)
    if dataset.stat_type != "wstat":
        background = dataset.npred_background().data
        return mask, {"counts": dataset.counts.data, "background": background}
    arrays = {name: getattr(dataset, name).data for name in ON_OFF}
    on, off = arrays["acceptance"], arrays["acceptance_off"]
    mask = mask & (off > 0)
    alpha = np.divide(on, off, out=np.zeros(on.shape), where=mask)
    arrays["background"] = alpha * arrays["counts_off"]
    return mask, arrays


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
    if dataset.stat_type == "wstat":
        return None
    return _find_norm(dataset, dataset.npred_background().data, clear)[0]


def _find_norm(dataset, background, clear):
    """Pixels of `find_norm_region`, and the prediction there. None and 0 for none."""
    if dataset.stat_type != "wstat":
        mask = get_safe_mask(dataset)
        for region in (clear, np.ones_like(clear)):
            where = region & mask
            counts, total = dataset.counts.data[where].sum(), background[where].sum()
            if counts > 0 and abs(total / counts - 1) < NORM_TOLERANCE:
                return region, float(total)
    return None, 0.0
