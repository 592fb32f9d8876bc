"""What the mimic sets say about a background."""

import dataclasses
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy.coordinates import Angle, SkyCoord
from astropy.table import Table
from astropy.units import Quantity
from gammapy.datasets import MapDataset
from gammapy.estimators import FluxPoints
from gammapy.maps import WcsNDMap
from gammapy.modeling.models import FoVBackgroundModel, GaussianPrior, Models
from gammapy.stats import GaussianPriorPenalty
from matplotlib.axes import Axes

from ..version import __version__
from . import nuisance, result_fits
from .bias import BiasMap, CorrectedDataset
from .flux_points import join_flux
from .low_high import make_low_high
from .maps import BandMaps
from .measurement import ALL, Band
from .normalisation import make_prior
from .paper import make_paper_text
from .tables import TARGET, format_interval
from .verdict import Judgement, judge
from .weights import make_weighted

__all__ = ["MimicSystematics"]


# tables and maps have no == of their own that is one value
@dataclasses.dataclass(frozen=True, eq=False)
class MimicSystematics:
    """Result of `MimicSystematicsEstimator`.

    Sets have the names "mimic_1", "mimic_2" ..., the target is "target". A band of
    energy is "0", "1" ... from low to high energies, or "all" for all of them, which
    is there alone if there is one band. `select` takes rows of a table by these.

    Attributes
    ----------
    tables : dict of `~astropy.table.Table`
        Those by energy have the columns ``band``, ``e_min`` and ``e_max``.

        - "significance": mean, width and tails of the distribution of each set, of all
          sets ("all") and of the target. Errors are statistical, with the correlation
          of positions; ``expected_mean`` is that of a background without systematic
          error, ``n_above_3`` the number of the ``n_positions`` above 3 sigma,
          ``background_ratio`` the background counts over those of the target.
        - "systematics": error of the background in circles of the correlation radius,
          by energy and offset (``offset_band``: "0", "1" ... or "all"). ``delta`` is
          counts over prediction minus 1 with its error, ``f`` the spread between
          positions with its interval (68%, ``f_lo`` to ``f_hi``) and upper limit (95%,
          ``f_ul``), and ``total`` the root of delta^2 + f^2 (1 + delta)^2, with the
          same. ``f_other_ul`` and ``total_other_ul`` are the limits for another field,
          ``f_squared`` is the number to be averaged, ``template_err`` the noise of the
          template, which f does not have, ``norm_share`` the part of the counts that
          the prediction follows, by a norm that was fitted to them or by rings,
          ``n_runs`` the effective number of OFF observations (NaN for stacked datasets,
          whose errors are of counts alone), and
          ``n_apertures`` that of independent circles. ``reason`` says why something is
          not measured. Then mean and width of the significance, with errors from the
          scatter of sets that are not below the statistical ones, and the mean number
          of effective background counts, ``n_background``.
        - "scales": the same error for circles of several radii, by ``radius`` and band.
        - "distance": the same by the ``distance`` of OFF observations from their
          targets, in units of the limits of the criteria, if a plan with it was given:
          what it costs that no nearer one exists.
        - "regions": the same in each of the given regions, where the spread is that
          between sets, with the mean ``counts`` and ``background`` of a set, those of
          the target, and its calibrated significance.
        - "maximum": largest significance of the target and of mimics, and the p-value
          from random maps of the background, see
          `~gammapy_mimic.estimators.maximum.tabulate_maximum`.
        - "position": significance of the target at the position, mean and width of the
          significance of background alone for as many counts, the ``calibrated``
          significance with its p-value, all in words (``text``); by which
          ``background_factor`` the prediction would have to be too low to leave 3 sigma
          of it; and how many mimics in the ``n_places`` of the same offset are as
          large, where each event counts once.
        - "losses": observations that lose more than 1% of their counts because a
          prediction of the background is missing, or all, with the bins and the cause,
          see `~gammapy_mimic.data.meta_tables.Loss`; and what set and target do
          not share (``obs_id`` -1), if it is more than 1%: counts of the target where
          no mimic of the set has a prediction, or an event of that energy (``cause``
          "mimics"), and counts of a set of which the same holds for the target
          ("target"). Not there if there is nothing.
        - "sets": number of datasets and good ``time`` of each set and of the target,
          the energies that are safe in any dataset (``e_min`` to ``e_max``) and in all
          (from ``e_min_all``), and the ``background_ratio`` of all energies.
        - "time": good time of the target, and of the OFF observations, each of which
          counts once (NaN if they are not known), in hours.
        - "normalisation": mean and spread of the FoV normalisation between OFF
          observations, of which those that sets share count once, with the interval
          (68%) and the upper limit (95%) of the spread, and what is known of another
          observation (``other_err``), see
          `~gammapy_mimic.estimators.measure_normalisation`.
        - "covariance": error of the background between bands of energy, in the circles
          of the correlation radius at the offset of the position, or anywhere. By band:
          mean ``energy`` of the background, bias ``delta`` with its error, ``spread``,
          the standard deviation of the errors of targets, and ``error``, that of one
          more target around the measured bias, of which a row of ``covariance`` is the
          covariance with each of the bands. It has the noise of the target's template,
          ``template_err``, which the spread has not. See
          `~gammapy_mimic.estimators.covariance_table.tabulate_covariance`.
        - "flux": flux of a source that is fitted at the position in each set, or to
          spectra, through the IRFs of the target, and that of the target itself.
        - "spurious_flux": mean and scatter of those of the sets, the systematic error
          of a flux of the target, and that flux with its statistical error, see
          `~gammapy_mimic.estimators.average_flux`.
    correlation_radius : `~astropy.coordinates.Angle`
        Radius in which counts are added.
    min_background : float
        Effective background counts of a position that is in the tables.
    maps : dict of `~gammapy_mimic.estimators.BandMaps`
        Significance of each set and of the target, by name. Empty for spectra.
    background : dict of `~gammapy_mimic.estimators.BandMaps`
        Effective background counts of the same.
    bias : `~gammapy_mimic.estimators.BiasMap` or None
        Counts over prediction in the field of view.
    source_free : `~gammapy.maps.WcsNDMap` or None
        Where the target has no known source: outside of the excluded ones, grown by the
        correlation radius. Its distribution and largest significance are those of this
        part. None for everywhere.
    position : `~astropy.coordinates.SkyCoord` or None
        Position in question.
    missing : dict of str
        Why something was not measured, by its name, such as "bias" or "flux".
    version : str
        Version of the package that made it.

    In tables, what cannot be measured is NaN.
    """

    tables: dict[str, Table]
    correlation_radius: Angle
    min_background: float
    maps: dict[str, BandMaps] = dataclasses.field(default_factory=dict)
    background: dict[str, BandMaps] = dataclasses.field(default_factory=dict)
    bias: BiasMap | None = None
    source_free: WcsNDMap | None = None
    position: SkyCoord | None = None
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    version: str = __version__

    def __str__(self):
        lines = [type(self).__name__, "-" * len(type(self).__name__), ""]
        for row in self.tables["systematics"]:
            band = f"{row['e_min']:.3g} to {row['e_max']:.3g} TeV"
            if np.isfinite(row["offset_min"]):
                band += f", {row['offset_min']:.2g} to {row['offset_max']:.2g} deg"
            total, bias = format_interval(row, "total"), "not known"
            if np.isfinite(row["delta"]):
                bias = f"{row['delta']:+z.1%} ± {row['delta_err']:.1%}"
            line = f"  {band}: {total}; bias {bias}"
            # without a spread there is no total, for the same reason
            if np.isfinite(row["total"]):
                line += f", spread {format_interval(row, 'f')}"
            lines.append(line)
        if "position" in self.tables:
            lines += ["", f"  position: {self.select('position')[0]['text']}"]
        if "maximum" in self.tables:
            row = self.select("maximum")[0]
            text = row["text"]
            if np.isfinite(row["significance"]):
                text = f"{row['significance']:.2f} sigma, {text}"
            lines += ["", f"  largest: {text}"]
        return "\n".join([*lines, ""])

    @property
    def names(self) -> list[str]:
        """Names of the mimic sets (list of str)."""
        # each once, in the order of the sets
        names = dict.fromkeys(self.tables["significance"]["name"].tolist())
        return [_ for _ in names if _ not in (ALL, TARGET)]

    @property
    def bands(self) -> list[Band]:
        """Bands of energy (list of `~gammapy_mimic.estimators.Band`).

        "all" is the last.
        """
        rows = self.select("significance", band=None, name=ALL)
        edges = (rows[_].quantity for _ in ("e_min", "e_max"))
        return [Band(*_) for _ in zip(rows["band"].tolist(), *edges, strict=True)]

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the error of the background between bands of energy.

        That of one more target, as a fraction of the background, around the measured
        bias ``delta``: with the error of that, and widened for the number of OFF
        observations that it is known from. The noise of the target's template is in it,
        Poisson noise of its counts is not. Shape (n_bands, n_bands), the bands are the
        rows of the table "covariance". It is an error if it was not measured, with the
        reason.
        """
        return np.array(self.to_table("covariance")["covariance"])

    @property
    def judgement(self) -> Judgement:
        """What it says (`~gammapy_mimic.estimators.Judgement`)."""
        return judge(self)

    def select(self, table: str, band: str | None = ALL, **values: Any) -> Table:
        """Select rows of a table.

        Parameters
        ----------
        table : str
            Name of the table.
        band : str or int, optional
            Index of the band of energy, "all" (default) for all energies together, as
            those of a table without bands, None for every band.
        **values : dict of str or int
            Value of other columns: ``name``, or ``offset_band``.

        Returns
        -------
        rows : `~astropy.table.Table`
            Rows.

        Raises
        ------
        ValueError
            If there is no such table, column or row.

        Examples
        --------
        >>> result.select("significance", name="mimic_1")  # doctest: +SKIP
        >>> result.select("systematics", band=0, offset_band="all")  # doctest: +SKIP
        """
        rows = self.to_table(table)
        # a table without bands is one of all energies
        is_total = str(band) == ALL and "band" not in rows.colnames
        if band is not None and not is_total:
            values = {"band": band} | values
        for name, value in values.items():
            if name not in rows.colnames:
                raise ValueError(
                    f"The table {table!r} has no column {name!r}. Choose from "
                    f"{rows.colnames}."
                )
            choices = rows[name].tolist()
            rows = rows[rows[name] == str(value)]
            if not len(rows):
                raise ValueError(
                    f"The table {table!r} has no {name} {value!r}. Choose from "
                    f"{list(dict.fromkeys(choices))}."
                )
        return rows

    def get_map(self, name: str, band: str = ALL) -> WcsNDMap:
        """Get the significance map of a mimic set or of the target.

        Parameters
        ----------
        name : str
            Name of a mimic set, or "target".
        band : str or int, optional
            Band of energy. Default is "all".

        Returns
        -------
        image : `~gammapy.maps.WcsNDMap`
            Map without energy axis.

        Raises
        ------
        ValueError
            If there is no such map or band.
        """
        if name not in self.maps:
            way_out = f"Choose from {list(self.maps)}."
            if not self.maps:
                way_out = (
                    "Spectra have none: use plot_maximum, or the tables "
                    f"{list(self.tables)}."
                )
            raise ValueError(f"There is no map of {name!r}. {way_out}")
        return self.maps[name].get_image(band)

    def get_significance(
        self, name: str = ALL, band: str = ALL, is_source_free: bool = False
    ) -> np.ndarray:
        """Get the significances that the table "significance" describes.

        Parameters
        ----------
        name : str, optional
            Name of a mimic set, "all" (default) for all of them, or "target".
        band : str or int, optional
            Band of energy. Default is "all".
        is_source_free : bool, optional
            Whether mimics count only at the positions of the target: where it has a
            significance, and no known source. They are those of the table "maximum".
            Default is False, which is what the table "significance" describes.

        Returns
        -------
        values : `~numpy.ndarray`
            Significance of each position of the maps with enough background, of the
            target where it has no known source. Shape (n_positions,).

        Raises
        ------
        ValueError
            If there is no such map or band.
        """
        values = []
        for key in self.names if name == ALL else [name]:
            image = self.get_map(key, band).data
            background = self.background[key].get_image(band).data
            valid = np.isfinite(image) & (background >= self.min_background)
            has_mask = key == TARGET or is_source_free
            if has_mask and self.source_free is not None:
                valid &= self.source_free.data
            if is_source_free and TARGET in self.maps:
                valid &= np.isfinite(self.get_map(TARGET, band).data)
            values.append(image[valid])
        return np.concatenate(values)

    def to_table(self, name: str = "systematics") -> Table:
        """Get a table.

        Parameters
        ----------
        name : str, optional
            Name of the table. Default is "systematics".

        Returns
        -------
        table : `~astropy.table.Table`
            Table.

        Raises
        ------
        ValueError
            If it was not made, with the reason.
        """
        if name not in self.tables:
            reason = self.missing.get(name, "it was not asked for")
            raise ValueError(
                f"There is no table {name!r}: {reason}. Choose from "
                f"{list(self.tables)}."
            )
        return self.tables[name]

    def to_text(self, style: str = "paper") -> str:
        """Write what a paper prints: a paragraph, and a table by energy.

        Parameters
        ----------
        style : {"paper"}, optional
            Kind of text. Default is "paper".

        Returns
        -------
        text : str
            Text.

        Raises
        ------
        ValueError
            If there is no such style.
        """
        if style != "paper":
            raise ValueError(f"Invalid style: {style!r}. Choose from ['paper'].")
        return make_paper_text(self)

    def to_flux_table(self, flux_points: FluxPoints) -> Table:
        """Add the systematic error of the background to flux points of the target.

        `~astropy.table.Table` reads all columns of a file of it, and
        `~gammapy.estimators.FluxPoints` those that it knows.

        Parameters
        ----------
        flux_points : `~gammapy.estimators.FluxPoints`
            Flux points in bands of energy of the result, or in that of all energies.

        Returns
        -------
        table : `~astropy.table.Table`
            Table of ``flux_points.to_table(sed_type="flux")`` with ``flux_sys_errn``
            and ``flux_sys_errp``, the error to lower and to higher flux, and
            ``flux_sys_ul``, the upper limit (95%) of a flux that is none, see
            `~gammapy_mimic.estimators.flux.SpuriousFlux`.

        Raises
        ------
        ValueError
            If the result has no flux, or not that of mimics through the target's IRFs,
            or no such band.
        """
        return join_flux(flux_points, *map(self.to_table, ("flux", "spurious_flux")))

    def to_prior(self, parameter: str = "norm") -> GaussianPrior:
        """Make a prior from the spread of the FoV normalisation.

        Parameters
        ----------
        parameter : {"norm", "tilt"}, optional
            Parameter of `~gammapy.modeling.models.FoVBackgroundModel`.

        Returns
        -------
        prior : `~gammapy.modeling.models.GaussianPrior`
            Prior, to be set as ``model.spectral_model.norm.prior``.

        Raises
        ------
        ValueError
            If the parameter was not measured.
        """
        return make_prior(self.to_table("normalisation"), parameter)

    def to_weights(
        self, dataset: MapDataset, f: float | Quantity | str | None = None
    ) -> MapDataset:
        """Give a dataset the likelihood weights of the spread f of its background.

        The weight is 1 / (1 + f^2 N), with the background counts N in a circle of the
        correlation radius and a band of energy, as that of the Fermi-LAT catalog; with
        several bands it is a bit smaller, as their errors may be the same one, see
        `~gammapy_mimic.estimators.weights.get_weights`. Then a fitted source is not
        more significant than the error of the background allows. A bias of the
        background is not in it.

        Weights are in ``mask_fit``, and act in `~gammapy.modeling.Fit` only. Gammapy
        2.1 loses them, without a word, where it writes and reads a dataset, and where
        it cuts it: in ``cutout``, and by energy, as
        `~gammapy.estimators.FluxPointsEstimator` does.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset with a background model. Not changed. That of a target whose
            observations are stacked: errors of several datasets would be taken as
            independent.
        f : float, `~astropy.units.Quantity` or str, optional
            Spread, one or one for each band of energy, such as 0.05 or
            ``5 * u.percent``, or a column of the table "systematics". Default is "f"; a
            band without has that of all energies. An f of 0 is no proof of 0: its upper
            limit, "f_ul", is on the safe side. With "error" it is the error of the
            table "covariance", which has what the whole field has in common, too; a
            band that is not in it has the "total" of the table "systematics".

        Returns
        -------
        dataset : `~gammapy.datasets.MapDataset`
            Copy with the same models, and the statistic "cash_weighted".

        Raises
        ------
        ValueError
            If the dataset has no background model, is no map or has weights already, or
            if f was not measured or is not valid.
        """
        return make_weighted(self, dataset, f)

    def make_low_high(
        self, dataset: MapDataset, total: float | Quantity | str | None = None
    ) -> tuple[MapDataset, MapDataset]:
        """Make a pair of datasets with the background down and up by its error.

        It is changed by one factor in each band of energy, as the error was measured:
        an interpolation would have another one in the band as a whole. Fit with the
        norm of the background frozen, which would take the change back.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset with a background model. Not changed.
        total : float, `~astropy.units.Quantity` or str, optional
            Relative error, one or one for each band of energy, or a column of the table
            "systematics", such as "total_ul", or "error", see `to_weights`. Default is
            "total"; a band without has that of all energies.

        Returns
        -------
        low, high : `~gammapy.datasets.MapDataset`
            Copies with the same models.

        Raises
        ------
        ValueError
            If the dataset has no background model, or if the error was not measured or
            is not valid.
        """
        return make_low_high(self, dataset, total)

    def prepare_dataset(self, dataset: MapDataset) -> MapDataset:
        """Multiply a fitted background model into the background of a dataset.

        Gammapy takes one background model for a dataset, and no product of two. So what
        a `~gammapy.makers.FoVBackgroundMaker` has fitted must be in the background
        itself before `to_background_model` replaces the model. A model of that method
        is left out: its norms are the bias, which the next one has again.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.SpectrumDataset`
            Dataset with a background. Not changed.

        Returns
        -------
        prepared : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.SpectrumDataset`
            Copy of the same name, without background model. Other models are kept.

        Raises
        ------
        ValueError
            If the background of the dataset is measured, or if there is none.
        """
        return nuisance.prepare_dataset(dataset, self.tables.get("covariance"))

    def to_background_model(self, dataset: MapDataset) -> FoVBackgroundModel:
        """Make a background model with the mimics' bias, free in each band of energy.

        The norms are those at the mean energies of the bands of the table "covariance",
        between which Gammapy interpolates. They need `make_penalty`: without, the
        background is free.

        They are the norms of circles of the correlation radius: fit the counts of such
        a circle, by ``dataset.to_spectrum_dataset``, or with a ``mask_fit``. In a whole
        field of view, the counts of which fix the norms, the error at the source would
        be lost. If datasets share the error, give their models one ``spectral_model``.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset` or `~gammapy.datasets.SpectrumDataset`
            Dataset with a background. Not changed. A model of an earlier call may be
            replaced.

        Returns
        -------
        model : `~gammapy.modeling.models.FoVBackgroundModel`
            Model with a `~gammapy.modeling.models.PiecewiseNormSpectralModel`.

        Raises
        ------
        ValueError
            If the covariance was not measured, with the reason; if the background is
            measured, or if there is none; or if a background model was fitted, see
            `prepare_dataset`.
        """
        radius = self.correlation_radius if self.maps else None
        table = self.to_table("covariance")
        return nuisance.make_background_model(table, dataset, radius)

    def make_penalty(self, models: Models) -> list[GaussianPriorPenalty]:
        """Make the penalties of the models of `to_background_model`.

        Gammapy loses penalties where it copies models, in `FluxPointsEstimator`, too,
        and where it writes them: make them again after reading.

        Parameters
        ----------
        models : `~gammapy.modeling.models.Models`
            Models of a fit.

        Returns
        -------
        penalties : list of `~gammapy.stats.GaussianPriorPenalty`
            For ``models.set_penalties``, one for each spectral model.

        Raises
        ------
        ValueError
            If the covariance was not measured, or if no model is one of
            `to_background_model`.

        Examples
        --------
        >>> models = Models([source, background])  # doctest: +SKIP
        >>> models.set_penalties(result.make_penalty(models))  # doctest: +SKIP
        >>> datasets.models = models  # doctest: +SKIP
        """
        return nuisance.make_penalty(self.to_table("covariance"), models)

    def apply_bias_correction(
        self, dataset: MapDataset, force: bool = False
    ) -> CorrectedDataset:
        """Multiply the background of a dataset by the bias map.

        Parameters
        ----------
        dataset : `~gammapy.datasets.MapDataset`
            Dataset. Not changed.
        force : bool, optional
            Whether to apply a map that is not significant. Default is False.

        Returns
        -------
        corrected : `~gammapy_mimic.estimators.CorrectedDataset`
            Dataset, and the relative error of its correction.

        Raises
        ------
        ValueError
            If there is no bias map, it is not significant, or does not fit the dataset.
        """
        return self._get_bias().apply(dataset, force=force)

    def _get_bias(self):
        if self.bias is None:
            reason = self.missing.get("bias", "spectra have none.")
            raise ValueError(f"There is no bias map: {reason}")
        return self.bias

    def plot_map(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """Plot the significance map of a set or of the target.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_significance_map`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _call_plot("plot_significance_map", self, ax, kwargs)

    def plot_distribution(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """Plot the significance distribution of mimics and target.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_significance_distribution`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _call_plot("plot_significance_distribution", self, ax, kwargs)

    def plot_systematics(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """Plot bias and spread by energy, offset, radius or distance.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_systematics`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _call_plot("plot_systematics", self, ax, kwargs)

    def plot_maximum(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """Plot the largest significance of the target and of mimics.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_maximum`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _call_plot("plot_maximum", self, ax, kwargs)

    def plot_bias(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """Plot the bias map.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_bias_map`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _call_plot("plot_bias_map", self._get_bias(), ax, kwargs)

    def plot_flux(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """Plot the spurious flux.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_flux`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _call_plot("plot_flux", self, ax, kwargs)

    def write(self, path: str | Path, overwrite: bool = False) -> None:
        """Write to a FITS file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File.
        overwrite : bool, optional
            Whether to replace an existing file. Default is False.

        Raises
        ------
        FileExistsError
            If the file exists and may not be replaced.
        """
        result_fits.write_result(self, path, overwrite)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read from a FITS file.

        Parameters
        ----------
        path : str or `~pathlib.Path`
            File.

        Returns
        -------
        result : `MimicSystematics`
            Result.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is another kind of file.
        """
        return cls(**result_fits.read_result(path))


def _call_plot(name, values, ax, kwargs):
    # matplotlib is slow to load, and not all need it
    from .. import visualization

    return getattr(visualization, name)(values, ax=ax, **kwargs)
