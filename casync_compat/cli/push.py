"""`pycasync push`."""

from __future__ import annotations

import argparse

from casync_compat.cli import _peer
from casync_compat.cli._parser import Parser

EXAMPLES = (
    (
        "pycasync push --root=/srv/casync",
        "as command= of a key in authorized_keys: it writes and reads beneath that directory, and does nothing else",
    ),
    (
        "pycasync push - - /srv/etc.caidx /srv/default.castr",
        "what CASYNC_REMOTE_PATH=pycasync has casync make host:/srv/etc.caidx start",
    ),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    parser.explain(
        "[- ARCHIVE INDEX STORE [STORES...]]",
        "Speaks casync's protocol on standard input and output, to take an archive, or an index and the chunks that "
        "STORE and the further ones have not, from a client: casync or pycasync. The client is told that all is well "
        "when all is on disk. Arguments are as those of pull; where a key's command= in authorized_keys is push, its "
        "clients may pull, too, and with --read-only do nothing else.",
    )
    _peer.add_arguments(parser, "--wait")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    return _peer.serve("push", options)
