"""What a server answers, and in which order."""

from __future__ import annotations

from casync_compat.ids import ChunkId
from casync_compat.protocol import ChunkRequest, RequestQueue

A, B, C = (ChunkId(bytes([number]) * 32) for number in range(3))


def handed_out(queue: RequestQueue) -> list[ChunkId]:
    found = []
    while (id := queue.next()) is not None:
        found.append(id)
    return found


def test_in_order() -> None:
    """What was asked for first is answered first; what is waited for before all else."""
    queue = RequestQueue()
    queue.add(ChunkRequest((A, B)))
    queue.add(ChunkRequest((C,), urgent=True))
    assert queue.urgent
    assert handed_out(queue) == [C, A, B]
    assert not queue.urgent


def test_casync_gets_each_once() -> None:
    """casync asks for a chunk ahead, and urgently once it waits: it gets it once, whether that was sent or not."""
    queue = RequestQueue()
    queue.add(ChunkRequest((A, B, C)))
    assert queue.next() == A
    queue.add(ChunkRequest((A,), urgent=True))  # under way
    queue.add(ChunkRequest((C,), urgent=True))  # not yet
    assert handed_out(queue) == [C, B]


def test_who_asks_again_is_answered() -> None:
    """A chunk goes out as often as it was asked for at one urgency, where casync's server passes over all but one."""
    for urgent in (True, False):
        queue = RequestQueue()
        for _ in range(3):
            queue.add(ChunkRequest((A,), urgent))
            assert handed_out(queue) == [A]
        queue.add(ChunkRequest((B, B), urgent))
        assert handed_out(queue) == [B, B]


def test_no_more_than_there_is_room_for() -> None:
    """It says when nothing more should be read, and what it remembers of answered requests is bounded."""
    queue = RequestQueue()
    for block in range(40):
        ids = tuple(ChunkId(number.to_bytes(32, "big")) for number in range(block << 12, (block + 1) << 12))
        queue.add(ChunkRequest(ids))
        if block < 15:
            assert not queue.full
    assert queue.full
    assert len(handed_out(queue)) == 40 << 12
    assert not queue.full
    assert len(queue._balances) <= 1 << 16
