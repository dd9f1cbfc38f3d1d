"""`pycasync oci umount`."""

from __future__ import annotations

import argparse

from casync_compat.cli._location import local_path
from casync_compat.oci.mount import unmount

EXAMPLES = (("pycasync oci umount root", "what was written stays in the upper directory"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("directory", metavar="DIR", help="where the image is mounted")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    unmount(local_path(options.directory))
    return 0
