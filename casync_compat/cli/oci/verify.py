"""`pycasync oci verify`."""

from __future__ import annotations

import argparse
import json
import sys

from casync_compat.cli.oci._common import at_work, chunk_store, display, references, tell_traffic
from casync_compat.cli.oci._options import (
    add_image,
    add_jobs,
    add_json,
    add_progress,
    add_registry,
    add_store,
)
from casync_compat.errors import CasyncError
from casync_compat.oci.verify import verify_image

EXAMPLES = (("pycasync oci verify docker://host/app:2", "lists all that is wrong; status 1 if anything is"),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image")
    add_store(parser, "has the chunks of packs that are not there")
    add_jobs(parser, "two")
    add_registry(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (image,) = references(options.image)

    def on_step(what: str) -> None:
        print(f"checking {what}", file=sys.stderr)

    with at_work(options, "verifying") as (places, line):
        report = verify_image(
            places.readable(image),
            image.target,
            store=chunk_store(options),
            jobs=options.jobs,
            on_step=on_step if options.verbose else None,
            progress=line.callback,
        )
        if options.verbose:
            tell_traffic(places)
    counts = f"{report.blobs} blobs, {report.packs} packs, {report.chunks} chunks, {report.layers} layers"
    if options.json:
        values = {
            "blobs": report.blobs,
            "packs": report.packs,
            "chunks": report.chunks,
            "layers": report.layers,
            "problems": report.problems,
        }
        print(json.dumps(values))
    else:
        for problem in report.problems:
            print(display(problem))
    if report.problems:
        raise CasyncError(f"{image}: {len(report.problems)} problems found; checked {counts}")
    if not (options.json or options.quiet):
        print(f"{counts}: all good")
    return 0
