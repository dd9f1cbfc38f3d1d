"""Chunks that the other side has asked for, in the order in which they are to be answered. Sans-IO.

casync asks for what it will need, and again, urgently, for what it waits for; then the first request may have been
answered already, and the chunk be under way. Its own server therefore passes over every request for a chunk that it has
sent (`src/caremote.c`, `ca_remote_enqueue_request`), and whoever has lost one waits for ever. Here a chunk is sent as
often as it was asked for at either urgency, whichever is more: never twice to casync, and always to whoever asks again.

    >>> queue = RequestQueue()
    >>> queue.add(ChunkRequest((a, b)))
    >>> queue.add(ChunkRequest((b,), urgent=True))
    >>> queue.next(), queue.next(), queue.next()
    (b, a, None)
"""

from __future__ import annotations

from collections import OrderedDict

from casync_compat.ids import ChunkId
from casync_compat.protocol.messages import ChunkRequest

__all__ = ["RequestQueue"]

_REMEMBERED = 1 << 16
"""Chunks for which is known at which urgency they were asked for."""
_MOST = 1 << 16


class RequestQueue:
    """What was asked for, and not handed out.

    :ivar length: how many that are
    """

    def __init__(self) -> None:
        self.length = 0
        self._urgent: OrderedDict[ChunkId, int] = OrderedDict()
        self._others: OrderedDict[ChunkId, int] = OrderedDict()
        self._balances: OrderedDict[ChunkId, int] = OrderedDict()

    @property
    def full(self) -> bool:
        """Whether no more should be read from the other side until some are answered."""
        return self.length >= _MOST

    @property
    def urgent(self) -> bool:
        """Whether the next is waited for."""
        return bool(self._urgent)

    def add(self, request: ChunkRequest) -> None:
        """Take in what is asked for."""
        own, others = (self._urgent, self._others) if request.urgent else (self._others, self._urgent)
        step = 1 if request.urgent else -1
        for id in request.ids:
            balance = self._balances.pop(id, 0)
            self._remember(id, balance + step)
            if balance * step >= 0:  # asked for as often as at the other urgency, or more
                own[id] = own.get(id, 0) + 1
                self.length += 1
            elif request.urgent and id in others:  # it is in the queue, and now moves to the front
                self._drop(others, id)
                own[id] = own.get(id, 0) + 1

    def _remember(self, id: ChunkId, balance: int) -> None:
        if balance:
            self._balances[id] = balance
            if len(self._balances) > _REMEMBERED:
                self._balances.popitem(last=False)

    @staticmethod
    def _drop(queue: OrderedDict[ChunkId, int], id: ChunkId) -> None:
        queue[id] -= 1
        if not queue[id]:
            del queue[id]

    def next(self) -> ChunkId | None:
        """The chunk to send next; None when nothing is asked for."""
        queue = self._urgent or self._others
        if not queue:
            return None
        id = next(iter(queue))
        self._drop(queue, id)
        self.length -= 1
        return id
