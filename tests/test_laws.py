"""Laws of plans and of geometry; ``benchmarks/safety.py`` tries many more examples."""

import pytest

from .laws import LAWS


@pytest.mark.parametrize("name", LAWS)
def test_law(name):
    assert LAWS[name](30) >= 30
