"""`pycasync oci tags`."""

from __future__ import annotations

import argparse
import json

from casync_compat.cli._parser import WrongWords
from casync_compat.cli.oci._common import display, opened, references
from casync_compat.cli.oci._options import add_image, add_json, add_registry

EXAMPLES = (
    ("pycasync oci tags docker://host/app", "the tags of a repository"),
    ("pycasync oci tags oci:images", "the images of a layout"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "place", "a repository, layout or archive, without a tag")
    add_registry(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (place,) = references(options.place)
    if place.target is not None:
        raise WrongWords(
            f"{place}: tags are those of a whole repository or layout; leave out {place.target!r}"
        )
    with opened(options) as places:
        tags = places.readable(place).tags()
    if options.json:
        print(json.dumps({"name": str(place), "tags": tags}))
    else:
        for tag in tags:
            print(display(tag))
    return 0
