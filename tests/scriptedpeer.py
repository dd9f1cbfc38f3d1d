"""A casync at the other end that does as it is told, run as a program in place of ssh.

    scriptedpeer.py [-p PORT] FAULT casync pull|push - ARCHIVE INDEX STORE

FAULT, where ssh has a host, says what it does wrong; `well` is nothing. Stores are directories of files named by id.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from casync_compat.ids import ChunkId
from casync_compat.protocol import (
    Abort,
    ArchiveEnd,
    ArchivePart,
    ChunkAbsent,
    ChunkReply,
    ChunkRequest,
    Connection,
    Farewell,
    IndexEnd,
    IndexPart,
    Message,
    Terms,
    encode,
)

ZSTD = b"\x28\xb5\x2f\xfd"


class Peer:
    """One run."""

    def __init__(self, fault: str, terms: Terms) -> None:
        self.fault = fault
        self.connection = Connection(terms)
        if fault == "banner":
            os.write(1, b"Welcome to example.org\r\nLast login: Monday\r\n")
        if fault == "mute":
            time.sleep(600)
        if fault == "other-terms":
            self.connection = Connection(Terms.WRITABLE_ARCHIVE)
        self.say(self.connection.hello)
        self.chunks = 0
        self.sent: set[ChunkId] = set()

    def say(self, message: Message) -> None:
        data = self.connection.send(message)
        while data:
            data = data[os.write(1, data) :]

    def hear(self) -> Message | None:
        while (message := self.connection.next_message()) is None:
            if self.connection.ended:
                return None
            self.connection.receive(os.read(0, 1 << 16))
        return message

    def pull(self, archive: str, index: str, store: str) -> None:
        self.hear()
        if self.fault == "abort":
            self.say(Abort(5, b"the disk is on fire"))
            return
        for path, part, end in ((archive, ArchivePart, ArchiveEnd), (index, IndexPart, IndexEnd)):
            if path != "-":
                self.parts(path, part)
                self.say(end())
        while (message := self.hear()) is not None:
            if isinstance(message, ChunkRequest):
                for id in message.ids:
                    self.chunk(id, Path(store) / str(id))

    def parts(self, path: str, part: type[IndexPart | ArchivePart]) -> None:
        if not os.path.exists(path):
            os.write(2, b"Failed to process remote: No such file or directory\n")
            raise SystemExit(1)
        data = Path(path).read_bytes()
        while self.fault == "endless":
            self.say(part(bytes(1 << 20)))
        if self.fault == "cut":
            self.say(part(data[: len(data) // 2]))
            os.write(2, b"warn\x1bing\nout of memory\n")
            raise SystemExit(9)
        for at in range(0, len(data), 1000):
            self.say(part(data[at : at + 1000]))

    def chunk(self, id: ChunkId, path: Path) -> None:
        if id in self.sent:  # as casync does
            return
        self.sent.add(id)
        self.chunks += 1
        if self.fault == "stall":
            time.sleep(600)
        if self.fault == "die" and self.chunks > 2:
            raise SystemExit(3)
        if self.fault == "kill" and self.chunks > 2:
            os.kill(os.getpid(), 9)
        if self.fault == "half":
            os.write(1, encode(ChunkReply(id, b"half of it", compressed=False))[:60])
            raise SystemExit(0)
        if self.fault == "unasked":
            os.write(1, encode(ChunkReply(ChunkId(b"?" * 32), b"x", compressed=False)))
        if self.fault == "huge":
            self.say(ChunkReply(id, bytes(8 << 20), compressed=False))
        elif not path.exists():
            self.say(ChunkAbsent(id))
        else:
            data = path.read_bytes()
            self.say(ChunkReply(id, data, compressed=data.startswith(ZSTD)))

    def push(self, archive: str, index: str, store: str) -> None:
        target, data, ids = (archive if index == "-" else index), b"", []
        while (message := self.hear()) is not None:
            if isinstance(message, (IndexPart, ArchivePart)):
                data += message.data
            if isinstance(message, (IndexEnd, ArchiveEnd)):
                break
        if store != "-":
            ids = [ChunkId(data[at + 8 : at + 40]) for at in range(64, len(data) - 40, 40)]
            os.makedirs(store, exist_ok=True)
            ids = [id for id in dict.fromkeys(ids) if not (Path(store) / str(id)).exists()]
        if self.fault == "goodbye-at-once":
            self.say(Farewell())
            return
        if self.fault == "asks-for-more":
            self.say(ChunkRequest((ChunkId(b"?" * 32),)))
        if ids:
            self.say(ChunkRequest(tuple(ids)))
        while ids:
            message = self.hear()
            if not isinstance(message, ChunkReply):
                raise SystemExit(1)
            if self.fault != "drops":
                (Path(store) / str(message.id)).write_bytes(message.data)
            ids.remove(message.id)
        if self.fault != "forgets-the-index":
            Path(target).write_bytes(data)
        self.say(Farewell())
        if self.fault == "fails-late":
            os.write(2, b"Failed to install: No space left on device\n")
            raise SystemExit(1)


def main() -> None:
    """Run it."""
    words = sys.argv[1:]
    if words[0] == "-p":
        words = words[2:]
    fault, casync, verb, base, archive, index, store = words
    assert (casync, base) == ("casync", "-")
    if fault == "unreachable":
        os.write(2, b"ssh: connect to host unreachable port 22: Connection refused\r\n")
        raise SystemExit(255)
    if fault == "no-casync":
        os.write(2, b"bash: line 1: casync: command not found\n")
        raise SystemExit(127)
    read = verb == "pull"
    given = [
        (archive, Terms.READABLE_ARCHIVE if read else Terms.WRITABLE_ARCHIVE),
        (index, Terms.READABLE_INDEX if read else Terms.WRITABLE_INDEX),
        (store, Terms.READABLE_STORE if read else Terms.WRITABLE_STORE),
    ]
    peer = Peer(fault, Terms(sum(term for path, term in given if path != "-")))
    (peer.pull if read else peer.push)(archive, index, store)


if __name__ == "__main__":
    main()
