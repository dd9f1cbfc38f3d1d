"""What several verbs of `pycasync oci` read from their options."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from casync_compat.cli._location import open_store
from casync_compat.cli._progress import ProgressLine, human_size
from casync_compat.errors import UsageError
from casync_compat.oci.places.opened import DEFAULT_TAG, Places
from casync_compat.oci.spec.descriptor import Descriptor, Platform
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.reference import Reference, parse_reference
from casync_compat.progress import Progress
from casync_compat.store.local import LocalStore

__all__ = [
    "add_copying",
    "add_image",
    "add_json",
    "add_platform",
    "add_progress",
    "add_registry",
    "add_store",
    "chunk_store",
    "display",
    "opened",
    "platform_of",
    "progress_line",
    "references",
    "run_copy",
    "tag_for",
    "tell_traffic",
]


def add_image(parser: argparse.ArgumentParser, name: str, help: str) -> None:
    """An argument that names an image."""
    parser.add_argument(name, metavar=name.upper(), help=help)


def add_registry(parser: argparse.ArgumentParser) -> None:
    """How registries are reached."""
    parser.add_argument(
        "--insecure", action="store_true", help="plain HTTP and unverified TLS are good enough for registries"
    )
    parser.add_argument(
        "--creds",
        metavar="USER[:PASSWORD]",
        help="for registries; without it credential files and helpers are asked",
    )


def add_platform(parser: argparse.ArgumentParser, *, everything: bool = True) -> None:
    """Which images of an index."""
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="which image of several; default: this machine's"
    )
    if everything:
        parser.add_argument("--all", action="store_true", help="the images for all platforms")


def add_store(parser: argparse.ArgumentParser, help: str) -> None:
    """A local chunk store."""
    parser.add_argument("--store", metavar="PATH", help=help)


def add_json(parser: argparse.ArgumentParser) -> None:
    """JSON instead of text."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Whether progress is shown."""
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")


def platform_of(options: argparse.Namespace) -> Platform | None:
    """What `--platform` says. :raises UsageError: it is no platform, or contradicts --all"""
    if options.platform is None:
        return None
    if getattr(options, "all", False):
        raise UsageError("--platform and --all contradict each other")
    try:
        return Platform.parse(options.platform)
    except ImageError as error:
        raise UsageError(f"--{error}") from error


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Places]:
    """What opens places, with the options for registries."""
    username = password = None
    if options.creds is not None:
        username, _, password = options.creds.partition(":")

    def warn(text: str) -> None:
        print(f"pycasync: warning: {display(text)}", file=sys.stderr)

    with Places(
        environ=os.environ, insecure=options.insecure, username=username, password=password, warn=warn
    ) as places:
        yield places


def display(text: str) -> str:
    """Text that came from outside, without control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def references(*texts: str) -> list[Reference]:
    """Names of images taken apart, all before anything is opened."""
    return [parse_reference(text) for text in texts]


def tag_for(target: Reference, source: Reference) -> str:
    """The tag to write: the target's, or else the source's, or else `latest`.

    :raises UsageError: the target names a digest
    """
    if target.digest is not None:
        raise UsageError(f"{target}: what is written gets its digest by what it is; name a tag instead")
    if target.tag is not None:
        return target.tag
    if source.tag is not None and source.transport == target.transport:
        return source.tag
    return DEFAULT_TAG


def chunk_store(options: argparse.Namespace) -> LocalStore | None:
    """The store that `--store` names."""
    return open_store(options.store) if options.store is not None else None


def progress_line(options: argparse.Namespace, what: str) -> ProgressLine:
    """The progress line, unless it is not wanted."""
    return ProgressLine(what, wanted=not (options.no_progress or options.verbose))


def tell_traffic(places: Places) -> None:
    """Say on standard error how much registries were asked for, if they were."""
    requests, up, down = places.traffic
    if requests:
        print(f"{requests} requests, {human_size(up)} sent, {human_size(down)} received", file=sys.stderr)


# ---- push and pull are one thing seen from two sides


def add_copying(parser: argparse.ArgumentParser, source: str, target: str, *, store: bool) -> None:
    """What push and pull take."""
    add_image(parser, "source", source)
    add_image(parser, "target", target)
    parser.add_argument(
        "--thin", action="store_true", help="leave out plain images that stand beside converted ones"
    )
    if store:
        add_store(parser, "put chunks into this store instead of packs into the layout; implies --thin")
    add_registry(parser)
    add_json(parser)
    add_progress(parser)


def run_copy(options: argparse.Namespace, what: str) -> int:
    """Copy an image as it is. Returns the exit status."""
    from casync_compat.oci.copy import copy_image  # here, since most verbs copy nothing

    source, target = references(options.source, options.target)
    tag = tag_for(target, source)
    store = open_store(options.store) if getattr(options, "store", None) is not None else None
    done = 0

    with opened(options) as places, progress_line(options, what) as line:

        def on_blob(blob: Descriptor, moved: bool) -> None:
            nonlocal done
            done += blob.size
            if line.callback is not None:
                line.callback(Progress(done))

        copied = copy_image(
            places.readable(source),
            source.target,
            places.writable(target),
            tag,
            thin=options.thin,
            store=store,
            on_blob=on_blob,
        )
        line.clear()
        traffic = places.traffic
        if not options.json:
            print(copied.descriptor.digest)
            said = f"{copied.moved} of {copied.blobs} blobs copied, {human_size(copied.moved_bytes)}"
            if store is not None:
                said += f"; {copied.chunks} chunks fetched, {human_size(copied.chunk_bytes)}"
            print(said, file=sys.stderr)
            tell_traffic(places)
    if options.json:
        values = {
            "digest": str(copied.descriptor.digest),
            "blobs": copied.blobs,
            "moved": copied.moved,
            "movedBytes": copied.moved_bytes,
            "chunks": copied.chunks,
            "chunkBytes": copied.chunk_bytes,
            "requests": traffic[0],
            "bytesSent": traffic[1],
            "bytesReceived": traffic[2],
        }
        print(json.dumps(values))
    return 0
