"""`pycasync oci mount`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack

from casync_compat.cli._common import INCOMPLETE, left_out_json
from casync_compat.cli._daemon import in_background
from casync_compat.cli._location import is_remote, local_path, open_cache
from casync_compat.cli._mounted import until_gone
from casync_compat.cli._parser import WrongWords
from casync_compat.cli._progress import human_size
from casync_compat.cli.oci._common import at_work, opened, platform_of, references, tell_traffic, warn
from casync_compat.cli.oci._options import add_image, add_json, add_progress, add_reading, add_restoring
from casync_compat.cli.oci._tree import image_tree
from casync_compat.errors import UsageError, show_path
from casync_compat.oci.image.mounted import MountedImage
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.mount import RootOptions, RootResult, mount, mount_again
from casync_compat.oci.rootfs.kernelmount import NoKernelMount, check_kernel
from casync_compat.oci.rootfs.metadata import Metadata
from casync_compat.oci.spec.reference import Reference
from casync_compat.streams.warming import Warming
from casync_compat.verbs.mount import mount as mount_nodes

EXAMPLES = (
    ("pycasync oci mount docker://host/app:2 root", "fetches what is read, until Ctrl-C or oci umount"),
    ("pycasync oci mount --fetch --chunk-cache=chunks docker://host/app:2 root", "and meanwhile the rest"),
    (
        "pycasync oci mount --using=kernel --file-store=/srv/files docker://host/app:2 root",
        "the kernel serves it, and its files are those of other images",
    ),
    (
        "pycasync oci mount --using=kernel --file-store=/srv/files --upper=state oci:images:app root",
        "what is written goes to state/upper",
    ),
)
_TOGETHER = 2 << 20
"""Bytes to fetch ahead at a time: of packs one range, mostly, or a few."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_image(parser, "image", "the image, converted or plain")
    parser.add_argument("directory", metavar="DIR", help="where to mount it; made when it is missing")
    parser.add_argument(
        "--using",
        choices=("fuse", "kernel"),
        help="who serves the tree: a process here, which fetches what is read, or the kernel alone, once all files are "
        "in the store (as root, from Linux 6.5 on; with --file-store the default where that can be)",
    )
    parser.add_argument(
        "--file-store", metavar="PATH", help="for the kernel: the store of files; made when missing"
    )
    parser.add_argument(
        "--upper", metavar="PATH", help="for the kernel: a directory for what is written; made when missing"
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="by FUSE: fetch meanwhile all that is not in --chunk-cache; a later mount goes on from there",
    )
    parser.add_argument(
        "--chunk-cache", metavar="DIR", dest="kept_chunks", help="by FUSE: directory to keep chunks in"
    )
    parser.add_argument("--background", action="store_true", help="by FUSE, too, return once it is mounted")
    add_restoring(parser)
    add_reading(parser)
    add_json(parser)
    add_progress(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    (reference,) = references(options.image)
    return _by_kernel(options, reference) if _kernel_serves(options) else _by_fuse(options, reference)


def _kernel_serves(options: argparse.Namespace) -> bool:
    """Whether it is to be the kernel.

    :raises WrongWords: an option is for the other way
    :raises UsageError: the kernel cannot, and nothing else will do
    """
    if options.using == "kernel" and options.file_store is None:
        raise WrongWords("say with --file-store where the files of images are to be")
    if options.using == "fuse" and (options.file_store is not None or options.upper is not None):
        raise WrongWords("--file-store and --upper are for --using=kernel")
    by_kernel = options.using == "kernel" or options.file_store is not None
    if by_kernel and (options.fetch or options.kept_chunks is not None):
        raise WrongWords(
            "--fetch and --chunk-cache are for --using=fuse; the kernel's way fetches all at once"
        )
    if options.upper is not None and options.file_store is None:
        raise WrongWords(
            "--upper takes --file-store, too; over a mount by FUSE you may mount overlayfs yourself"
        )
    if options.file_store is None:
        return False
    try:
        check_kernel()
    except NoKernelMount as error:
        if options.using == "kernel" or options.upper is not None:
            raise UsageError(f"{error}; --using=fuse mounts it for reading") from error
        warn(f"{error}; it is mounted by FUSE, and the store of files is left alone")
        return False
    return True


def _by_fuse(options: argparse.Namespace, reference: Reference) -> int:
    if options.fetch and options.kept_chunks is None:
        raise WrongWords("--fetch puts chunks into a chunk cache: give --chunk-cache=DIR")
    if options.background and (status := in_background()) is not None:
        return status
    metadata = Metadata(strict=options.strict, warn=warn)
    cache = open_cache(options.kept_chunks) if options.kept_chunks is not None else None
    with (
        opened(options) as places,
        image_tree(options, places, reference, shared=True, cache=cache) as image,
        ExitStack() as stack,
    ):
        if options.fetch and not image.is_converted:
            raise UsageError(
                f"{reference}: it is not converted, and all of it is fetched as it is opened; --fetch is for others"
            )
        if options.verify:
            image.verify()
        nodes = MountedImage(image, metadata)
        session = mount_nodes(
            nodes,
            local_path(options.directory),
            fsname=str(reference),
            tell=warn,
            far=image.far,
            # Set-user-id programs and devices mean what they mean in `oci unpack`'s tree.
            options=("suid", "dev") if os.geteuid() == 0 else (),
            reading=_reading(options, reference),
        )
        text = f"Mounted: {show_path(options.directory)}"
        left_out = metadata.left_out.kinds
        if options.json:
            made = {"using": "fuse", "entries": image.tree.entries, "size": image.tree.size}
            text = json.dumps(made | {"left_out": left_out_json(left_out)})
        if options.fetch and cache is not None:
            stack.enter_context(Warming(image.fetchers(), cache, warn, together=_TOGETHER))
        until_gone(session, text, background=options.background)
        if options.verbose:
            tell_traffic(places)
    return INCOMPLETE if left_out else 0


def _reading(options: argparse.Namespace, reference: Reference) -> list[bytes]:
    """What of this machine is read while it is mounted."""
    place = [reference.place] if reference.transport in ("oci", "dir") else []
    stores = [
        each for each in (options.store, options.kept_chunks) if each is not None and not is_remote(each)
    ]
    return [local_path(each) for each in (*place, *stores)]


def _by_kernel(options: argparse.Namespace, reference: Reference) -> int:
    wanted = RootOptions(
        local_path(options.upper) if options.upper is not None else None,
        verify=options.verify,
        strict=options.strict,
    )
    target, store = local_path(options.directory), local_path(options.file_store)
    with at_work(options, "mounting") as (places, line):
        digest = ImageTree.look_up(places.readable(reference), reference.target, platform_of(options))
        result = mount_again(digest, str(reference), target, store, wanted)
        if result is None:
            with image_tree(options, places, reference) as image:
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
        "using": "kernel",
        "entries": result.entries,
        "size": result.size,
        "files": result.files,
        "stored": result.stored,
        "fetched": result.fetched,
        "metadata": result.metadata,
        "verity": result.verity,
        "left_out": left_out_json(result.left_out),
    }
