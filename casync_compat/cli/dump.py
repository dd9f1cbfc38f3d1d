"""`pycasync dump`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import BinaryIO

from casync_compat.cli._common import is_stream, write_lines
from casync_compat.cli._location import open_input
from casync_compat.cli._options import add_options, add_positional
from casync_compat.cli._parser import Parser
from casync_compat.errors import FileError, FormatError
from casync_compat.store.files import StoredFile
from casync_compat.streams.inputs import Input, open_stored, path_of
from casync_compat.verbs.dump import json_line, pieces, text_line

EXAMPLES = (
    ("pycasync dump etc.catar", "offset, type, size and every field"),
    ("pycasync dump --json etc.caidx | jq -r .fields.id", "one JSON object a line"),
)


def add_arguments(parser: Parser) -> None:
    """What it takes."""
    details = "Stops at the first record that is wrong, and says where it is and which rule it breaks."
    parser.explain("FILE", details)
    file = (
        "file: archive, index, chunk, cache, head, segment or pack of a packed store, pack, pack index or recipe of an "
        "image, or what a casync said in its protocol; - is standard input"
    )
    add_positional(parser, "file", file)
    add_options(parser, "--json")


def run(options: argparse.Namespace) -> int:
    """Run the verb. Returns the exit status."""
    argument: str = options.file
    where = None if is_stream(argument) else open_input(argument)
    path = path_of(where)
    damage: list[FormatError] = []
    try:
        with _opened(where) as file:
            write_lines(_lines(file, path, options.json, damage))
    except IsADirectoryError:
        why = "it is a directory; name one file, of a store one chunk"
        raise FileError(argument, "dump", why) from None
    except OSError as error:
        raise FileError(argument, "read", error) from error
    if damage:  # once all before it is written
        raise damage[0]
    return 0


def _opened(where: Input | None) -> BinaryIO:
    if isinstance(where, StoredFile):
        return open_stored(where)
    return open(0 if where is None else where, "rb", closefd=where is not None)


def _lines(file: BinaryIO, path: bytes | None, json: bool, damage: list[FormatError]) -> Iterator[bytes]:
    """The lines up to the damage, which goes to a list."""
    line = json_line if json else text_line
    try:
        for piece in pieces(file, path or b""):
            yield line(piece)
    except FormatError as error:
        damage.append(FormatError(error.reason, path, error.offset))
