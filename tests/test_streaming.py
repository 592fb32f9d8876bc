"""Runs that keep no dataset in memory, and runs of some mimic sets."""
# ruff: noqa: F401, F811

import functools
import threading

import numpy as np
import pytest
from gammapy.datasets import MapDataset
from gammapy.makers import FoVBackgroundMaker, MapDatasetMaker, SafeMaskMaker
from gammapy.maps import MapAxis, WcsGeom
from numpy.testing import assert_allclose

from gammapy_mimic.analysis import MimicAnalysis
from gammapy_mimic.analysis.datasets import (
    open_datasets,
    read_datasets,
    write_datasets,
)
from gammapy_mimic.data.lazy_datasets import LazyDatasets
from gammapy_mimic.estimators import MimicSystematicsEstimator
from gammapy_mimic.makers import reduce_observations, reduction
from gammapy_mimic.utils.records import StepRecords

from .runs import is_same, take_snapshot
from .test_pipeline import (
    CONFIG,
    NAMES,
    STEPS,
    again,
    assert_same_results,
    config,
    finished,
    get_out,
    run,
)

MAPS = ("counts", "exposure", "background", "mask_safe")


@pytest.fixture(scope="module")
def reduce(stores):
    """Reduce targets to maps with all IRFs."""
    observations = stores["targets"].get_observations()
    axes = [
        MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2, name=name)
        for name in ("energy", "energy_true")
    ]
    geom = WcsGeom.create(
        skydir=observations[0].get_pointing_icrs(observations[0].tmid),
        width=4,
        binsz=0.2,
        axes=axes[:1],
    )
    reference = MapDataset.create(geom, energy_axis_true=axes[1], name="stacked")
    makers = [
        MapDatasetMaker(),
        SafeMaskMaker(["offset-max"], offset_max="2 deg"),
        FoVBackgroundMaker(),
    ]
    return functools.partial(reduce_observations, reference, observations, makers)


