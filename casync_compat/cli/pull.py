"""`pycasync pull`."""

from __future__ import annotations

import argparse

from casync_compat.cli import _peer
from casync_compat.cli._parser import Parser

EXAMPLES = (
    (
        "pycasync pull --root=/srv/casync",
        "as command= of a key in authorized_keys: it reads what is beneath that directory, and does nothing else",
    ),
    (
        "pycasync pull - - /srv/etc.caidx /srv/default.castr",
        "what CASYNC_REMOTE_PATH=pycasync has casync extract host:/srv/etc.caidx start",
    ),
    ("pycasync pull - - - s3://bucket/store", "chunks of any store that can be read"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "[- ARCHIVE INDEX STORE [STORES...]]",
        "Speaks casync's protocol on standard input and output, to send an archive, or an index and chunks, to a "
        "client: casync, desync or pycasync. Each place is a path or a locator, or - for none. Without arguments they "
        "are taken from SSH_ORIGINAL_COMMAND, where sshd leaves what a client wants to run whose key has a command= in "
        "authorized_keys. With --root paths are taken from that directory and have to stay beneath it; with --store, "
        "chunks come from there whatever store the client names. With --dry-run nothing is said.",
    )
    _peer.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    return _peer.serve("pull", options)
