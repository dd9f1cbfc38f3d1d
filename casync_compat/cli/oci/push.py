"""`pycasync oci push`."""

from __future__ import annotations

import argparse

from casync_compat.cli.oci._copying import run_copy
from casync_compat.cli.oci._options import add_copying

EXAMPLES = (
    ("pycasync oci push oci:images:app docker://host/app:2", "the same bytes, only what is missing"),
    (
        "pycasync oci push --thin oci:images:app docker://host/app:2",
        "the converted image without the plain one",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_copying(parser, "the image, in a layout", "where to, docker://", store=False)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    return run_copy(options, "pushing")
