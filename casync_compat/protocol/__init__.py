"""casync's wire protocol (`src/caprotocol.h`, `src/caremote.c`), sans-IO: messages, and what may be said when.

What runs over a pipe or a connection is in `store`; nothing here reads, writes, waits or starts anything.
"""

from casync_compat.protocol.connection import Connection
from casync_compat.protocol.messages import (
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
from casync_compat.protocol.requests import RequestQueue

__all__ = [
    "Abort",
    "ArchiveEnd",
    "ArchivePart",
    "ChunkAbsent",
    "ChunkReply",
    "ChunkRequest",
    "Connection",
    "Farewell",
    "Hello",
    "IndexEnd",
    "IndexPart",
    "Message",
    "MessageReader",
    "RequestQueue",
    "Terms",
    "encode",
]
