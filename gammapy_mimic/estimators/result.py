"""What the mimic sets say about a background."""

import dataclasses

import numpy as np
from astropy.coordinates import Angle, SkyCoord
from gammapy.maps import WcsNDMap

from ..version import __version__
from . import result_fits
from .bias import BiasMap
from .measurement import ALL, Band
from .normalisation import make_prior
from .tables import TARGET, format_value
from .verdict import judge

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
        - "systematics": ``f``, the fractional systematic error of the background, with
          its error and upper limit (95%), and whether it is above 0 (``is_measured``),
          by energy and offset (``offset_band``: "0", "1" ... or "all"); mean, width and
          tails of the significance of all sets, with errors from the scatter of sets;
          ``n_background`` is the mean number of effective background counts.
        - "maximum": largest significance of the target and of mimics, and how many
          sets have one as large.
        - "position": significance of the target at the position, mean and width of that
          of mimics, the calibrated significance with its error, and the empirical
          p-value.
        - "losses": observations that lose more than 1% of their counts because a
          prediction of the background is missing, or all, with the bins and the cause,
          see `~gammapy_mimic.data.meta_tables.Loss`; and what set and target do
          not share (``obs_id`` -1), if it is more than 1%: counts of the target where
          no mimic of the set has a prediction, or an event of that energy (``cause``
          "mimics"), and counts of a set of which the same holds for the target
          ("target"). Not there if there is nothing.
        - "normalisation": mean and spread of the FoV normalisation between OFF
          observations, of which those that sets share count once, with the interval
          (68%) and the upper limit (95%) of the spread, and what is known of another
          observation (``other_err``), see
          `~gammapy_mimic.estimators.measure_normalisation`.
        - "flux": flux of a source that is fitted at the position in each set, or to
          spectra.
        - "spurious_flux": mean and scatter of these, see
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

    tables: dict
    correlation_radius: Angle
    min_background: float
    maps: dict = dataclasses.field(default_factory=dict)
    background: dict = dataclasses.field(default_factory=dict)
    bias: BiasMap | None = None
    source_free: WcsNDMap | None = None
    position: SkyCoord | None = None
    missing: dict = dataclasses.field(default_factory=dict)
    version: str = __version__

    def __str__(self):
        lines = [type(self).__name__, "-" * len(type(self).__name__), ""]
        for row in self.tables["systematics"]:
            band = f"{row['e_min']:.3g} to {row['e_max']:.3g} TeV"
            if np.isfinite(row["offset_min"]):
                band += f", {row['offset_min']:.2g} to {row['offset_max']:.2g} deg"
            width = format_value(row["width"], row["width_err"], ".3f")
            systematic = "not known"
            if row["f_squared"] > 0:
                systematic = format_value(row["f"], row["f_err"], ".1%")
            elif np.isfinite(row["f_squared"]):
                systematic = "0"
            if np.isfinite(row["f_ul"]):
                systematic += f" (below {row['f_ul']:.1%})"
            lines.append(f"  {band}: width {width}, systematic error {systematic}")
        for name in ("position", "maximum"):
            if name in self.tables:
                lines.append("")
                lines += [f"  {_}" for _ in self.tables[name].pformat(max_width=-1)]
        return "\n".join([*lines, ""])

    @property
    def names(self):
        """Names of the mimic sets (list of str)."""
        # each once, in the order of the sets
        names = dict.fromkeys(self.tables["significance"]["name"].tolist())
        return [_ for _ in names if _ not in (ALL, TARGET)]

    @property
    def bands(self):
        """Bands of energy (list of `~gammapy_mimic.estimators.Band`).

        "all" is the last.
        """
        rows = self.select("significance", band=None, name=ALL)
        edges = (rows[_].quantity for _ in ("e_min", "e_max"))
        return [Band(*_) for _ in zip(rows["band"].tolist(), *edges, strict=True)]

    @property
    def judgement(self):
        """What it says (`~gammapy_mimic.estimators.Judgement`)."""
        return judge(self)

    def select(self, table, band=ALL, **values):
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

    def get_map(self, name, band=ALL):
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

    def get_significance(self, name=ALL, band=ALL):
        """Get the significances that the table "significance" describes.

        Parameters
        ----------
        name : str, optional
            Name of a mimic set, "all" (default) for all of them, or "target".
        band : str or int, optional
            Band of energy. Default is "all".

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
            if key == TARGET and self.source_free is not None:
                valid &= self.source_free.data
            values.append(image[valid])
        return np.concatenate(values)

    def to_table(self, name="systematics"):
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

    def to_prior(self, parameter="norm"):
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

    def apply_bias_correction(self, dataset, force=False):
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

    def plot_map(self, ax=None, **kwargs):
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

    def plot_distribution(self, ax=None, **kwargs):
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

    def plot_systematics(self, ax=None, **kwargs):
        """Plot the systematic error by energy or offset.

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

    def plot_maximum(self, ax=None, **kwargs):
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

    def plot_bias(self, ax=None, **kwargs):
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

    def plot_flux(self, ax=None, **kwargs):
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

    def write(self, path, overwrite=False):
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
    def read(cls, path):
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
