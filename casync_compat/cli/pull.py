"""`pycasync pull`."""

from __future__ import annotations

import argparse

from casync_compat.cli import _peer
from casync_compat.cli._parser import Parser

EXAMPLES = (
    (
        "CASYNC_REMOTE_PATH=pycasync casync extract host:/srv/etc.caidx /tmp/etc",
        "what starts it: a client of casync's protocol, through ssh",
    ),
    (
        'command="pycasync pull --root=/srv/casync" ssh-ed25519 AAAA...',
        "in authorized_keys: this key reads what is beneath /srv/casync, and does nothing else",
    ),
    ("pycasync pull - - - s3://bucket/store", "chunks of any store that can be read, to a client"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "[- ARCHIVE INDEX STORE [STORES...]]",
        "Speaks casync's protocol on standard input and output, to send an archive, or an index and chunks, to a "
        "client: casync, desync or pycasync. Each place is a path or a locator, or - for none. Without arguments they "
        "are taken from SSH_ORIGINAL_COMMAND, where sshd leaves what a client wants to run whose key has a command= in "
        "authorized_keys. With --root paths are taken from that directory and have to stay beneath it; with --store, "
        "chunks come from there whatever store the client names.",
    )
    _peer.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    return _peer.serve("pull", options)
