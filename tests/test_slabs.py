"""Slabs: a stream comes through whole, whatever the sizes; a slab is used again only when nothing works on it."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.streams.slabs import Slab, SlabWriter


class Collector:
    """Takes what is consumed; keeps back up to `keep` bytes each time, as a chunker does with an unfinished chunk."""

    def __init__(self, keep: int = 0) -> None:
        self.keep = keep
        self.data = bytearray()
        self.slabs: set[int] = set()
        self.seen = bytearray()
        self.lasts: list[bool] = []

    def __call__(self, slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
        self.slabs.add(id(slab))
        self.lasts.append(last)
        self.seen += slab.view[seen:end]
        needed = end if last else max(end - self.keep, begin)
        self.data += slab.view[begin:needed]
        return needed


@given(
    st.integers(2, 40),
    st.integers(1, 4),
    st.data(),
    st.lists(st.binary(max_size=120), max_size=30),
)
def test_the_stream_comes_through_whole(
    size: int, count: int, draw: st.DataObject, pieces: list[bytes]
) -> None:
    """Written or read into place, in pieces of any size, looked at or not, all is consumed once, in order."""
    collector = Collector(keep=draw.draw(st.integers(0, size - 1)))
    writer = SlabWriter(size, count, collector)
    for piece in pieces:
        if draw.draw(st.booleans()):
            writer.consume()
            assert writer.pending <= collector.keep
        if draw.draw(st.booleans()):
            writer.write(piece)
            continue
        rest = piece
        while rest:
            room = writer.room()
            assert len(room) >= 1
            fill = rest[: draw.draw(st.integers(1, len(room)))]
            room[: len(fill)] = fill
            writer.advance(len(fill))
            rest = rest[len(fill) :]
    writer.finish()
    whole = b"".join(pieces)
    assert writer.written == len(whole)
    assert bytes(collector.data) == whole
    assert bytes(collector.seen) == whole, "no byte is new twice"
    assert collector.lasts == [False] * (len(collector.lasts) - 1) + [True]
    assert len(collector.slabs) <= max(count, 2)


def test_an_empty_stream_is_consumed_once() -> None:
    """Nothing written is one last call with nothing in it."""
    collector = Collector()
    SlabWriter(8, 2, collector).finish()
    assert (collector.lasts, bytes(collector.data)) == ([True], b"")


def test_memoryviews_are_taken_as_well() -> None:
    """`write` takes any one-dimensional view of bytes."""
    collector = Collector()
    writer = SlabWriter(8, 2, collector)
    writer.write(memoryview(b"some more than a slab"))
    writer.finish()
    assert bytes(collector.data) == b"some more than a slab"


def test_a_slab_in_use_is_not_filled_again() -> None:
    """With all slabs in use the writer waits until the oldest is done with, and what works on it sees its bytes."""
    go = threading.Event()
    found: list[bytes] = []

    def work(view: memoryview) -> None:
        go.wait(10)
        found.append(bytes(view))

    def consume(slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
        slab.users.append(pool.submit(work, slab.view[begin:end]))
        return end

    def produce() -> None:
        for i in range(10):
            writer.write(bytes([i]) * 4)
        writer.finish()

    with ThreadPoolExecutor(1) as pool:
        writer = SlabWriter(4, 3, consume)
        producer = threading.Thread(target=produce)
        producer.start()
        producer.join(0.05)
        assert producer.is_alive()
        assert writer.written == 12
        go.set()
        producer.join(10)
        assert not producer.is_alive()
    assert found == [bytes([i]) * 4 for i in range(10)]


def test_a_failure_on_a_slab_is_left_to_its_owner() -> None:
    """Waiting for a slab does not raise what went wrong on it: whoever collects the results does."""
    slab = Slab(4)
    failed: Future[None] = Future()
    failed.set_exception(OSError("disk full"))
    slab.users.append(failed)
    slab.wait()
    assert slab.users == []


def test_a_consumer_that_takes_nothing_is_found_out() -> None:
    """A full slab of which nothing was consumed could never be filled again."""
    writer = SlabWriter(4, 2, lambda slab, begin, seen, end, last: 0)
    writer.write(b"full")
    with pytest.raises(AssertionError, match="not consumed"):
        writer.write(b"!")


def test_nothing_is_kept_after_closing() -> None:
    """A closed writer holds no buffer and nobody who consumed from it, and takes nothing more."""

    class Consumer:
        def consume(self, slab: Slab, begin: int, seen: int, end: int, last: bool) -> int:
            return end

    consumer = Consumer()
    gone = weakref.ref(consumer)
    writer = SlabWriter(4, 3, consumer.consume)
    writer.write(b"more than one slab")
    writer.finish()
    writer.close()
    del consumer
    assert gone() is None
    assert writer.written == 18
    with pytest.raises(AssertionError, match="closed"):
        writer.write(b"!")
