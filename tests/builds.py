"""Which build of the package is under test, and what its children need so that what they run is counted.

`.ci/run` tests three builds of one wheel: as it is published; without native modules, as pip installs it where no
compiler is; and with the native modules under sanitizers.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

BUILD = os.environ.get("PYCASYNC_TEST_BUILD", "native")
"""`native`, or `pure` for the one without native modules."""


def native_modules() -> list[str]:
    """The names of all modules in C."""
    with open(Path(__file__).parents[1] / "pyproject.toml", "rb") as file:
        return [module["name"] for module in tomllib.load(file)["tool"]["setuptools"]["ext-modules"]]


def coverage_variables() -> dict[str, str]:
    """What has coverage measured in a child process with an environment of its own; nothing where it is not."""
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS_")}
