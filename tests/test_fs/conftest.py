"""What is promised of a tree that is written holds for nodes that come one by one and for those that come in runs."""

from __future__ import annotations

from collections.abc import Iterator

import applying
import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run everything about applying both ways."""
    if metafunc.module.__name__.rpartition(".")[2].startswith("test_apply"):
        metafunc.parametrize("in_runs", [False, True], ids=["nodes", "runs"], indirect=True)


@pytest.fixture(autouse=True)
def in_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """How `applying.apply` has nodes come."""
    applying.in_runs = getattr(request, "param", False)
    yield
    applying.in_runs = False
