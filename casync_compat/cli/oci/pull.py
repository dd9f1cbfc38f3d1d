"""`pycasync oci pull`."""

from __future__ import annotations

import argparse

from casync_compat.cli.oci._copying import run_copy
from casync_compat.cli.oci._options import add_copying

EXAMPLES = (
    ("pycasync oci pull docker://host/app:2 oci:images:app", "the same bytes, the same digests"),
    (
        "pycasync oci pull --store=/srv/chunks docker://host/app:2 oci:images:app",
        "chunks go to a store, which only asks for those it lacks",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_copying(
        parser,
        "the image, in a registry",
        "where to, oci:, dir:, oci-archive: or docker-archive:",
        store=True,
    )


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    return run_copy(options, "pulling")