def take_maps(dataset):
    maps = {name: getattr(dataset, name) for name in MAPS}
    maps["psf"], maps["edisp"] = dataset.psf.psf_map, dataset.edisp.edisp_map
    return {name: map_.data for name, map_ in maps.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_blocks_are_added_up(reduce, monkeypatch):
    """To the same bits by any number of processes, and to the sum of all."""
    (expected,) = reduce()
    monkeypatch.setattr(reduction, "BLOCK_SIZE", 2)
    monkeypatch.setattr(reduction, "N_WAITING", 1)
    (one,), (two,) = reduce(), reduce(n_jobs=2)
    assert one.name == "stacked"
    assert str(one.meta_table) == str(expected.meta_table)
    for name, values in take_maps(one).items():
        np.testing.assert_array_equal(values, take_maps(two)[name])
        assert_allclose(values, take_maps(expected)[name], rtol=1e-6)
    np.testing.assert_array_equal(one.counts.data, expected.counts.data)


def test_what_is_handed_back(reduce):
    """By the process that has made a dataset, which need not leave it."""
    names = reduce(stack=False, finish=lambda *args: [args[1][0].obs_id, len(args[0])])
    assert names == [1, 1, 2, 1, 3, 1]


@pytest.fixture(scope="module")
def folder(reduce, tmp_path_factory):
    path = tmp_path_factory.mktemp("lazy") / "datasets"
    datasets = reduce(stack=False)
    write_datasets(datasets, path)
    return path


def test_lazy_datasets_are_those_that_are_read(folder):
    lazy, expected = open_datasets(folder), read_datasets(folder)
    assert [_.name for _ in lazy] == expected.names
    for one, other in zip(lazy, expected, strict=True):
        for name, values in take_maps(one).items():
            np.testing.assert_array_equal(values, take_maps(other)[name])
        for name in MAPS:
            assert getattr(one, name).geom == getattr(other, name).geom
        assert str(one.geoms) == str(other.geoms)
        assert one.models.names == other.models.names
        values = [_.npred_background().data for _ in (one, other)]
        np.testing.assert_array_equal(*values)
        assert str(one.meta_table) == str(other.meta_table)
        assert one.gti.time_sum == other.gti.time_sum


def test_lazy_datasets_keep_nothing(folder):
    lazy = open_datasets(folder)
    first = lazy[0]
    assert first.counts is first.counts
    assert first.npred_background() is first.npred_background()
    assert lazy[0].counts is not first.counts
    # which keeps its coordinates
    assert lazy[0].counts.geom is not first.counts.geom
    assert lazy[0].npred_background() is not first.npred_background()
    assert len(lazy[1:]) == len(lazy.take([0, 2])) == 2
    assert lazy.take([2])[0].name == lazy[2].name
    joined = LazyDatasets.join([lazy, read_datasets(folder)])
    assert [_.name for _ in joined] == 2 * [_.name for _ in lazy]


@pytest.mark.slow
def test_estimator_of_lazy_datasets(folder):
    """With the position, and a target, whose IRFs are all that are read."""
    results = []
    for open_ in (read_datasets, open_datasets):
        datasets = open_(folder)
        position = datasets[0].counts.geom.center_skydir
        estimator = MimicSystematicsEstimator("0.3 deg", position=position, radii=None)
        results.append(estimator.run([datasets, datasets], datasets))
    tables, others = (_.tables for _ in results)
    assert tables.keys() == others.keys() >= {"flux", "systematics", "position"}
    for name, table in tables.items():
        assert table.pformat(-1, -1) == others[name].pformat(-1, -1), name


# ----------------------------------------------------------------- datasets that stay


@pytest.mark.slow
def test_datasets_that_are_not_kept(again):
    """They are not made again while nothing needs them."""
    again.mimic.write_datasets = "none"
    out = get_out(again)
    expected = take_snapshot(out)
    run(again)
    assert not list(out.glob("datasets*"))
    assert sorted(_.name for _ in out.iterdir() if _.name in NAMES) == [
        _ for _ in sorted(NAMES) if not _.startswith("datasets")
    ]
    times = {_: _.stat().st_mtime_ns for _ in out.rglob("*") if _.is_file()}
    run(again)
    assert times == {_: _.stat().st_mtime_ns for _ in out.rglob("*") if _.is_file()}
    again.mimic.write_datasets = "all"
    assert run(again) == ["datasets", "datasets_mimic_1", "datasets_mimic_2"]
    assert is_same(take_snapshot(out / "datasets"), select(expected, "datasets"))


def select(snapshot, name):
    start = f"{name}/"
    return {
        key.removeprefix(start): _
        for key, _ in snapshot.items()
        if key.startswith(start)
    }


@pytest.mark.slow
def test_datasets_that_are_stacked_in_the_end(again):
    """The numbers are those of single observations, and nothing is made twice."""
    out = get_out(again)
    stacked = {_: read_datasets(out / _)[0] for _ in NAMES if _.startswith("datasets")}
    again.datasets.stack = False
    run(again)
    expected = take_snapshot(out)["systematics.fits"]
    again.mimic.write_datasets = "stacked"
    assert run(again) == ["datasets", "datasets_mimic_1", "datasets_mimic_2"]
    for name, other in stacked.items():
        (dataset,) = read_datasets(out / name)
        assert dataset.counts.data.sum() == other.counts.data.sum()
        values = [_.npred_background().data.sum() for _ in (dataset, other)]
        assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert run(again) == []
    again.mimic.systematics.min_background = 5
    done = run(again)
    assert {"datasets", "systematics"} <= {*done}
    again.mimic.systematics.min_background = 10
    run(again)
    assert is_same(take_snapshot(out)["systematics.fits"], expected)


# --------------------------------------------------------------- runs of some sets


@pytest.mark.slow
def test_sets_that_are_made_apart(config, finished):
    """In any order, and then all that is left."""
    assert run(config, sets=[2]) == ["plan", "mimic_2", "datasets_mimic_2"]
    assert run(config, sets=[1, 2]) == ["mimic_1", "datasets_mimic_1"]
    assert run(config, sets=[1]) == []
    assert run(config) == ["datasets", "systematics", "report"]
    assert_same_results(get_out(config), finished / "out")


@pytest.mark.slow
def test_sets_that_others_make(again):
    """No other run touches them, nor the plan that they are made of."""
    out = get_out(again)
    with StepRecords(out).lock_parts([2]):
        assert run(again, sets=[1]) == []
    # a lock is that of a thread
    begun, done = threading.Event(), threading.Event()

    def hold():
        with StepRecords(out).lock_parts([2]):
            begun.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    try:
        assert run(again, sets=[1]) == []
        for sets in ([2], None):
            with pytest.raises(BlockingIOError, match=f"Mimic set 2 of {out} is in"):
                run(again, sets=sets)
        again.mimic.random_state = 5
        with pytest.raises(BlockingIOError, match=f"Mimic set 2 of {out} is in"):
            run(again, sets=[1])
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
def test_sets_that_are_not_there(again):
    with pytest.raises(ValueError, match=r"no mimic sets \[7\]. Choose from \[1, 2\]"):
        run(again, sets=[1, 7])
    again.mimic = None
    with pytest.raises(ValueError, match="no mimic sets without a section mimic"):
        run(again, sets=[1])
