"""A target that does not tell its template, as after Gammapy's files."""

import numpy as np
from gammapy.datasets import Datasets
from numpy.testing import assert_allclose

from gammapy_mimic.data.template_irfs import NEFF, NEFF_ENERGIES

from .test_nuisance import POSITION, make_dataset, make_estimator, make_sets


def tell(datasets, counts):
    for dataset in datasets:
        dataset.meta_table[NEFF] = np.full((1, len(NEFF_ENERGIES)), counts)
        dataset.meta_table["BKG_OBS_IDS"] = ["1,2,3"]
    return datasets


def test_noise_is_that_of_the_mimics(tmp_path):
    """Not 0: the mimics' own is taken out of the spread."""
    rng = np.random.default_rng(0)
    sets = [tell(_, 50.0) for _ in make_sets(rng)]
    target = tell(Datasets([make_dataset(rng, name="target")]), 50.0)
    path, options = tmp_path / "target.yaml", {"checksum": True}
    target.write(path, **options)
    back = Datasets.read(path, **options)
    assert back[0].meta_table is None or NEFF not in back[0].meta_table.colnames
    estimator = make_estimator(position=POSITION, flux=False)
    results = [estimator.run(sets, *_) for _ in ([target], [back], [])]
    tables = [_.to_table("covariance") for _ in results]
    assert np.all(tables[0]["template_err"] > 0.05)
    for table in tables[1:]:
        for name in ("template_err", "error", "covariance"):
            assert_allclose(table[name], tables[0][name])
