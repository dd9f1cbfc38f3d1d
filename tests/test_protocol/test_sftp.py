"""SFTP's packets: to bytes and back, in any pieces, and what is none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.errors import FormatError
from casync_compat.protocol.sftp import (
    Packet,
    PacketBody,
    PacketKind,
    PacketReader,
    long,
    number,
    packet,
    string,
)

packets = st.builds(Packet, st.sampled_from(PacketKind), st.binary(min_size=4, max_size=200))


def read(*pieces: bytes) -> list[Packet]:
    """The packets in pieces of bytes."""
    reader = PacketReader()
    found: list[Packet] = []
    for piece in filter(None, pieces):
        reader.receive(piece)
        while (one := reader.next_packet()) is not None:
            found.append(one)
    return found


@given(st.lists(packets, max_size=8), st.data())
def test_any_pieces_give_the_same_packets(sent: list[Packet], draw: st.DataObject) -> None:
    """However the bytes are cut on their way, the same packets come out."""
    raw = b"".join(packet(*one) for one in sent)
    cuts = draw.draw(st.lists(st.integers(0, len(raw)), max_size=8).map(sorted))
    assert read(*(raw[a:b] for a, b in pairwise([0, *cuts, len(raw)]))) == sent


def test_bytes_are_the_drafts() -> None:
    """A packet as OpenSSH's sftp sends it: OPEN of `/x` to read."""
    raw = bytes.fromhex("00000013 03 00000001 00000002 2f78 00000001 00000000")
    assert packet(PacketKind.OPEN, number(1) + string(b"/x") + number(1) + number(0)) == raw
    body = PacketBody(read(raw)[0].body)
    assert (body.number(), body.string(), body.number(), body.number(), body.left) == (1, b"/x", 1, 0, 0)


def test_attributes() -> None:
    """What is said of a file is found, whatever else is said, and what is not said is not known."""
    everything = number(0x8000000F) + long(1 << 40) + number(1) + number(2) + number(0o100644)
    everything += number(10) + number(20) + number(1) + string(b"name") + string(b"value")
    body = PacketBody(everything + b"rest")
    found = body.attributes()
    assert (found.size, found.mode, found.modified, found.is_file) == (1 << 40, 0o100644, 20, True)
    assert body.left == 4
    assert PacketBody(number(0)).attributes() == (None, None, None)
    assert PacketBody(number(4) + number(0o040755)).attributes().is_directory


@pytest.mark.parametrize(
    "raw",
    [
        b"Welcome to example.org\r\n",
        bytes.fromhex("00000004 02 000000"),
        bytes.fromhex("7fffffff 02 00000003"),
    ],
)
def test_what_is_no_packet(raw: bytes) -> None:
    """What cannot be a packet is refused before it is waited for."""
    with pytest.raises(FormatError, match="no packet of SFTP"):
        read(raw)


@pytest.mark.parametrize(
    "raw", [b"", number(9), number(0x80000000) + number(0xFFFFFFFF), number(1) + number(1)]
)
def test_short_bodies(raw: bytes) -> None:
    """What ends too early is an error, whatever it says of its size."""
    body = PacketBody(raw)
    with pytest.raises(FormatError, match="too short"):
        body.attributes() if raw != number(9) else body.string()
