"""`pycasync oci mount`."""

from __future__ import annotations

import argparse
import json
import sys

from casync_compat.cli._common import INCOMPLETE, left_out_json
from casync_compat.cli._location import local_path
from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import human_size, progress_line
from casync_compat.cli.oci._common import opened, references, tell_traffic, warn
from casync_compat.cli.oci._options import add_image, add_json, add_progress, add_reading, add_restoring
from casync_compat.cli.oci._tree import image_tree
from casync_compat.oci.mount import RootOptions, RootResult, mount

EXAMPLES = (
    (
        "pycasync oci mount --using=kernel --file-store=/srv/files docker://host/app:2 root",
        "for reading",
    ),
    (
        "pycasync oci mount --using=kernel --file-store=/srv/files --upper=state oci:images:app root",
        "what is written goes to state/upper",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image, converted or plain")
    parser.add_argument("directory", metavar="DIR", help="where to mount it; made when it is missing")
    parser.add_argument(
        "--using",
        choices=("fuse", "kernel"),
        default="fuse",
        help="who serves the tree; only the kernel can for now: EROFS and overlayfs, as root, from Linux 6.5 on",
    )
    parser.add_argument("--file-store", metavar="PATH", help="the store of files; made when missing")
    parser.add_argument("--upper", metavar="PATH", help="a directory for what is written; made when missing")
    add_restoring(parser)
    add_reading(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    if options.using != "kernel":
        raise WrongWords("images are mounted by the kernel only, for now; say --using=kernel")
    if options.file_store is None:
        raise WrongWords("say with --file-store where the files of images are to be")
    (reference,) = references(options.image)
    wanted = RootOptions(
        local_path(options.upper) if options.upper is not None else None,
        verify=options.verify,
        strict=options.strict,
    )
    target, store = local_path(options.directory), local_path(options.file_store)
    with (
        opened(options) as places,
        image_tree(options, places, reference) as image,
        progress_line(options, "mounting") as line,
    ):
        result = mount(image, target, store, wanted, warn=warn, progress=line.callback)
        line.clear()
        if options.verbose:
            tell_traffic(places)
    if options.json:
        print(json.dumps(_summary(result)))
    elif options.verbose:
        print(
            f"{result.entries} entries, {human_size(result.size)}; {result.files} files, {result.stored} new in the "
            f"store, {human_size(result.fetched)} fetched; {human_size(result.metadata)} of metadata",
            file=sys.stderr,
        )
    return INCOMPLETE if result.left_out else 0


def _summary(result: RootResult) -> dict[str, object]:
    return {
        "entries": result.entries,
        "size": result.size,
        "files": result.files,
        "stored": result.stored,
        "fetched": result.fetched,
        "metadata": result.metadata,
        "verity": result.verity,
        "left_out": left_out_json(result.left_out),
    }
