"""`pycasync mkdev`."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack

from casync_compat.cli._common import archive_errors, blob_fetcher, input_kind
from casync_compat.cli._daemon import in_background
from casync_compat.cli._location import local_path, warn
from casync_compat.cli._mounted import until_gone
from casync_compat.cli._options import READING, add_options, add_positional
from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.errors import UsageError, show_path
from casync_compat.kinds import Kind
from casync_compat.mount.nbd import NbdServer
from casync_compat.streams.lookahead import SharedReader

EXAMPLES = (
    ("pycasync mkdev disk.caibx --socket=disk.sock", "until Ctrl-C; then, on a kernel with nbd, as root:"),
    (
        "pycasync mkdev https://host/disk.caibx --socket=/run/disk.sock --background",
        "where chunks are elsewhere",
    ),
)
NOTE = (
    "nbd-client -unix SOCKET /dev/nbd0 makes a device of it where the kernel has nbd; qemu, nbdcopy and others read "
    "nbd+unix:///?socket=SOCKET themselves. Where only a file is wanted, pycasync mount shows one."
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("INDEX", NOTE)
    add_positional(parser, "input", "index of a blob")
    add_options(parser, *READING, "--what", "--socket", "--background")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    assert options.input is not None
    if options.socket is None:
        raise WrongWords(
            "block devices are served on a socket: give --socket=PATH, which nbd-client, qemu and nbdcopy can use; "
            "or see the blob as a file with `pycasync mount`"
        )
    if options.input == "-" and options.what is None:
        raise WrongWords("what standard input is must be said: --what=blob-index")
    if options.background and (status := in_background()) is not None:
        return status
    with archive_errors(options.input), ExitStack() as stack:
        if input_kind(options, options.input) is not Kind.BLOB_INDEX:
            raise UsageError(
                f"{show_path(options.input)}: only the index of a blob is a device; mount shows trees"
            )
        reader = stack.enter_context(SharedReader(blob_fetcher(options, options.input)))
        server = NbdServer(reader, local_path(options.socket), warn)
        said = f"Serving: nbd+unix:///?socket={show_path(os.path.abspath(local_path(options.socket)))}"
        until_gone(server, said, background=options.background)
    return 0
