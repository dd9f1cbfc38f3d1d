"""What all tests share: root and CI rules, file systems to test on, and trees built once.

Outside CI a test that lacks something (root, a file system, a peer program) is skipped and says what it lacks. With
`CI=true` it fails: a test that quietly does not run proves nothing. The one thing that may be missing in CI is a
file system that the kernel does not know.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The checkout is deliberately not on the path (the installed package is what is tested), so that the helper modules
# beside this file need a place of their own on it.
sys.path.insert(0, str(Path(__file__).parent))

from builds import BUILD, native_modules
from filesystems import IN_CI, IS_ROOT, KERNEL_LACKS, FileSystems
from grounds import Forest, Grounds

# A machine that is busy is no reason to fail.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_sessionstart(session: pytest.Session) -> None:
    """In CI the installed wheel is tested, whole or without native modules, and not what lies in the checkout."""
    if not IN_CI:
        return
    for module in ("catar", "casync_compat", *native_modules()):
        spec = importlib.util.find_spec(module)
        if BUILD == "pure" and module in native_modules():
            if spec is not None:
                raise pytest.UsageError(
                    f"{module} is there, but the build without native modules is under test"
                )
            continue
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or not origin.is_relative_to(Path(sys.prefix).resolve()):
            raise pytest.UsageError(f"{module} must come from the wheel in {sys.prefix}, not from {origin}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `root` are skipped for other users, or stop the run in CI."""
    marked = [item for item in items if item.get_closest_marker("root")]
    if IS_ROOT or not marked:
        return
    if IN_CI:
        raise pytest.UsageError(f"{len(marked)} tests need root; run the CI as root or with sudo")
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="needs root"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI an interop test that was skipped makes the run fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not IN_CI or reporter is None:
        return
    for report in reporter.stats.get("skipped", ()):
        if "interop/" in report.nodeid and KERNEL_LACKS not in str(report.longrepr):
            reporter.write_line(f"skipped in CI: {report.nodeid}: {report.longrepr}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def filesystems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileSystems]:
    """File systems to test on, one set for each test process."""
    found = FileSystems(tmp_path_factory.mktemp("fs"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def forest(filesystems: FileSystems) -> Iterator[Forest]:
    """Ready-built trees, taken away at the end whatever their flags and mounts."""
    found = Forest(filesystems)
    yield found
    found.close()


@pytest.fixture
def ground(filesystems: FileSystems) -> Iterator[Grounds]:
    """Make fresh directories on named file systems; they are removed after the test."""
    grounds = Grounds(filesystems)
    yield grounds
    grounds.close()
