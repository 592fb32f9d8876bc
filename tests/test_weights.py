"""The measured error of a background in a fit: weights, and low and high."""

import astropy.units as u
import numpy as np
import pytest
from gammapy.datasets import Datasets, MapDataset, MapDatasetOnOff
from gammapy.modeling import Fit
from gammapy.modeling.models import FoVBackgroundModel
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binom

from gammapy_mimic.estimators.weights import get_weights

from .source_toys import (
    EDGES,
    IN_CIRCLE,
    fit_amplitudes,
    make_source,
    make_toy_dataset,
    make_toy_result,
    simulate_blank,
)


def test_weight_of_one_band():
    """That of Fermi: counts with weight have the variance N + f^2 N^2."""
    background = np.array([[0.0, 1, 100, 1e4]])
    weights = get_weights(background, np.array([0.05]))
    assert_allclose(weights, 1 / (1 + 0.05**2 * background))
    # a sum of weighted counts with an error has the variance of a sum without
    variance = background + 0.05**2 * background**2
    assert_allclose(weights**2 * variance, weights * background)


@pytest.mark.parametrize("correlation", [0, 0.5, 1])
def test_variance_is_not_too_small_for_any_source(correlation):
    rng = np.random.default_rng(0)
    background, f = np.array([1000.0, 200, 5]), np.array([0.03, 0.05, 0.2])
    weights = get_weights(background, f)
    matrix = np.full((3, 3), correlation) + (1 - correlation) * np.eye(3)
    errors = f * background
    covariance = np.diag(background) + matrix * np.outer(errors, errors)
    for signal in rng.exponential(size=(100, 3)):
        slope = weights * signal / background
        assert slope @ covariance @ slope <= np.sum(slope * signal)


def test_weights_are_in_the_mask():
    dataset, result = make_toy_dataset(), make_toy_result(0.05)
    dataset.mask_fit = dataset.counts.copy(data=np.ones(dataset.counts.data.shape))
    dataset.mask_fit.data[:, :3] = 0
    dataset.models = [make_source(), FoVBackgroundModel(dataset_name="toy")]
    dataset.models["toy-bkg"].parameters["norm"].value = 1.1
    weighted = result.to_weights(dataset)
    assert weighted.stat_type == "cash_weighted"
    assert weighted.name == "toy"
    assert list(weighted.models) == list(dataset.models)
    center = weighted.mask.data[:, 7, 7]
    in_circle = 1.1 * np.array(IN_CIRCLE)
    expected = get_weights(in_circle, np.full(3, 0.05))
    # the circle of pixels is not quite round
    assert_allclose(center, expected, rtol=0.08)
    assert_array_equal(weighted.mask.data[:, :3], 0)
    # at the edge, a circle has fewer counts
    assert np.all(weighted.mask_fit.data[:, 7, 0] > center)
    # nothing of the dataset is changed
    assert dataset.stat_type == "cash"
    assert_array_equal(dataset.mask_fit.data[:, 3:], 1)
    # no error is no weight
    dataset.mask_fit = None
    weighted = result.to_weights(dataset, f=0)
    assert_allclose(*(Datasets([_]).stat_sum() for _ in (weighted, dataset)))


def test_fit_with_weights():
    """A fit of Gammapy has the significance of the formula that toys are made with."""
    rng = np.random.default_rng(1)
    dataset = make_toy_dataset()
    background = dataset.background.data
    dataset.counts.data = rng.poisson(1.05 * background).astype(float)
    weighted = make_toy_result(0.05).to_weights(dataset)
    weighted.models = [make_source()]
    arrays = background, weighted.npred_signal().data, weighted.mask_fit.data
    counts = weighted.counts.data.reshape(1, -1)
    expected = fit_amplitudes(counts, *(_.ravel() for _ in arrays))
    amplitude = weighted.models.parameters["amplitude"]
    amplitude.value = 0
    without = Datasets([weighted]).stat_sum()
    amplitude.value = 1e-12
    result = Fit().run([weighted])
    assert_allclose(amplitude.value / 1e-12, expected[0], rtol=1e-3)
    significance = np.sqrt(without - result.total_stat)
    assert_allclose(significance, expected[1], rtol=1e-3)
    unweighted = fit_amplitudes(counts, *(_.ravel() for _ in arrays[:2]))[1]
    assert significance < unweighted / 1.5


