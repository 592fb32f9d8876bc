"""What the mimic sets say about a background."""

import dataclasses

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import Table
from gammapy.maps import Map
from gammapy.utils.scripts import make_path

from ..utils.files import replace_file
from .bias import BiasMap
from .normalisation import make_prior
from .tables import format_value

__all__ = ["MimicSystematics"]

RESULT_VERSION = 2
BIAS_ARRAYS = ("ratio", "error")
BIAS_EDGES = ("energy_edges", "position_edges")


@dataclasses.dataclass(frozen=True)
class MimicSystematics:
    """Result of `MimicSystematicsEstimator`.

    Attributes
    ----------
    tables : dict of `~astropy.table.Table`
        In all of them ``e_min`` and ``e_max`` are a band of energy; the last band is
        all energies, unless there is only one.

        - "significance": mean, width and tails of the distribution of each set and of
          the target.
        - "systematics": ``f``, the fractional systematic error of the background, with
          its error and upper limit (95%), by energy and offset; mean, width and tails
          of the significance of all sets; ``n_background`` is the mean number of
          effective background counts.
        - "maximum": largest significance of the target and of mimics, and how many
          sets have one as large.
        - "position": significance of the target at the position, mean and width of that
          of mimics, the calibrated significance with its error, and the empirical
          p-value.
        - "losses": observations that lose more than 1% of their counts because a
          prediction of the background is missing, or all, with the bins and the cause,
          see `~gammapy_mimic.data.meta_tables.Loss`. Not there if none does.
        - "normalisation": spread of the FoV normalisation between observations.
        - "flux": flux of a source that is fitted at the position in each set, or to
          spectra.
        - "spurious_flux": mean and scatter of these, see
          `~gammapy_mimic.estimators.average_flux`.
    maps : dict of `~gammapy.maps.WcsNDMap`
        Significance of each set and of the target, in each band: "mimic_1_0",
        "target_0" and so on.
    bias : `~gammapy_mimic.estimators.BiasMap` or None
        Counts over prediction in the field of view.
    meta : dict
        Parameters of the estimator, and why something is missing (``no_bias`` ...).
    blank : `~gammapy.maps.WcsNDMap` or None
        Where the target has no known source: outside of the excluded ones, grown by the
        correlation radius. Its distribution and largest significance are those of this
        part. None for everywhere.

    In tables, what cannot be measured is NaN.
    """

    tables: dict
    maps: dict
    bias: BiasMap | None
    meta: dict
    blank: Map | None = None

    def __str__(self):
        lines = [type(self).__name__, "-" * len(type(self).__name__), ""]
        for row in self.tables["systematics"]:
            lines.append(f"  {_describe_band(row)}: {_describe_systematic(row)}")
        for name in ("position", "maximum"):
            if name in self.tables:
                lines.append("")
                lines += [f"  {_}" for _ in self.tables[name].pformat(max_width=-1)]
        return "\n".join([*lines, ""])

    @property
    def n_sets(self):
        """Number of mimic sets (int)."""
        names = set(self.tables["significance"]["name"].tolist())
        return len(names - {"target"})

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
            reason = self.meta.get(f"no_{name}", "it was not asked for")
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
        if self.bias is None:
            raise ValueError(f"There is no bias map: {self.meta.get('no_bias')}")
        return self.bias.apply(dataset, force=force)

    def plot_map(self, ax=None, **kwargs):
        """Plot the significance map of a set or of the target.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_mimic_map`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _plot("plot_mimic_map", self, ax, kwargs)

    def plot_distribution(self, ax=None, **kwargs):
        """Plot the significance distribution of mimics and target.

        Parameters
        ----------
        ax : `~matplotlib.axes.Axes`, optional
            Axes. Default is the current one, or new ones for a map.
        **kwargs : dict
            Options of `~gammapy_mimic.visualization.plot_mimic_distribution`.

        Returns
        -------
        ax : `~matplotlib.axes.Axes`
            Axes.
        """
        return _plot("plot_mimic_distribution", self, ax, kwargs)

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
        return _plot("plot_systematics", self, ax, kwargs)

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
        return _plot("plot_maximum", self, ax, kwargs)

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
        return _plot("plot_bias_map", self.bias, ax, kwargs)

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
        return _plot("plot_flux", self, ax, kwargs)

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
        primary = fits.PrimaryHDU()
        primary.header["MIM_RES"] = RESULT_VERSION, "version of the format"
        meta = Table(
            [list(self.meta), [str(_) for _ in self.meta.values()]],
            names=["KEY", "VALUE"],
            dtype=[str, str],
        )
        hdus = [primary, fits.BinTableHDU(meta, name="META")]
        for name, table in self.tables.items():
            hdus.append(fits.BinTableHDU(table, name=f"TABLE_{name}"))
        for name, map_ in self.maps.items():
            hdus.append(map_.to_hdulist(hdu=f"MAP_{name}")[f"MAP_{name}"])
        hdus += self._make_bias_hdus()
        if self.blank is not None:
            hdus.append(self.blank.to_hdulist(hdu="BLANK")["BLANK"])
        with replace_file(path, overwrite) as temporary:
            fits.HDUList(hdus).writeto(temporary)

    def _make_bias_hdus(self):
        if self.bias is None:
            return []
        hdus = [fits.ImageHDU(getattr(self.bias, _), name=_) for _ in BIAS_ARRAYS]
        # a header has no NaN
        if np.isfinite(self.bias.p_value):
            hdus[0].header["P_VALUE"] = self.bias.p_value
        for name in BIAS_EDGES:
            quantity = getattr(self.bias, name)
            hdus.append(fits.ImageHDU(quantity.value, name=name))
            hdus[-1].header["BUNIT"] = str(quantity.unit)
        return hdus

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
        path = make_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        with fits.open(path, memmap=False) as hdu_list:
            _check_version(path, hdu_list[0].header)
            names = [_.name.lower() for _ in hdu_list[1:]]
            keys, values = Table.read(hdu_list["META"]).columns.values()
            return cls(
                tables={
                    _.removeprefix("table_"): _read_table(hdu_list[_])
                    for _ in names
                    if _.startswith("table_")
                },
                maps={
                    _.removeprefix("map_"): Map.from_hdulist(hdu_list, hdu=_.upper())
                    for _ in names
                    if _.startswith("map_")
                },
                bias=_read_bias(hdu_list) if "ratio" in names else None,
                meta=dict(zip(keys.tolist(), values.tolist(), strict=True)),
                blank=_read_blank(hdu_list) if "blank" in names else None,
            )


def _plot(name, values, ax, kwargs):
    """Call a function of the plots, which are loaded only when they are needed."""
    from .. import visualization

    return getattr(visualization, name)(values, ax=ax, **kwargs)


def _read_table(hdu):
    # NaN as it was written, not a mask
    table = Table.read(hdu, unit_parse_strict="silent", mask_invalid=False)
    table.meta.clear()
    for name in table.colnames:
        if table[name].dtype.kind == "S":
            table[name] = np.char.decode(table[name])
        elif table[name].dtype.kind == "f":
            table[name].info.format = ".4g"
    return table


def _check_version(path, header):
    version = header.get("MIM_RES")
    if version is None:
        raise ValueError(f"{path} is not a result of MimicSystematicsEstimator.")
    if version != RESULT_VERSION:
        raise ValueError(
            f"{path} has the version {version} of the format, this is version "
            f"{RESULT_VERSION}. Run the estimator again."
        )


def _read_blank(hdu_list):
    blank = Map.from_hdulist(hdu_list, hdu="BLANK")
    return blank.copy(data=blank.data.astype(bool))


def _read_bias(hdu_list):
    arrays = {
        name: np.array(hdu_list[name].data, dtype=float)
        for name in (*BIAS_ARRAYS, *BIAS_EDGES)
    }
    for name in BIAS_EDGES:
        arrays[name] = arrays[name] * u.Unit(hdu_list[name].header["BUNIT"])
    return BiasMap(**arrays, p_value=hdu_list["ratio"].header.get("P_VALUE", np.nan))


def _describe_band(row):
    text = f"{row['e_min']:.3g} to {row['e_max']:.3g} TeV"
    if np.isfinite(row["offset_min"]):
        text += f", {row['offset_min']:.2g} to {row['offset_max']:.2g} deg"
    return text


def _describe_systematic(row):
    width = format_value(row["width"], row["width_err"], ".3f")
    systematic = "not known"
    if row["f_squared"] > 0:
        systematic = format_value(row["f"], row["f_err"], ".1%")
    elif np.isfinite(row["f_squared"]):
        systematic = "0"
    if np.isfinite(row["f_ul"]):
        systematic += f" (below {row['f_ul']:.1%})"
    return f"width {width}, systematic error {systematic}"
