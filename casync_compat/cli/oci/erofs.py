"""`pycasync oci erofs`."""

from __future__ import annotations

import argparse
import json

from casync_compat.cli._common import INCOMPLETE, left_out_json
from casync_compat.cli._location import local_path
from casync_compat.cli._parser import WrongWords
from casync_compat.cli.oci._common import at_work, references, tell_traffic, warn
from casync_compat.cli.oci._options import add_image, add_json, add_progress, add_reading, add_restoring
from casync_compat.cli.oci._tree import image_tree
from casync_compat.oci.erofsfile import write_erofs

EXAMPLES = (
    ("pycasync oci erofs oci:images:app -o app.erofs", "prints the fs-verity digest, to be pinned"),
    (
        "pycasync oci erofs oci:images:app -o app.erofs --file-store=/srv/files",
        "for mount -t overlay -o metacopy=on,redirect_dir=on,lowerdir=APP::/srv/files/files",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image, converted or plain")
    parser.add_argument("-o", "--output", metavar="FILE", help="the file to write")
    parser.add_argument("-n", "--dry-run", action="store_true", help="write nothing; print the digest alone")
    parser.add_argument(
        "--file-store",
        metavar="PATH",
        help="fill this store of files and lead to it (default: to files named as composefs names them)",
    )
    add_restoring(parser)
    add_reading(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (reference,) = references(options.image)
    if options.output in (None, "-") and not options.dry_run:
        raise WrongWords("say with -o what file to make; standard output cannot be one")
    if options.dry_run and options.file_store is not None:
        raise WrongWords("--dry-run fills no store of files; leave out one of the two")
    output = None if options.dry_run else local_path(options.output)
    store = local_path(options.file_store) if options.file_store is not None else None
    with (
        at_work(options, "reading") as (places, line),
        image_tree(options, places, reference) as image,
    ):
        result = write_erofs(
            image,
            output,
            store,
            verify=options.verify,
            strict=options.strict,
            warn=warn,
            progress=line.callback,
        )
        line.clear()
        if options.verbose:
            tell_traffic(places)
    if options.json:
        summary = {
            "entries": result.entries,
            "size": result.size,
            "files": result.files,
            "digest": result.digest.hex(),
            "left_out": left_out_json(result.left_out),
        }
        print(json.dumps(summary))
    else:
        print(result.digest.hex())
    return INCOMPLETE if result.left_out else 0
