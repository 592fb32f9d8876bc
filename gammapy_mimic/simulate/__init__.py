"""DL3 observations with known truth, for tests, examples and the demo.

The IRFs are analytic functions of energy, field of view (FoV) position and zenith
angle. Background events are an exact draw from what Gammapy interpolates from the
background IRF: counts and prediction differ by statistics alone.
"""

from .flaws import BackgroundFlaw
from .irfs import make_irfs, make_point_like, remove_background
from .observations import (
    simulate_datastore,
    simulate_observation,
    simulate_observations,
)

__all__ = [
    "BackgroundFlaw",
    "make_irfs",
    "make_point_like",
    "remove_background",
    "simulate_datastore",
    "simulate_observation",
    "simulate_observations",
]
