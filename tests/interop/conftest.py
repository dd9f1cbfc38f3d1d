"""The peers as fixtures."""

from __future__ import annotations

import shutil

import pytest
from filesystems import IS_ROOT, lacking
from grounds import Grounds
from interop.registries import private_registry, registry, tls_registry  # noqa: F401 - fixtures
from interop.tools import PYCASYNC, Pair, Tool, find_desync


def _tool(factory: pytest.TempPathFactory, name: str, *command: str) -> Tool:
    return Tool(name, command, factory.mktemp(f"tmp-{name}"))


@pytest.fixture(scope="session")
def casync(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Real casync."""
    path = shutil.which("casync")
    if path is None:
        lacking("casync is not installed; .ci/setup installs it")
    return _tool(tmp_path_factory, "casync", path)


@pytest.fixture(scope="session")
def desync(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Real desync, of the release that peers/desync/go.mod pins."""
    path = find_desync()
    if path is None:
        lacking("desync is not built; .ci/setup builds it")
    return _tool(tmp_path_factory, "desync", path)


@pytest.fixture(scope="session")
def pycasync(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """The program under test, by its command line."""
    return _tool(tmp_path_factory, "pycasync", *PYCASYNC)


@pytest.fixture
def pair(casync: Tool, pycasync: Tool, ground: Grounds) -> Pair:
    """casync and pycasync, each with a directory of its own to work in (in memory where root may mount one)."""
    return Pair(casync, pycasync, ground("pair", "tmpfs" if IS_ROOT else "any"))
