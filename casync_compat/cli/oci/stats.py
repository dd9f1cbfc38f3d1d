"""`pycasync oci stats`."""

from __future__ import annotations

import argparse
import json
import os

from casync_compat.chunker import ChunkSizes
from casync_compat.cli._parser import WrongWords
from casync_compat.cli.oci._common import at_work, display, platform_of, references, warn
from casync_compat.cli.oci._options import add_json, add_platform, add_progress, add_registry
from casync_compat.fs.atomic import AtomicFile
from casync_compat.oci.chart import sharing_png, sharing_svg
from casync_compat.oci.sharing import Sharing
from casync_compat.oci.stats import measure, table, to_json

EXAMPLES = (
    ("pycasync oci stats oci:images:1 oci:images:2", "a table"),
    (
        "pycasync oci stats --chunk-size 32K,64K,1M --compressed docker-archive:app.tar",
        "and what a store takes",
    ),
    ("pycasync oci stats --chart sharing.svg docker://host/app:1 docker://host/app:2", "a picture, too"),
)
_SIZES = "16K,64K,256K,1M"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="the images, converted or plain")
    parser.add_argument(
        "--chunk-size",
        metavar="SIZE[,SIZE...]",
        default=_SIZES,
        help=f"average chunk sizes, or MIN:AVG:MAX, to compare; default {_SIZES}",
    )
    parser.add_argument(
        "--compressed", action="store_true", help="compress the chunks, too; this takes most of the time"
    )
    parser.add_argument("--chart", metavar="FILE.svg|.png", help="draw the table; PNG needs matplotlib")
    add_platform(parser)
    add_registry(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    names = references(*options.images)
    sizes = [ChunkSizes.parse(text) for text in options.chunk_size.split(",")]
    if options.chart is not None and not options.chart.endswith((".svg", ".png")):
        raise WrongWords(f"{options.chart}: a chart is written as .svg or .png")
    platform = platform_of(options)
    with at_work(options, "measuring") as (places, line):
        sharing = measure(
            [(places.readable(name), name.target) for name in names],
            sizes,
            platform=platform,
            all_platforms=options.all,
            compressed=options.compressed,
            progress=line.callback,
            warn=line.above(warn),
        )
        line.clear()
    if options.chart is not None:
        _draw(options.chart, sharing)
    print(json.dumps(to_json(sharing)) if options.json else "\n".join(map(display, table(sharing))))
    return 0


def _draw(path: str, sharing: Sharing) -> None:
    count = len(sharing.images)
    title = f"{count} image{'s' if count != 1 else ''}, what is equal kept once"
    levels = sharing.levels()
    data = sharing_svg(levels, title).encode() if path.endswith(".svg") else sharing_png(levels, title)
    with AtomicFile(os.fsencode(path), 0o666) as out:
        out.write(data)
