import logging
import os

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from astropy.utils import iers
from hypothesis import settings

mpl.use("agg")
# no test needs a download, and the times of all are in the tables of astropy
iers.conf.auto_download = False

# the same examples in every run
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run slow tests, too")


def pytest_configure(config):
    # two workers take both cores, and inherit it before they load numpy
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if config.getoption("--slow"):
        config.option.markexpr = ""


def open_real_store(*names):
    """Open a datastore of $GAMMAPY_DATA, or skip the test."""
    from gammapy.data import DataStore

    from .helpers import find_data

    return DataStore.from_dir(find_data(*names))


@pytest.fixture(autouse=True)
def restore_logging():
    """Take back levels, and handlers of the root logger, that a command has set."""
    root = logging.getLogger()
    names = ["gammapy_mimic", "gammapy_mimic.utils.progress"]
    loggers = [root, *map(logging.getLogger, names)]
    levels = [_.level for _ in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in root.handlers[:]:
        if type(handler) in (logging.StreamHandler, logging.FileHandler):
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def close_figures():
    """Leave no figure open, which a later test would take for its own."""
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def hess_store():
    return open_real_store("hess-dl3-dr1")


@pytest.fixture(scope="session")
def veritas_store():
    return open_real_store("veritas", "crab-point-like-ED")


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """Simulated datastores: one of targets and several of OFF observations."""
    from functools import partial

    from astropy.coordinates import SkyCoord

    from gammapy_mimic.simulate import make_irfs, simulate_datastore

    path = tmp_path_factory.mktemp("stores")
    target = {"target": SkyCoord(329.7, -30.2, unit="deg")}

    def simulate(name, n_obs, first_obs_id, targets=None, **options):
        irfs = partial(make_irfs, **options)
        return simulate_datastore(
            path / name,
            n_obs,
            targets=targets,
            first_obs_id=first_obs_id,
            random_state=first_obs_id,
            irfs=irfs,
        )

    return {
        "targets": simulate("targets", 3, 1, target),
        "off": simulate("off", 8, 101),
        "altaz": simulate("altaz", 1, 201, fov_alignment="ALTAZ", gradient=0.2),
        "gradient": simulate("gradient", 1, 301, gradient=0.2),
        "2d": simulate("2d", 1, 401, background="2d"),
    }
