"""Figures that commands write."""

import matplotlib.pyplot as plt

from ..utils.files import replace_file
from .output import tell

__all__ = ["save_figure"]


def save_figure(figure, path):
    """Save a figure to a file, close it, and say so."""
    with replace_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
    tell(f"Wrote {path}")
