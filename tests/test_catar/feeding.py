"""Ways to feed a decoder: whole, byte by byte, in random pieces. What comes out must not depend on it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from catar.decoder import END, NEED_DATA, Decoder
from catar.errors import FormatError
from catar.records import Data, DirectoryEnd, Node

FIXTURES = Path(__file__).parents[1] / "fixtures" / "catar"


def fixture(name: str) -> bytes:
    """The bytes of tests/fixtures/catar/NAME.catar."""
    return (FIXTURES / f"{name}.catar").read_bytes()


@dataclass(slots=True)
class Outcome:
    """All that a decoder said.

    :ivar steps: nodes, directory ends, and each payload as one piece
    :ivar ended: whether it said that the archive is complete
    :ivar error: its reason and offset, if it refused
    """

    steps: list[Node | bytes | DirectoryEnd] = field(default_factory=list)
    ended: bool = False
    error: tuple[str, int] | None = None
    flags: int | None = None
    trailing: bytes = b""

    @property
    def nodes(self) -> list[Node]:
        return [step for step in self.steps if isinstance(step, Node)]


def feed(pieces: Iterable[bytes], decoder: Decoder | None = None) -> Outcome:
    """Give a decoder these pieces and then the end of input; any error but FormatError comes through."""
    decoder = decoder or Decoder()
    out = Outcome()
    source = iter(pieces)
    payload = bytearray()
    try:
        while (event := decoder.next_event()) is not END:
            if isinstance(event, Data):
                assert len(event.data)
                payload += event.data
                if not decoder.payload_left:
                    out.steps.append(bytes(payload))
                    payload.clear()
            elif isinstance(event, Node | DirectoryEnd):
                out.steps.append(event)
            else:
                assert event is NEED_DATA
                decoder.receive(next(source, b""))
        out.ended = True
        for piece in source:
            decoder.receive(piece)
    except FormatError as error:
        out.error = (error.reason, error.offset)
    out.flags = decoder.feature_flags
    out.trailing = decoder.trailing_data if out.ended else b""
    return out


def bytewise(data: bytes) -> Iterator[bytes]:
    """One byte at a time."""
    return (data[i : i + 1] for i in range(len(data)))


def in_pieces(data: bytes, seed: int) -> Iterator[bytes]:
    """Pieces of random size, small ones mostly; the same for the same seed."""
    rng = random.Random(seed)
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 15, 16, 17, 63, 64, 65, 200, 1000))
        yield data[at : at + size]
        at += size


def every_way(data: bytes, *, flags: int | None = None, any_top: bool = False) -> Outcome:
    """Decode in every way, with the native parser and without; all must agree on every event and on the error."""
    whole = feed([data] if data else [], Decoder(flags, any_top=any_top, native=False))
    for native in (True, False):
        for pieces in ([data] if data else [], bytewise(data), in_pieces(data, 1), in_pieces(data, 2)):
            assert feed(pieces, Decoder(flags, any_top=any_top, native=native)) == whole
    return whole
