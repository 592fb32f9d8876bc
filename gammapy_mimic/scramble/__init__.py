r"""Hide sources in the background around them. Arrays and event tables only.

All positions are those of the field of view (FoV): the offset from the camera centre,
and the azimuth around it, that is the position angle from north to east.

The background that a region hides is estimated from events outside all regions. At
an offset of which the regions cover a part c, every event outside stands for
:math:`c / (1 - c)` events inside. `draw_fill` copies each with this probability. A
Poisson process of which each event is kept with a probability is again a Poisson
process, so that the copies have the expectation and the variance of a field without
source, jointly in offset and energy, whatever the number of events is. (A Poisson
number with the measured expectation would have a larger variance, by 56% for a region
of 0.3 deg at an offset of 0.2 deg.) What is inside of the regions plays no part.

The copies follow the events that they are copies of. A background that is measured at
the same offsets, from these very events, is correlated with them: its significance
distribution is too narrow where the regions cover much of an offset, as close to the
camera centre. With a background from the whole FoV it is too narrow where the region
has a large share of all events, see `get_significance_width`. Against the true one it
is right.

Where the events around a region have a significant gradient over the FoV, the copies
follow it, in number and position.

Where the regions cover more than half, an event outside is not asked to stand for more
than one inside. The rest is extrapolated from other offsets, corrected for solid angle
and for an acceptance that goes locally as :math:`\exp(b r^2)`, where b is a parabola in
the logarithm of energy, fit to the events outside. The error of b adds to the variance
of what is extrapolated: variance over mean is 1.1 for a region of 0.3 deg at the camera
centre, and 1.25 where twelve such regions cover an annulus.
"""

from .check import ScrambleCheck
from .significance import get_significance_width

__all__ = ["ScrambleCheck", "get_significance_width"]
