"""Push, pull and copy, which are one thing seen from several sides: silent where nobody looks on."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable

from casync_compat.cli._location import local_path, open_chunk_store
from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import counted, human_size, progress_line
from casync_compat.cli.oci._common import opened, references, tag_for, tell_unfit, traffic_of, warn
from casync_compat.cli.oci._moving import Moving
from casync_compat.fs.atomic import AtomicFile
from casync_compat.oci.copy import Copied, copy_image
from casync_compat.oci.export import ExportOptions, export_archive
from casync_compat.oci.places.docker_archive import DockerArchive
from casync_compat.oci.places.graph import walk
from casync_compat.oci.spec.blobs import Place
from casync_compat.oci.spec.reference import Reference
from casync_compat.streams.leasing import writing

__all__ = ["run_copy"]


def run_copy(options: argparse.Namespace, what: str) -> int:
    """Copy an image as it is. Returns the exit status."""
    digest_file = local_path(options.digestfile) if options.digestfile is not None else None
    source, target = references(options.source, options.target)
    tag = tag_for(target, source)
    if target.transport == "docker-archive" and (options.thin or getattr(options, "store", None) is not None):
        raise WrongWords(
            f"{target}: a docker archive has no room for casync indexes, so neither --thin nor --store"
        )
    store = open_chunk_store(options.store) if getattr(options, "store", None) is not None else None
    moving = Moving([source.transport, target.transport].count("docker"))
    wait = options.wait if store is not None else None
    with (
        writing(store, "oci pull", wait=wait, tell=warn) as lease,
        progress_line(options, what) as line,
        opened(options, moving.bytes) as places,
    ):
        moving.start(line.callback)
        line.parts = moving.parts
        if target.transport == "docker-archive":
            copied = _to_archive(places.readable(source), source, target, line.above(warn))
        else:
            copied = copy_image(
                places.readable(source),
                source.target,
                places.writable(target),
                tag,
                thin=options.thin,
                store=store,
                lease=lease,
                on_plan=moving.plan,
                on_start=moving.begin,
                on_blob=moving.blob,
                warn=line.above(warn),
            )
        line.clear()
        traffic = places.traffic
        if not options.json:
            blobs = (
                f"{copied.moved} of {counted(copied.blobs, 'blob')} copied: {human_size(copied.moved_bytes)}"
            )
            chunks = f"{counted(copied.chunks, 'chunk')} fetched: {human_size(copied.chunk_bytes)}"
            what = str(copied.descriptor.digest) if options.verbose else ""
            beside = f"{copied.attached} attached" if copied.attached else ""
            fetched = chunks if store is not None else ""
            line.tell(what, blobs, beside, fetched, traffic_of(places), always=options.verbose)
    tell_unfit(str(target), copied.unfit)
    if digest_file is not None:
        with AtomicFile(digest_file) as out:
            out.write(
                str(copied.descriptor.digest).encode()
            )  # nothing after it, as skopeo and podman write it
    if options.json:
        values = {
            "digest": str(copied.descriptor.digest),
            "blobs": copied.blobs,
            "moved": copied.moved,
            "moved_bytes": copied.moved_bytes,
            "chunks": copied.chunks,
            "chunk_bytes": copied.chunk_bytes,
            "attached": copied.attached,
            "requests": traffic[0],
            "bytes_sent": traffic[1],
            "bytes_received": traffic[2],
        }
        print(json.dumps(values))
    return 0


def _to_archive(place: Place, source: Reference, target: Reference, warn: Callable[[str], None]) -> Copied:
    """Write a docker archive of an image; what the archive then names is what has been copied."""
    path = os.fsencode(target.place)
    tags = [target.tag] if target.tag is not None else []
    export_archive(place, source.target, path, tags, ExportOptions(), warn=warn)
    with DockerArchive(path) as written:
        at = written.resolve(None)
        blobs = list(walk(written, at).blobs.values())
    return Copied(at, len(blobs), len(blobs), sum(blob.size for blob in blobs))
