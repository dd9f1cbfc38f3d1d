"""casync's messages: to bytes and back, in any pieces, and what is no message."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat import schema
from casync_compat.errors import FormatError
from casync_compat.ids import ChunkId
from casync_compat.protocol import (
    Abort,
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Farewell,
    Hello,
    IndexEnd,
    IndexPart,
    Message,
    MessageReader,
    Terms,
    encode,
)

ID = ChunkId(bytes.fromhex("7f3f0c0d5219f51459578305ed2bbc198588758da85d08024c79c1195d1cd611"))

RECORDED = (
    (Hello(Terms(0xE00)), "18000000 00000000 eefba58c 94d0713c 000e0000 00000000"),
    (IndexPart(b"ab"), "12000000 00000000 f8273e2b dd912ab3 6162"),
    (IndexEnd(), "10000000 00000000 f5183704 f132094f"),
    (ArchivePart(b"\x0a"), "11000000 00000000 c5dced69 8a42d695 0a"),
    (ArchiveEnd(), "10000000 00000000 adcb243f 66ef0b45"),
    (ChunkRequest((ID,)), f"38000000 00000000 10929df8 e027b48a 00000000 00000000 {ID}"),
    (ChunkRequest((ID,), urgent=True), f"38000000 00000000 10929df8 e027b48a 01000000 00000000 {ID}"),
    (
        ChunkReply(ID, bytes.fromhex("28b52ffd00583100 0068656c6c6f0a"), compressed=True),
        f"47000000 00000000 8cbc840a 18dd1352 01000000 00000000 {ID} 28b52ffd 00583100 0068656c 6c6f0a",
    ),
    (ChunkAbsent(ID), f"30000000 00000000 6c7b2bc8 faf910d0 {ID}"),
    (Farewell(), "10000000 00000000 c386361a bf5d20ad"),
    (
        Abort(errno.EIO, b"no"),
        "1b000000 00000000 52a3fe7e 6b13d9e7 05000000 00000000 6e6f00",
    ),
)
"""Messages and their bytes, mostly as casync 2 sent them."""

ids = st.binary(min_size=32, max_size=32).map(ChunkId)
data = st.binary(min_size=1, max_size=300)
messages = st.one_of(
    st.integers(1, sum(Terms)).map(lambda flags: Hello(Terms(flags))),
    data.map(IndexPart),
    st.just(IndexEnd()),
    data.map(ArchivePart),
    st.just(ArchiveEnd()),
    st.builds(ChunkRequest, st.lists(ids, min_size=1, max_size=5).map(tuple), st.booleans()),
    st.builds(ChunkReply, ids, data, st.booleans()),
    st.builds(ChunkAbsent, ids),
    st.just(Farewell()),
    st.builds(Abort, st.integers(0, 2**31 - 2), st.binary(max_size=20).filter(lambda text: 0 not in text)),
)


def read(*pieces: bytes) -> list[Message]:
    """The messages in pieces of bytes that then end."""
    reader = MessageReader()
    found: list[Message] = []
    for piece in (*filter(None, pieces), b""):
        reader.receive(piece)
        while (message := reader.next_message()) is not None:
            found.append(message)
    return found


@pytest.mark.parametrize(("message", "text"), RECORDED, ids=lambda value: type(value).__name__)
def test_bytes_are_casyncs(message: Message, text: str) -> None:
    """Each message is written as casync writes it, and read whole, byte by byte, and with another behind it."""
    raw = bytes.fromhex(text)
    assert encode(message) == raw
    assert read(raw) == [message]
    assert read(*(raw[at : at + 1] for at in range(len(raw)))) == [message]
    assert read(raw + raw) == [message, message]


@given(st.lists(messages, max_size=8), st.data())
def test_any_pieces_give_the_same_messages(sent: list[Message], draw: st.DataObject) -> None:
    """However the bytes are cut on their way, the same messages come out."""
    raw = b"".join(map(encode, sent))
    cuts = draw.draw(st.lists(st.integers(0, len(raw)), max_size=8).map(sorted))
    assert read(*(raw[a:b] for a, b in pairwise([0, *cuts, len(raw)]))) == sent


BAD = {
    "a login banner": b"Welcome to example.org!\r\n",
    "an unknown type": bytes.fromhex("10000000 00000000 0100000000000000"),
    "a size below the header's": bytes.fromhex("0f000000 00000000 c386361a bf5d20ad"),
    "a size of 2^63": bytes.fromhex("00000000 00000080 f8273e2b dd912ab3"),
    "one byte more than 16 MiB": bytes.fromhex("01000001 00000000 f8273e2b dd912ab3"),
    "an empty part": bytes.fromhex("10000000 00000000 f8273e2b dd912ab3"),
    "a long goodbye": bytes.fromhex("11000000 00000000 c386361a bf5d20ad 00"),
    "unknown flags": bytes.fromhex("18000000 00000000 eefba58c 94d0713c 0020000000000000"),
    "no flags": bytes.fromhex("18000000 00000000 eefba58c 94d0713c 0000000000000000"),
    "half an id": bytes.fromhex("39000000 00000000 10929df8 e027b48a 00000000 00000000" + "11" * 33),
    "a chunk with unknown flags": bytes.fromhex(
        "39000000 00000000 8cbc840a 18dd1352 02000000 00000000" + "11" * 33
    ),
    "an error beyond 31 bits": bytes.fromhex("19000000 00000000 52a3fe7e 6b13d9e7 ffffff7f 00000000 00"),
    "a reason that does not end": bytes.fromhex("19000000 00000000 52a3fe7e 6b13d9e7 05000000 00000000 6e"),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_what_is_no_message(raw: bytes) -> None:
    """What casync cannot have said is refused in one line, and what stood before it is read all the same."""
    reader = MessageReader()
    reader.receive(encode(IndexEnd()) + raw)
    assert reader.next_message() == IndexEnd()
    with pytest.raises(FormatError) as caught:
        reader.next_message()
    assert caught.value.offset == 16
    assert "\n" not in str(caught.value)


def test_a_banner_is_shown() -> None:
    """Whoever logs in to something that talks sees what it said, escaped."""
    with pytest.raises(FormatError, match=r"no message of casync's protocol: Welcome\\x1b to"):
        read(b"Welcome\x1b to example.org!\r\n")


@pytest.mark.parametrize("size", [1, 15, 16, 23])
def test_ends_within_a_message(size: int) -> None:
    """Bytes that end within a message are an error, not an end."""
    with pytest.raises(FormatError):
        read(encode(Hello(Terms.PULL_INDEX))[:size])


def test_size_is_looked_at_before_the_body_comes() -> None:
    """Nothing is waited for that could never be taken."""
    reader = MessageReader()
    reader.receive(bytes.fromhex("ffffffff 00000000 8cbc840a 18dd1352"))
    with pytest.raises(FormatError, match="CHUNK of 4294967295 bytes"):
        reader.next_message()


def test_largest_message() -> None:
    """16 MiB with the header are sent; a byte more is not."""
    most = schema.MESSAGE_SIZE_MAX - 16
    assert read(encode(IndexPart(bytes(most)))) == [IndexPart(bytes(most))]
    with pytest.raises(ValueError, match="INDEX of 16777217 bytes"):
        encode(IndexPart(bytes(most + 1)))
    with pytest.raises(ValueError, match="ARCHIVE of 16 bytes"):
        encode(ArchivePart(b""))
