"""Push, pull and copy, which are one thing seen from several sides: silent where nobody looks on."""

from __future__ import annotations

import argparse
import json

from casync_compat.cli._location import local_path, open_chunk_store
from casync_compat.cli._progress import counted, human_size, progress_line
from casync_compat.cli.oci._common import opened, references, tag_for, tell_unfit, traffic_of, warn
from casync_compat.cli.oci._moving import Moving
from casync_compat.fs.atomic import AtomicFile
from casync_compat.oci.copy import copy_image
from casync_compat.streams.leasing import writing

__all__ = ["run_copy"]


def run_copy(options: argparse.Namespace, what: str) -> int:
    """Copy an image as it is. Returns the exit status."""
    digest_file = local_path(options.digestfile) if options.digestfile is not None else None
    source, target = references(options.source, options.target)
    tag = tag_for(target, source)
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
