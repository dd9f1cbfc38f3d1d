"""`pycasync oci export`."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace

from casync_compat.cli._parser import WrongWords
from casync_compat.cli.oci._common import (
    at_work,
    chunk_store,
    platform_of,
    references,
    tag_for,
    tell_traffic,
    warn,
)
from casync_compat.cli.oci._options import add_image, add_layer_limit, add_rewriting
from casync_compat.oci.export import ExportOptions, LayerCompression, export, export_archive
from casync_compat.oci.spec.reference import Reference

EXAMPLES = (
    ("pycasync oci export oci:images:app docker-archive:app.tar:app:2", "for docker load"),
    ("pycasync oci export docker://host/app:2 oci:images:app", "image id and diff ids are the original's"),
    ("pycasync oci export --compress=zstd oci:images:app docker://host/app:plain", "layers compressed anew"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "source", "a converted image; for docker-archive: a plain one, too")
    add_image(parser, "target", "where to")
    parser.add_argument(
        "--compress",
        choices=[kind.value for kind in LayerCompression],
        help="how layers that are made again are stored (default: gzip for docker://, else none)",
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="make layers again even where the original blobs are there"
    )
    add_layer_limit(parser)
    add_rewriting(parser, "a chunk store to take chunks from before packs are asked")


def _same(source: Reference, target: Reference) -> bool:
    """Whether the target would take the place of the source."""
    if target.transport in ("dir", "oci-archive"):  # all that is there is replaced
        return (target.transport, target.place) == (source.transport, source.place)
    return replace(target, tag=tag_for(target, source)) == source


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, target = references(options.source, options.target)
    if target.transport != "docker-archive" and _same(source, target):
        raise WrongWords(f"{target}: that is the converted image itself; name another tag")
    default = LayerCompression.GZIP if target.transport == "docker" else LayerCompression.NONE
    wanted = ExportOptions(
        platform=platform_of(options),
        all_platforms=options.all,
        compression=LayerCompression(options.compress) if options.compress else default,
        rebuild=options.rebuild,
        layer_limit=options.max_layer_size,
        store=chunk_store(options),
    )
    with at_work(options, "exporting") as (places, line):
        place = places.readable(source)
        if target.transport == "docker-archive":
            tags = [target.tag] if target.tag is not None else []
            result = export_archive(
                place,
                source.target,
                os.fsencode(target.place),
                tags,
                wanted,
                progress=line.callback,
                warn=line.above(warn),
            )
        else:
            result = export(
                place,
                source.target,
                places.writable(target),
                tag_for(target, source),
                wanted,
                progress=line.callback,
                warn=line.above(warn),
            )
        line.clear()
        if options.verbose:
            tell_traffic(places)
    if options.json:
        print(
            json.dumps(
                {
                    "digest": str(result.descriptor.digest) if result.descriptor is not None else None,
                    "image_ids": [str(digest) for digest in result.image_ids],
                    "original": result.original,
                    "rebuilt_layers": result.rebuilt,
                }
            )
        )
    else:
        print("\n".join(str(digest) for digest in result.image_ids))
    return 0
