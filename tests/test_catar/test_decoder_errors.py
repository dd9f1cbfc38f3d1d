"""Whatever bytes come in, a decoder gives nodes or one FormatError with an offset: nothing else, and at little cost."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest
from fixtures import make_catar
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import archives, directory, encode, file

from catar import schema
from catar.decoder import Decoder
from catar.encoder import Encoder
from catar.errors import FormatError, UsageError
from catar.grammar import MAX_DEPTH
from catar.records import DirectoryEnd, Node

from .feeding import FIXTURES, Outcome, every_way, feed, in_pieces
from .samples import EVERYTHING, SMALL, patched, places

BROKEN = make_catar.broken()
U64_MAX = (1 << 64) - 1


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    """Each broken archive is refused, for its defect and at its offset, however it is fed."""
    broken = BROKEN[name]
    outcome = every_way(broken.data)
    assert not outcome.ended
    assert outcome.error is not None
    reason, offset = outcome.error
    assert broken.says in reason
    assert offset == broken.offset


@pytest.mark.parametrize("name", [name for name, broken in BROKEN.items() if broken.says != "truncated"])
def test_broken_with_more_behind(name: str) -> None:
    """What follows changes nothing: the first fault is the one that is told."""
    broken = BROKEN[name]
    for native in (True, False):
        outcome = feed([broken.data, bytes(100)], Decoder(native=native))
        assert outcome.error == feed([broken.data]).error


def test_fixtures_are_generated() -> None:
    """The files on disk are those that their generator makes, no more and no fewer."""
    on_disk = {path.stem: path.read_bytes() for path in (FIXTURES / "broken").iterdir()}
    assert on_disk == {name: broken.data for name, broken in BROKEN.items()}
    assert (FIXTURES / "README.md").read_text() == make_catar.readme()


def test_error_is_one_line() -> None:
    """An error is one line that ends in the offset, and keeps reason and offset apart for those who ask."""
    error = FormatError("no good", 17)
    assert str(error) == "no good (at byte 17)"
    assert (error.reason, error.offset) == ("no good", 17)


@pytest.mark.parametrize("name", BROKEN)
def test_reasons_are_printable(name: str) -> None:
    """Names from an archive cannot break the line or the terminal."""
    outcome = feed([BROKEN[name].data])
    assert outcome.error is not None
    assert outcome.error[0].isprintable()


@pytest.mark.parametrize("name", BROKEN)
def test_refused_for_good(name: str) -> None:
    """A decoder that has refused goes on refusing: it never resumes behind the fault."""
    decoder = Decoder()
    assert feed([BROKEN[name].data], decoder).error is not None
    decoder.receive(EVERYTHING.data)
    for _ in range(3):
        with pytest.raises(FormatError):
            decoder.next_event()


# ---- cut short, damaged ------------------------------------------------------------------------------------------


def test_truncated_anywhere() -> None:
    """An archive cut off at any byte is an error at that byte; the directories before it were complete."""
    data = EVERYTHING.data
    whole = feed([data])
    for size in range(len(data)):
        outcome = feed([data[:size]] if size else [])
        assert outcome.error is not None, size
        assert "truncated" in outcome.error[0]
        assert outcome.error[1] == size
        complete = [step for step in outcome.steps if not isinstance(step, bytes)]
        assert complete == [step for step in whole.steps if not isinstance(step, bytes)][: len(complete)]


@pytest.mark.parametrize("seed", range(4))
def test_truncated_in_pieces(seed: int) -> None:
    """The same in pieces of any size."""
    data = EVERYTHING.data
    for size in range(seed, len(data), 37):
        assert feed(in_pieces(data[:size], seed)).error == feed([data[:size]] if size else []).error


class OutOfOrder(Exception):
    """What was read has names out of order."""


def reencoded(outcome: Outcome) -> bytes:
    """What an encoder makes of a decoder's events."""
    assert outcome.flags is not None
    encoder = Encoder(outcome.flags)
    out = b""
    for step in outcome.steps:
        if isinstance(step, Node):
            try:
                out += encoder.begin(step)
            except UsageError as error:
                if "must rise" not in str(error):
                    raise
                raise OutOfOrder from None
        elif isinstance(step, DirectoryEnd):
            out += encoder.end_directory()
        else:
            encoder.advance(len(step))
            out += step
    assert encoder.complete
    return out


def refused_or_exact(data: bytes, outcome: Outcome) -> bool:
    """Whether the bytes were refused; if not, they must be what an encoder writes for what was read."""
    if outcome.error is not None:
        assert 0 <= outcome.error[1] <= len(data)
        return True
    # Names out of order are read, but not written.
    with suppress(OutOfOrder):
        assert reencoded(outcome) + outcome.trailing == data
    return False


