import os
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("agg")

HESS = Path(os.environ.get("GAMMAPY_DATA", "")) / "hess-dl3-dr1"
VERITAS = Path(os.environ.get("GAMMAPY_DATA", "")) / "veritas/crab-point-like-ED"


def open_real_store(path):
    """Open a datastore of $GAMMAPY_DATA, or skip the test."""
    from gammapy.data import DataStore

    if "GAMMAPY_DATA" not in os.environ or not path.exists():
        pytest.skip(f"needs {path.name} in $GAMMAPY_DATA")
    return DataStore.from_dir(path)


@pytest.fixture(scope="session")
def hess_store():
    return open_real_store(HESS)


@pytest.fixture(scope="session")
def veritas_store():
    return open_real_store(VERITAS)
