"""`pycasync oci copy`: push and pull, whichever way it goes."""

from __future__ import annotations

import argparse

from casync_compat.cli.oci._copying import run_copy
from casync_compat.cli.oci._options import add_copying

EXAMPLES = (
    ("pycasync oci copy docker://host/app:2 docker://elsewhere/app:2", "from a registry to another"),
    (
        "pycasync oci copy --src-creds=joe docker://host/app:2 oci:images:app",
        "with a login that is asked for",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    where = "where to, docker://, oci:, dir:, oci-archive: or docker-archive:"
    add_copying(parser, "the image, wherever it is", where, store=False)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    return run_copy(options, "copying")
