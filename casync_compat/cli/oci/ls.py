"""`pycasync oci ls`."""

from __future__ import annotations

import argparse
import os

from casync_compat.cli._common import write_lines
from casync_compat.cli._parser import WrongWords
from casync_compat.cli.oci._common import opened, references, tell_traffic
from casync_compat.cli.oci._options import add_image, add_json, add_reading
from casync_compat.cli.oci._tree import image_tree
from casync_compat.oci.image.files import ImageFiles
from casync_compat.verbs.ls import json_line, long_line, ls, name_line

EXAMPLES = (
    ("pycasync oci ls docker://host/app:2 /etc", "names in a directory"),
    ("pycasync oci ls --recursive --long oci:images:app", "everything, as ls -l shows it"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image, converted or plain")
    parser.add_argument(
        "path", metavar="PATH", nargs="?", default="/", help="a directory or file in it; default /"
    )
    parser.add_argument("-l", "--long", action="store_true", help="with modes, owners, sizes and times")
    parser.add_argument("-R", "--recursive", action="store_true", help="what is in directories, too")
    add_reading(parser, "chunk store to look for chunks in, for layers that are tars of chunks")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    if options.json and options.long:
        raise WrongWords("--json and --long contradict each other")
    (reference,) = references(options.image)
    with opened(options) as places, image_tree(options, places, reference) as image:
        tree = ImageFiles(image)
        entries = ls(tree, os.fsencode(options.path), recursive=options.recursive)
        if options.json:
            write_lines(json_line(tree, entry) for entry in entries)
        else:
            write_lines(map(long_line if options.long else name_line, entries))
        if options.verbose:
            tell_traffic(places)
    return 0
