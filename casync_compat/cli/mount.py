"""`pycasync mount`."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from casync_compat.cli._common import archive_errors, is_far, open_tree
from casync_compat.cli._location import local_path, shown_name, warn
from casync_compat.cli._options import READING, add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.errors import show_path
from casync_compat.mount.archive import MountedArchive
from casync_compat.mount.session import MountSession
from casync_compat.verbs.mount import mount

EXAMPLES = (
    ("pycasync mount etc.caidx /mnt", "until fusermount3 -u /mnt, or Ctrl-C"),
    ("pycasync mount https://host/etc.caidx /mnt --store=https://host/store", "fetches what is read"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain("INPUT MOUNTPOINT")
    add_positional(parser, "input", "archive, index or directory")
    add_positional(parser, "mountpoint", "directory to mount it on")
    add_options(parser, *READING, "--what", "--mkdir")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    source, mountpoint = options.input, options.mountpoint
    with archive_errors(source), open_tree(options, source) as tree:
        nodes = MountedArchive(tree.archive())
        session = mount(
            nodes,
            local_path(mountpoint),
            fsname=os.fsdecode(shown_name(source)),
            tell=warn,
            far=is_far(options, source),
            mkdir=options.mkdir,
        )
        with session, _stopping(session):
            print(f"Mounted: {show_path(mountpoint)}", flush=True)
            session.wait()
    return 0


@contextmanager
def _stopping(session: MountSession) -> Iterator[None]:
    """Signals that would end the process end the session."""
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, lambda *_: session.stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
