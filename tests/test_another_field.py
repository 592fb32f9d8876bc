"""What mimics of one field tell of another one."""

import numpy as np
from numpy.testing import assert_allclose

from gammapy_mimic.estimators.bias_spread import measure_bias_spread

from .counts_toys import Toy


def measure(toy, seed=0, **options):
    rng = np.random.default_rng(seed)
    return measure_bias_spread(toy.draw(rng, toy.draw_field(rng)), **options)


def test_errors_of_single_runs_are_no_choice_of_the_field():
    """Other runs see it with other errors, which the scatter of runs tells of."""
    for seed in range(5):
        result = measure(Toy(0, run_spread=0.5), seed, n_other=np.inf)
        assert result.f.low > 0
        assert_allclose(result.f_other[2:5], result.f[2:5], rtol=0.04)
        # but for a field of errors it is the choice of the field
        result = measure(Toy(0.12), seed, n_other=np.inf)
        assert result.f_other.upper_limit > 1.1 * result.f.upper_limit


def test_a_spread_that_is_not_seen_is_not_0():
    """The mean error of another field may be as large as it could be here."""
    unseen = 0
    for seed in range(10):
        result = measure(Toy(0, mean=100), seed)
        unseen += result.f_squared <= 0
        assert result.delta_other.error > result.delta.error
    assert unseen > 0