def test_every_bit_flip() -> None:
    """An archive with any one bit flipped is refused, or is another good archive, down to the last byte."""
    data = SMALL.data
    refused = 0
    for bit in range(8 * len(data)):
        flipped = patched(data, bit // 8, bytes([data[bit // 8] ^ 1 << bit % 8]))
        outcome = feed([flipped])
        assert outcome == feed([flipped], Decoder(native=False))
        refused += refused_or_exact(flipped, outcome)
    assert 0.5 < refused / (8 * len(data)) < 0.9


SIZES = [*range(16), 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 16, U64_MAX - 15, U64_MAX]


@pytest.mark.parametrize("size", SIZES, ids=hex)
def test_false_sizes(size: int) -> None:
    """A record with a false size is refused, whichever it is, and the size is never believed when memory is taken."""
    data = EVERYTHING.data
    feed([data])
    tracemalloc.start()
    try:
        for place in places(data):
            false = patched(data, place.offset, struct.pack("<Q", size))
            assert feed([false]).error is not None, place
            tracemalloc.reset_peak()  # now that what is made once for such an error is there
            before = tracemalloc.get_traced_memory()[0]
            assert feed([false]).error is not None, place
            assert tracemalloc.get_traced_memory()[1] - before < 30 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("change", [-8, -1, 1, 8, 24])
def test_sizes_off_by_a_little(change: int) -> None:
    """Sizes that are almost right are refused, too, unless they happen to give another good archive."""
    data = EVERYTHING.data
    for place in places(data):
        false = patched(data, place.offset, struct.pack("<Q", place.size + change))
        outcome = feed([false])
        refused_or_exact(false, outcome)
        assert outcome == feed([false], Decoder(native=False))


def test_records_left_out() -> None:
    """Where a record is missing or doubled the archive is refused, since its directory's table says otherwise."""
    data = EVERYTHING.data
    for place in places(data):
        record = data[place.offset : place.offset + place.size]
        rest = data[place.offset + place.size :]
        assert feed([data[: place.offset] + rest]).error is not None, place
        if rest:
            assert feed([data[: place.offset] + record + record + rest]).error is not None, place


# ---- anything at all ---------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """No bytes bring a decoder to raise anything but FormatError."""
    assert every_way(data).error is not None


ROW_TYPES = [row.type for row in schema.ARCHIVE_RECORDS] + [make_catar.UNKNOWN]
ENTRY = st.builds(
    make_catar.entry,
    st.sampled_from([make_catar.DIR, make_catar.REG, make_catar.LNK, make_catar.FIFO, make_catar.CHR]),
    uid=st.sampled_from([0, 33]),
)
records = ENTRY | st.builds(
    make_catar.record,
    st.sampled_from(ROW_TYPES),
    st.binary(max_size=12) | st.sampled_from([b"a\0", b"user.a\0v", bytes(8), bytes(16), bytes(32)]),
)


@given(st.lists(records, max_size=12))
def test_any_records(found: list[bytes]) -> None:
    """Nor does any sequence of records, known and unknown."""
    outcome = every_way(make_catar.TOP + b"".join(found))
    assert outcome.error is not None or outcome.trailing


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An archive with some bytes replaced, put in or taken out."""
    data = draw(archives(depth=2)).data
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.binary(max_size=9) | st.integers(0, U64_MAX).map(lambda n: n.to_bytes(8, "little")))
        data = data[:at] + new + data[at + draw(st.integers(0, 9)) :]
    return data


@given(damaged())
@settings(max_examples=60)
def test_damaged(data: bytes) -> None:
    """Damage is refused, or what is accepted stands in the bytes exactly as an encoder would write it."""
    refused_or_exact(data, every_way(data))


# ---- cost --------------------------------------------------------------------------------------------------------


def _unbounded(record: bytes, head: bytes) -> Iterator[bytes]:
    yield head
    while True:
        yield record


def test_too_much_metadata() -> None:
    """One node may not have more than 64 MiB of metadata: an endless stream of attributes is refused."""
    head = make_catar.TOP + make_catar.A + make_catar.entry(make_catar.REG)
    attribute = make_catar.record(make_catar.XATTR, b"user.a\0" + bytes(65536))
    outcome = feed(_unbounded(attribute, head))
    assert outcome.error is not None
    reason, offset = outcome.error
    assert "too much metadata" in reason
    assert 0 <= len(head) + schema.NODE_METADATA_MAX - offset < len(attribute)


@pytest.mark.parametrize("type_", [make_catar.XATTR, make_catar.ACL_USER], ids=["xattrs", "ACL entries"])
def test_many_small_records(type_: int) -> None:
    """Time grows with the number of a node's records, not with its square."""
    count = 60_000
    if type_ == make_catar.XATTR:
        metadata = b"".join(make_catar.record(type_, b"u.%06d\0" % i) for i in range(count))
    else:
        metadata = b"".join(make_catar.record(type_, make_catar.words(i + 100_000, 7)) for i in range(count))
        metadata += make_catar.record(make_catar.ACL_GROUP_OBJ, make_catar.words(7))
    data = make_catar.directory(
        make_catar.TOP, (b"a\0", make_catar.entry(make_catar.REG) + metadata + make_catar.TEXT)
    )
    start = time.process_time()
    outcome = feed([data])
    assert time.process_time() - start < 5  # copying a tuple for each record takes 10 and more
    node = outcome.nodes[1]
    assert len(node.xattrs) + len(node.acl_users) == count
    assert outcome.ended


def test_payload_is_passed_on() -> None:
    """A payload is handed out as it comes, and never kept."""
    size = 32 << 20
    head = make_catar.TOP + make_catar.A + make_catar.entry(make_catar.REG)
    head += make_catar.record(make_catar.PAYLOAD, size=16 + size)
    decoder = Decoder()
    decoder.receive(head)
    assert isinstance(decoder.next_event(), Node)
    assert isinstance(decoder.next_event(), Node)
    piece = bytes(1 << 16)
    tracemalloc.start()
    try:
        for _ in range(size // len(piece)):
            decoder.receive(piece)
            decoder.next_event()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoder.payload_left == 0
    assert peak < 8 * len(piece)


def test_deepest() -> None:
    """As many nodes on a path as casync allows are read."""
    top = file(b"a", b"bottom")
    for level in range(MAX_DEPTH - 1):
        top = directory(b"a" if level < MAX_DEPTH - 2 else b"", top)
    outcome = every_way(encode(top).data)
    assert outcome.ended
    assert len(outcome.nodes) == MAX_DEPTH == 64