@pytest.mark.parametrize("kind", ["same", "bands", "pixels"])
def test_blank_positions_are_rarely_significant(kind):
    """With f = 5%, and 0.135% above 3 sigma by noise alone."""
    n_toys = 4000
    without, weighted = simulate_blank(0.05, 0.05, kind, n_toys)
    assert np.mean(without > 3) > 0.02
    # in 99.9% of such tests, if 0.135% are
    assert np.sum(weighted > 3) <= binom.ppf(0.999, n_toys, 0.00135)
    assert np.mean(weighted > 1.645) < 0.07


def test_gammapy_loses_weights(tmp_path):
    """As the documentation says. If this fails, Gammapy keeps them: say so there."""
    weighted = make_toy_result(0.05).to_weights(make_toy_dataset())
    path = tmp_path / "weighted.fits"
    weighted.write(path)
    again = MapDataset.read(path)
    assert again.stat_type == "cash"
    assert again.mask_fit.data.dtype == bool
    cut = weighted.slice_by_energy(*EDGES[:2])
    assert cut.stat_type == "cash"
    # a joint fit takes them
    other = make_toy_dataset()
    other.models = weighted.models = [make_source()]
    values = [Datasets([_]).stat_sum() for _ in (weighted, other)]
    assert values[0] != values[1]


def test_bands_without_a_spread():
    """They have that of all energies, and without that f must be given."""
    dataset = make_toy_dataset()
    partial = make_toy_result(np.array([0.02, 0.05, np.nan, 0.03]))
    expected = partial.to_weights(dataset, f=[0.02, 0.05, 0.03])
    assert_allclose(partial.to_weights(dataset).mask_fit.data, expected.mask_fit.data)
    nothing = make_toy_result(np.nan, reason="there are few counts")
    with pytest.raises(ValueError, match=r"'f' was not measured: there are few counts"):
        nothing.to_weights(dataset)
    nothing.to_weights(dataset, f=0.03)


def test_column_of_the_spread():
    result, dataset = make_toy_result(0.05), make_toy_dataset()
    result.tables["systematics"]["f_ul"] = [0.06, 0.07, 0.2, 0.1]
    limit = result.to_weights(dataset, f="f_ul")
    expected = result.to_weights(dataset, f=[0.06, 0.07, 0.2])
    assert_allclose(limit.mask_fit.data, expected.mask_fit.data)
    with pytest.raises(ValueError, match=r"Invalid f: 'e_min'. Choose from \['f', 'f_"):
        result.to_weights(dataset, f="e_min")


@pytest.mark.parametrize("f", [-0.1, np.nan, [0.1, 0.2], np.inf])
def test_invalid_spread(f):
    with pytest.raises(
        ValueError, match=r"'f' must be a number, 0 or more, .* 3 bands"
    ):
        make_toy_result(0.05).to_weights(make_toy_dataset(), f=f)


def test_datasets_without_weights():
    result, dataset = make_toy_result(0.05), make_toy_dataset()
    on_off = MapDatasetOnOff.from_geoms(**dataset.geoms, name="ring")
    for method in (result.to_weights, result.make_low_high):
        with pytest.raises(ValueError, match="ring has no background model"):
            method(on_off)
    with pytest.raises(ValueError, match="toy is a MapDataset with 'cash_weighted'"):
        result.to_weights(result.to_weights(dataset))


def test_low_and_high():
    """The counts of each band are down and up by the total error."""
    dataset = make_toy_dataset()
    dataset.models = [FoVBackgroundModel(dataset_name="toy")]
    dataset.models.parameters["norm"].value = 2
    before = dataset.npred_background().data.sum(axis=(1, 2))
    total = np.array([0.02, 0.05, 1.5, 0.1])
    low, high = make_toy_result(0.05, total).make_low_high(dataset)
    after = [_.npred_background().data.sum(axis=(1, 2)) for _ in (low, dataset, high)]
    assert_allclose(
        after, before * np.array([1 - total, total * 0 + 1, 1 + total])[:, :3].clip(0)
    )
    # one band: all bins, also those beyond it
    one = make_toy_result(0.05, 0.1, edges=[1, 4] * u.TeV)
    low, high = one.make_low_high(dataset)
    assert_allclose(low.npred().data, 0.9 * dataset.npred().data, rtol=1e-6)
    low, high = one.make_low_high(dataset, total=0.3)
    assert_allclose(high.npred().data, 1.3 * dataset.npred().data, rtol=1e-6)
