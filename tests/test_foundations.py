"""What the package takes from Gammapy and regions without a public name.

One function of ours reaches each of these names. When a test fails here after an update
of Gammapy or regions, its message names the function that must be mended.
"""

import ast
import functools
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time
from gammapy.analysis import Analysis
from gammapy.data import GTI, Observation
from gammapy.datasets import (
    MapDataset,
    MapDatasetOnOff,
    SpectrumDataset,
    SpectrumDatasetOnOff,
)
from gammapy.makers import FoVBackgroundMaker, MapDatasetMaker, SafeMaskMaker
from gammapy.maps import MapAxis, RegionGeom, WcsGeom
from gammapy.utils.fits import HDULocation
from gammapy.workflow.steps import WorkflowStepBase
from numpy.testing import assert_array_equal

import gammapy_mimic
from gammapy_mimic.analysis import MimicAnalysis, MimicAnalysisConfig
from gammapy_mimic.analysis.workflow import _MimicWorkflowStep
from gammapy_mimic.data.meta_tables import stack_dataset
from gammapy_mimic.data.observation import (
    IRF_NAMES,
    _keep_part,
    get_good_events,
    get_gti,
    get_hdu,
)
from gammapy_mimic.exclusion.sky_regions import REGION_CLASSES

ROOT = Path(__file__).parent.parent
PACKAGE = Path(gammapy_mimic.__file__).parent
FOREIGN = ("astropy", "gammapy", "numpy", "pydantic", "regions", "scipy")

PRIVATE_NAMES = {
    "data.observation._get_kept": {"__dict__"},
    "data.observation._keep_part": {"_*"},
    "analysis.core.MimicAnalysis._create": {"_create_*"},
}
"""Foreign private names, by the function that may use them. A name with a star is put
together from a text."""

OVERRIDDEN_NAMES = {"analysis.workflow": {"_run"}}
"""Private names of foreign classes that classes of ours define anew, by the module."""

PUBLIC_NAMES = {"_asdict", "_fields", "_replace"}
"""Names of a `NamedTuple`, whose underscore is no sign of being private."""


@functools.cache
def _read_tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _is_private(name):
    return name == "__dict__" or (name.startswith("_") and not name.startswith("__"))


