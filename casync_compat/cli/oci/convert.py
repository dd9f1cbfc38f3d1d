"""`pycasync oci convert`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from casync_compat.chunker.params import ChunkSizes
from casync_compat.cli._location import cache_home, local_path
from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import ProgressLine, counted, human_size
from casync_compat.cli.oci._common import (
    at_work,
    chunk_store,
    platform_of,
    references,
    tag_for,
    tell_traffic,
    tell_unfit,
    warn,
)
from casync_compat.cli.oci._options import add_image, add_jobs, add_layer_limit, add_rewriting, add_wait
from casync_compat.compression import Compression
from casync_compat.errors import FileError, UsageError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.ids import Digest
from casync_compat.index import Index
from casync_compat.oci.convert import Converted, ConvertOptions, ConvertResult, convert
from casync_compat.oci.image.converted import ConvertedLayers
from casync_compat.oci.spec.descriptor import Platform
from casync_compat.store.base import Store
from casync_compat.streams.leasing import Lease, writing

EXAMPLES = (
    ("pycasync oci convert oci:images:app oci:images:app", "the plain image stays beside the new one"),
    ("pycasync oci convert --thin docker-archive:app.tar docker://host/app:2", "the new one alone"),
    (
        "pycasync oci convert --store=app.castr oci:images:app oci:images:app",
        "with chunks for casync extract",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "source", "the image to convert")
    add_image(parser, "target", "where to, oci:, docker://, dir: or oci-archive:")
    parser.add_argument(
        "--thin", action="store_true", help="store the converted image alone, not the plain one beside it"
    )
    parser.add_argument(
        "--squash", action="store_true", help="merge layers to one tree; the original cannot be had back"
    )
    parser.add_argument(
        "--mtime",
        choices=("epoch", "keep"),
        default="epoch",
        help="times in archives: none, so that a change of times changes no chunk, or those of the layers",
    )
    parser.add_argument(
        "--chunk-size", metavar="[MIN:]AVG[:MAX]", default="auto", help="average chunk size, or all three"
    )
    parser.add_argument("--digest", metavar="NAME", default="default", help="sha512-256 (default) or sha256")
    parser.add_argument(
        "--compression", metavar="NAME", default="default", help="of chunks: zstd (default), xz, gzip"
    )
    parser.add_argument(
        "--base",
        metavar="IMAGE",
        help="store only chunks that this image lacks; default: what the target names",
    )
    parser.add_argument("--no-base", action="store_true", help="store all chunks")
    add_layer_limit(parser)
    add_jobs(parser)
    add_rewriting(parser, "fill this chunk store too, and write an index for each layer beside it")
    add_wait(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, target = references(options.source, options.target)
    tag = tag_for(target, source)
    base = references(options.base)[0] if options.base is not None else None
    if base is not None and options.no_base:
        raise WrongWords("--base and --no-base contradict each other")
    store = chunk_store(options)
    with (
        writing(store, "oci convert", wait=options.wait, tell=warn) as lease,
        at_work(options, "converting") as (places, line),
    ):
        wanted = _options(options, store, lease)
        result = convert(
            places.readable(source),
            source.target,
            places.writable(target),
            tag,
            wanted,
            base=(places.readable(base), base.target) if base is not None else None,
            progress=line.callback,
            warn=line.above(warn),
        )
        line.clear()
        traffic = places.traffic
        if options.verbose:
            tell_traffic(places)
        else:
            _tell_converted(line, result)
    if options.json:
        requests, sent, received = traffic
        counted = {"requests": requests, "bytes_sent": sent, "bytes_received": received}
        print(json.dumps(_summary(result) | counted))
    else:
        print(result.descriptor.digest)
    _report(result, options.verbose)
    tell_unfit(str(target), result.unfit)
    return 0


def _options(options: argparse.Namespace, store: Store | None, lease: Lease) -> ConvertOptions:
    epoch = 0
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and options.mtime == "epoch":
        if not text.isascii() or not text.isdigit() or len(text) > 12:
            raise UsageError(f"$SOURCE_DATE_EPOCH is {text!r}, not a number of seconds")
        epoch = int(text)
    return ConvertOptions(
        thin=options.thin,
        squash=options.squash,
        platform=platform_of(options),
        all_platforms=options.all,
        sizes=ChunkSizes.parse(options.chunk_size),
        digest=Digest.parse(options.digest),
        compression=Compression.parse(options.compression),
        mtime=options.mtime,
        epoch=epoch,
        base=not options.no_base,
        jobs=options.jobs,
        layer_limit=options.max_layer_size,
        store=store,
        memory=ConvertedLayers(_memory()),
        on_index=_IndexFiles(local_path(options.store), options.all, lease) if store is not None else None,
    )


def _memory() -> bytes | None:
    """The file that remembers which layers were converted here; None without a home directory."""
    home = cache_home()
    return os.path.join(home, b"layers") if home is not None else None


class _IndexFiles:
    """Writes `<n>.caidx` (or `.caibx`) beside the store, for each layer; with `--all` in a directory a platform."""

    def __init__(self, store: bytes, by_platform: bool, lease: Lease) -> None:
        self._lease = lease
        self._directory = os.path.dirname(store.rstrip(b"/")) or b"."
        self._by_platform = by_platform

    def __call__(self, platform: Platform, number: int, index: Index, is_tree: bool) -> None:
        directory = self._directory
        if self._by_platform:
            directory = os.path.join(directory, os.fsencode(str(platform).replace("/", "-")))
            try:
                os.makedirs(directory, exist_ok=True)
            except OSError as error:
                raise FileError(directory, "create directory", error) from error
        self._lease.keep(index)
        suffix = b"caidx" if is_tree else b"caibx"
        with AtomicFile(os.path.join(directory, b"%d.%s" % (number, suffix))) as out:
            out.write(index.to_bytes())


def _summary(result: ConvertResult) -> dict[str, Any]:
    return {
        "digest": str(result.descriptor.digest),
        "media_type": result.descriptor.media_type,
        "images": [_image(image) for image in result.images],
        "attached": result.attached,
        "left_out": [str(descriptor.digest) for descriptor in result.left_out],
    }


def _image(image: Converted) -> dict[str, Any]:
    return {
        "digest": str(image.descriptor.digest),
        "plain": str(image.plain.digest),
        "platform": str(image.platform),
        "layers": image.layers,
        "reused_layers": image.reused_layers,
        "tars": [{"layer": number, "reason": reason} for number, reason in image.tars],
        "tar_bytes": image.tar_bytes,
        "chunks": image.chunks,
        "packs": image.packs,
        "pack_bytes": image.pack_bytes,
        "new_packs": image.new_packs,
        "new_bytes": image.new_bytes,
    }


def _tell_converted(line: ProgressLine, result: ConvertResult) -> None:
    images = result.images
    layers, reused = sum(image.layers for image in images), sum(image.reused_layers for image in images)
    size, new = sum(image.tar_bytes for image in images), sum(image.new_bytes for image in images)
    what = f"converted {counted(len(images), 'image')}" if len(images) != 1 else "converted"
    line.tell(
        f"{what}: {counted(layers, 'layer')} of {human_size(size)}, {reused} as in the base, {human_size(new)} new"
    )


def _report(result: ConvertResult, verbose: bool) -> None:
    for image in result.images:
        for number, reason in image.tars:
            print(f"layer {number} is kept as a tar of chunks: {reason}", file=sys.stderr)
        if verbose:
            print(
                f"{image.platform}: {image.layers} layers ({image.reused_layers} as in the base), "
                f"{human_size(image.tar_bytes)} in {image.chunks} chunks, {image.packs} packs of "
                f"{human_size(image.pack_bytes)}, {image.new_packs} new of {human_size(image.new_bytes)}",
                file=sys.stderr,
            )
    if result.left_out:
        print(
            f"{len(result.left_out)} artifacts beside the image, which are about none of its parts, were left out",
            file=sys.stderr,
        )
