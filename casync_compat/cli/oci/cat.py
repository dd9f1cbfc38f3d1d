"""`pycasync oci cat`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli.oci._common import opened, references, tell_traffic
from casync_compat.cli.oci._options import add_image, add_reading
from casync_compat.cli.oci._tree import image_tree
from casync_compat.fs.standard import StandardOutput
from casync_compat.oci.image.files import ImageFiles
from casync_compat.verbs.cat import cat

EXAMPLES = (
    ("pycasync oci cat docker://host/app:2 /etc/os-release", "symlinks are followed within the image"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image, converted or plain")
    parser.add_argument("path", metavar="PATH", help="the file in it")
    add_reading(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (reference,) = references(options.image)
    with opened(options) as places, image_tree(options, places, reference) as image:
        out = StandardOutput()
        for data in cat(ImageFiles(image), os.fsencode(options.path)):
            out.write(data)
        if options.verbose:
            tell_traffic(places)
    return 0