def _find_own_names(trees):
    """Names that the package defines: functions, classes, and attributes of self."""
    names = set()
    for node in (_ for tree in trees for _ in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names |= {node.attr} if _is_self(node.value) else set()
    return names


def _is_self(node):
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _get_text_start(node):
    """Text that a name is put together from, with a star for what is not known."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        first = node.values[0]
        return f"{first.value}*" if isinstance(first, ast.Constant) else ""
    return ""


def _find_private(node, own):
    """Find the foreign private name that a node of the syntax tree uses, if any."""
    name = ""
    if isinstance(node, ast.Attribute):
        name = node.attr
        if name == "__dict__" and _is_self(node.value):
            name = ""
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in ("getattr", "setattr", "hasattr", "delattr"):
            name = _get_text_start(node.args[1])
        elif node.func.id == "vars" and node.args:
            name = "__dict__"
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        parts = [*node.module.split("."), *(_.name for _ in node.names)]
        name = next((_ for _ in parts if _is_private(_)), "")
    return name if _is_private(name) and name not in own | PUBLIC_NAMES else ""


def _walk_functions(node, path=()):
    """Walk a syntax tree, with the name of the function that each node stands in."""
    for child in ast.iter_child_nodes(node):
        is_named = isinstance(child, ast.FunctionDef | ast.ClassDef)
        inner = (*path, child.name) if is_named else path
        yield inner, child
        yield from _walk_functions(child, inner)


def _find_private_names(folder):
    """Find the foreign private names in the code of a folder, by function."""
    paths = sorted(folder.rglob("*.py"))
    own = _find_own_names(map(_read_tree, [*PACKAGE.rglob("*.py"), *paths]))
    found = {}
    for path in paths:
        module = ".".join(path.relative_to(folder).with_suffix("").parts)
        for function, node in _walk_functions(_read_tree(path)):
            name = _find_private(node, own)
            if name:
                found.setdefault(".".join((module, *function)), set()).add(name)
    return found


def test_private_names_are_reached_in_one_function():
    assert _find_private_names(PACKAGE) == PRIVATE_NAMES, (
        "A private name of another package is used outside of the function that "
        "reaches it, or no longer there: see PRIVATE_NAMES."
    )


@pytest.mark.parametrize("folder", ["benchmarks", "examples", "docs"])
def test_no_private_names_in(folder):
    assert _find_private_names(ROOT / folder) == {}


def _is_foreign(cls):
    return cls.__module__.partition(".")[0] in FOREIGN


def test_private_names_are_not_overridden():
    """A method of ours could replace one of Gammapy by chance."""
    found = {}
    for info in pkgutil.walk_packages(gammapy_mimic.__path__, "gammapy_mimic."):
        module = importlib.import_module(info.name)
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == info.name:
                foreign = {
                    _ for base in filter(_is_foreign, cls.__mro__) for _ in vars(base)
                }
                names = {_ for _ in foreign & set(vars(cls)) if _is_private(_)}
                names -= {"_abc_impl"}
                if names:
                    name = info.name.removeprefix("gammapy_mimic.")
                    found.setdefault(name, set()).update(names)
    assert found == OVERRIDDEN_NAMES


# --------------------------------------------------------------- what each stands for


def _mend(function, what):
    return f"{what} in the installed Gammapy or regions: MEND gammapy_mimic.{function}."


@pytest.fixture(scope="module")
def store(stores):
    return stores["targets"]


PARTS = ("events", "gti", "aeff", "edisp", "psf", "bkg", "pointing", "meta")


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_an_observation(store, name):
    """Where to read it, until it is in memory."""
    lazy = store.obs(store.obs_ids[0])
    assert isinstance(get_hdu(lazy, name), HDULocation), _mend(
        "data.observation.get_hdu",
        f"A lazy observation keeps the HDU of {name!r} elsewhere",
    )
    value = getattr(lazy, name)
    assert value is not None
    made = Observation(**{name: value})
    assert get_hdu(made, name) is value, _mend(
        "data.observation.get_hdu", f"An observation keeps {name!r} in memory elsewhere"
    )


def test_parts_that_are_not_there():
    for name in ("events", "gti", *IRF_NAMES, "pointing"):
        assert get_hdu(Observation(obs_id=1), name) is None


@pytest.mark.parametrize("name", ["events", "gti", "pointing", "meta"])
def test_parts_that_are_kept(store, name):
    first, second = (store.obs(_) for _ in store.obs_ids[:2])
    value = getattr(second, name)
    _keep_part(first, name, value)
    assert get_hdu(first, name) is getattr(first, name) is value, _mend(
        "data.observation._keep_part",
        f"An observation takes {name!r} under another name",
    )


def test_unfiltered_parts(store):
    """An empty filter gives the events and GTI as they are, with no private name."""
    observation = store.obs(store.obs_ids[0])
    start = observation.tstart
    half = Time([start, start + 0.5 * observation.observation_time_duration])
    filtered = observation.select_time(half)
    events, _ = get_good_events(filtered, is_filtered=False)
    kept, _ = get_good_events(filtered)
    assert len(kept.table) < len(events.table) == len(observation.events.table)
    gti, short = get_gti(filtered, is_filtered=False), get_gti(filtered)
    assert short.time_sum < gti.time_sum == observation.gti.time_sum
    assert filtered.obs_filter.time_filter is not None


CREATED = {
    "background_maker": FoVBackgroundMaker,
    "dataset_maker": MapDatasetMaker,
    "geometry": WcsGeom,
    "reference_dataset": MapDataset,
    "safe_mask_maker": SafeMaskMaker,
}

CONFIG = """
general: {log: {level: ERROR}}
datasets:
    type: 3d
    background: {method: fov_background}
    geom:
        wcs: {skydir: {frame: icrs, lon: 0 deg, lat: 0 deg}}
        axes:
            energy: {min: 1 TeV, max: 10 TeV, nbins: 2}
            energy_true: {min: 1 TeV, max: 10 TeV, nbins: 2}
"""


@pytest.mark.parametrize("name", CREATED)
def test_parts_of_an_analysis(name):
    where = "analysis.core.MimicAnalysis._create"
    method = getattr(Analysis, f"_create_{name}", None)
    assert method is not None, _mend(where, f"Analysis._create_{name} is gone")
    created = MimicAnalysis(MimicAnalysisConfig.from_yaml(CONFIG))._create(name)
    assert isinstance(created, CREATED[name]), _mend(
        where, f"Analysis._create_{name} creates a {type(created).__name__}"
    )


def test_name_of_the_reference_dataset():
    analysis = MimicAnalysis(MimicAnalysisConfig.from_yaml(CONFIG))
    assert analysis._create("reference_dataset", name="stacked").name == "stacked"


def test_obs_ids_that_are_missing(store):
    """The public error from which `MimicAnalysis` tells which are missing."""
    with pytest.raises(KeyError):
        store.obs_table.select_obs_id([int(store.obs_ids[0]), 999])


def test_run_of_a_workflow_step():
    assert WorkflowStepBase.__abstractmethods__ == {"_run"}, _mend(
        "analysis.workflow", "A workflow step has another method to override"
    )


@pytest.mark.parametrize("with_typo", [True, False])
def test_results_of_workflow_steps(monkeypatch, with_typo):
    """They become attributes of the workflow, whatever Gammapy calls the switch."""
    if not with_typo:
        monkeypatch.setattr(
            WorkflowStepBase, "_products_as_workflow_attributes", False, raising=False
        )

    class Step(_MimicWorkflowStep):
        tag, outputs_names = "step", ("answer",)

        def _run(self):
            self.outputs["answer"].data = 42

    workflow = SimpleNamespace(products=None)
    outputs = Step(config=None).run(workflow)
    assert workflow.answer == outputs["answer"].data == 42


@pytest.mark.parametrize("cls", REGION_CLASSES)
def test_parameters_of_regions(cls):
    """A region is what its constructor is called with."""
    names = set(inspect.signature(cls).parameters)
    assert {"meta", "visual"} < names
    assert all(hasattr(cls, _) for _ in names - {"meta", "visual"}), _mend(
        "exclusion.sky_regions.check_regions",
        f"{cls.__name__} keeps parameters elsewhere",
    )


# ------------------------------------------------------ what the next Gammapy changes

SOURCES = sorted(
    path
    for folder in ("gammapy_mimic", "benchmarks", "examples", "docs", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.rst"))]


def _find_calls(name):
    """Find calls of a function, class or method, as (file and line, call)."""
    for path in SOURCES:
        for node in ast.walk(_read_tree(path)):
            if isinstance(node, ast.Call):
                called = node.func
                last = getattr(called, "attr", getattr(called, "id", None))
                if last == name:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def _get_keywords(call):
    return {_.arg for _ in call.keywords}


def test_no_table_is_passed_to_an_observation_table():
    """Gammapy 2.1 has ``data``, the next version ``table``: add columns to ``()``."""
    found = [
        where
        for where, call in _find_calls("ObservationTable")
        if call.args or _get_keywords(call) & {"data", "table"}
    ]
    assert found == []


def test_statistic_is_that_of_datasets():
    """The next version deprecates that of one dataset."""
    found = [
        where
        for where, call in _find_calls("stat_sum")
        if "Datasets" not in ast.unparse(call.func)
    ]
    assert found == []


@pytest.mark.parametrize("name", ["ExcessMapEstimator", "TSMapEstimator"])
def test_map_estimators_have_energy_edges(name):
    """Without, Gammapy 2.1 makes one map, the next version one for each bin."""
    found = [
        where
        for where, call in _find_calls(name)
        if "energy_edges" not in _get_keywords(call)
    ]
    assert found == []


def test_no_sum_over_energy_groups():
    found = [
        str(path.relative_to(ROOT))
        for path in [*SOURCES, *TEXTS]
        if path.name != Path(__file__).name
        and "sum_over_energy_groups" in path.read_text(encoding="utf-8")
    ]
    assert found == []


# ------------------------------------------------------- stacking of a masked dataset


def _make_dataset(cls, obs_id, is_masked):
    axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", nbin=2)
    true_axis = MapAxis.from_energy_bounds("1 TeV", "10 TeV", 2, name="energy_true")
    is_spectrum = issubclass(cls, SpectrumDataset)
    geom = (
        RegionGeom.create("icrs;circle(0, 0, 0.2)", axes=[axis])
        if is_spectrum
        else WcsGeom.create(npix=4, binsz=0.5, axes=[axis])
    )
    dataset = cls.create(geom, energy_axis_true=true_axis)
    dataset.mask_safe.data[...] = not is_masked
    dataset.counts.data[...] = obs_id
    dataset.exposure.data[...] = 10
    if dataset.stat_type == "wstat":
        dataset.counts_off.data[...] = obs_id
        dataset.acceptance.data[...], dataset.acceptance_off.data[...] = 1, 2
    else:
        dataset.background.data[...] = obs_id
    start = Time("2020-01-01") + obs_id * u.day
    dataset.gti = GTI.create(start, start + 1 * u.hour)
    dataset.meta_table = Table({"OBS_ID": [[obs_id]]})
    return dataset


KINDS = [MapDataset, MapDatasetOnOff, SpectrumDataset, SpectrumDatasetOnOff]
MAPS = ["counts", "exposure", "background", "mask_safe", "counts_off", "acceptance"]
MAPS += ["acceptance_off"]


def _describe(dataset):
    maps = {_: getattr(dataset, _, None) for _ in MAPS}
    values = {name: _.data.copy() for name, _ in maps.items() if _ is not None}
    return {**values, "start": dataset.gti.time_start.mjd}


@pytest.mark.parametrize("masked", [[0], [1], [2], [0, 1, 2]])
@pytest.mark.parametrize("cls", KINDS)
def test_masked_datasets_only_add_a_row(cls, masked):
    """The same as if they were not there, whether or not Gammapy skips them."""
    datasets = [_make_dataset(cls, _ + 1, _ in masked) for _ in range(3)]
    stacked = [cls.from_geoms(**datasets[0].geoms) for _ in range(2)]
    for idx, dataset in enumerate(datasets):
        stack_dataset(stacked[0], dataset)
        if idx not in masked:
            stacked[1].stack(dataset)
    found, expected = map(_describe, stacked)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert_array_equal(found[name], values, err_msg=name)
    assert_array_equal(np.ravel(stacked[0].meta_table["OBS_ID"]), [1, 2, 3])
