"""Background IRFs that tell how precise they are."""

import functools

import astropy.units as u
import numpy as np
from astropy.table import Table
from gammapy.irf import Background2D, Background3D
from gammapy.utils.fits import HDULocation

from .observation import get_hdu

__all__ = [
    "NEFF",
    "NEFF_ENERGIES",
    "TemplateBackground2D",
    "TemplateBackground3D",
    "average_counts",
    "get_template",
    "make_template_columns",
]

NEFF = "BKG_NEFF"
"""Column of effective counts beside that of the rate. Readers of GADF ignore it."""

NEFF_ENERGIES = np.geomspace(0.1, 100, 24, endpoint=False) * 10 ** (1 / 16)
"""Energies at which `make_template_columns` tells them, in TeV, 8 a decade: the same
for all templates, so that meta tables can be stacked."""


class _Template:
    """A background IRF with the effective counts of its bins.

    It reads and writes them. What Gammapy makes of it (slices, a padded one) has none.

    Parameters
    ----------
    *args, **kwargs
        As those of the background IRF.
    neff : `~numpy.ndarray`, optional
        Effective counts: 1 over the variance of the log of the rate in a bin. Same
        shape as the data. Default is None, not known.
    """

    def __init__(self, *args, neff=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.neff = neff

    @classmethod
    def from_table(cls, table, format="gadf-dl3"):
        """Read from a table, with the effective counts if it has them."""
        bkg = super().from_table(table, format)
        if NEFF in table.colnames:
            bkg.neff = table[NEFF][0].T
        return bkg

    def to_table(self, format="gadf-dl3"):
        """Convert to table, with the effective counts as a column."""
        table = super().to_table(format)
        if self.neff is not None:
            table[NEFF] = self.neff.T[np.newaxis]
        return table


class TemplateBackground2D(_Template, Background2D):
    """A `~gammapy.irf.Background2D` with effective counts, see ``neff``."""


class TemplateBackground3D(_Template, Background3D):
    """A `~gammapy.irf.Background3D` with effective counts, see ``neff``."""


TEMPLATES = {"bkg_2d": TemplateBackground2D, "bkg_3d": TemplateBackground3D}


def get_template(observation):
    """Get the background of an observation, with effective counts where it has some.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`
        Observation. What is read from disk is not kept.

    Returns
    -------
    bkg : `~gammapy.irf.BackgroundIRF` or None
        Background, in the alignment of the file.
    """
    bkg = get_hdu(observation, "bkg")
    if not isinstance(bkg, HDULocation):
        return bkg
    table = Table.read(bkg.path(), hdu=bkg.hdu_name)
    return TEMPLATES[bkg.hdu_class].from_table(table)


def make_template_columns(observation=None):
    """Make the columns of a meta table that tell what a template is made of.

    Parameters
    ----------
    observation : `~gammapy.data.Observation`, optional
        Observation with a template, which is not kept if it is read from disk. Default
        is none.

    Returns
    -------
    columns : dict
        - ``BKG_OBS_IDS``, the OFF observations that it is made of, such as "101,105",
          their number ``BKG_N_OBS``, and their livetime ``BKG_LIVETIME``;
        - ``BKG_NEFF``, the effective counts of its bins at `NEFF_ENERGIES`: 1 over the
          variance of the log of the rate, in the mean of the field of view weighted
          with rate and solid angle. 0 where the template ends, and NaN if it does not
          tell. Shape (24,).
    """
    bkg = None if observation is None else get_template(observation)
    meta = getattr(bkg, "meta", None) or {}
    return {
        "BKG_OBS_IDS": meta.get("OBS_IDS", ""),
        "BKG_N_OBS": meta.get("N_OBS", 0),
        "BKG_LIVETIME": meta.get("LIVETIME", 0.0) * u.s,
        "BKG_NEFF": average_counts(bkg),
    }


def average_counts(bkg):
    """Average the effective counts of a template over the field of view.

    Parameters
    ----------
    bkg : `~gammapy.irf.BackgroundIRF` or None
        Template.

    Returns
    -------
    counts : `~numpy.ndarray`
        Effective counts of a bin at `NEFF_ENERGIES`, as ``BKG_NEFF`` of
        `make_template_columns`. Shape (24,).
    """
    neff = getattr(bkg, "neff", None)
    if neff is None:
        return np.full(len(NEFF_ENERGIES), np.nan)
    axis, *position = bkg.axes
    weights = bkg.data * functools.reduce(np.multiply.outer, map(_get_width, position))
    variance = np.divide(weights, neff, out=np.zeros(neff.shape), where=neff > 0)
    sums = [_.reshape(len(_), -1).sum(axis=1) for _ in (weights, variance)]
    mean = np.divide(*sums, out=np.zeros(axis.nbin), where=sums[1] > 0)
    idx = axis.coord_to_idx(NEFF_ENERGIES * u.TeV, clip=False)
    return np.where(idx < 0, 0, mean[idx])


def _get_width(axis):
    """Solid angle of the bins of a position axis, up to a factor."""
    width = axis.bin_width.to_value("deg")
    return width * axis.center.to_value("deg") if axis.name == "offset" else width
