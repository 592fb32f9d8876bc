"""Plots. Every function draws what it is given on the axes it is given."""

from .background import (
    plot_background,
    plot_background_image,
    plot_background_ratio,
    plot_background_spectrum,
)
from .exclusion import plot_exclusion_regions
from .plan import plot_plan
from .ranking import plot_kl_matrix, plot_ranking
from .scramble import (
    plot_scramble,
    plot_scramble_azimuth,
    plot_scramble_energy,
    plot_scramble_events,
    plot_scramble_offset,
)
from .significance import (
    plot_significance,
    plot_significance_distribution,
    plot_significance_map,
)
from .systematics import plot_bias_map, plot_flux, plot_maximum, plot_systematics

__all__ = [
    "plot_background",
    "plot_background_image",
    "plot_background_ratio",
    "plot_background_spectrum",
    "plot_bias_map",
    "plot_exclusion_regions",
    "plot_flux",
    "plot_kl_matrix",
    "plot_maximum",
    "plot_plan",
    "plot_ranking",
    "plot_scramble",
    "plot_scramble_azimuth",
    "plot_scramble_energy",
    "plot_scramble_events",
    "plot_scramble_offset",
    "plot_significance",
    "plot_significance_distribution",
    "plot_significance_map",
    "plot_systematics",
]
