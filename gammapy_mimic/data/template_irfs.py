"""Background IRFs that tell how precise they are."""

import numpy as np
from gammapy.irf import Background2D, Background3D

__all__ = ["NEFF", "TemplateBackground2D", "TemplateBackground3D"]

NEFF = "BKG_NEFF"
"""Column of effective counts beside that of the rate. Readers of GADF ignore it."""


class _Template:
    """A background IRF with the effective counts of its bins.

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
