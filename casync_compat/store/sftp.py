"""Files on an SFTP server, through `ssh -s HOST sftp`: with the configuration, keys and agent that ssh has anyway.

Any server of version 3 will do. With OpenSSH's extensions a file takes the place of another at once
(`posix-rename@openssh.com`), and is durable after `sync` (`fsync@openssh.com`); without them, as well as the server
can. Dates have whole seconds, and there are no versions: nothing is written on a condition, and who reads an archive in
parts does not see that another of the same size took its place within a second.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from casync_compat.errors import RemoteError, UsageError
from casync_compat.logs import Log
from casync_compat.protocol.sftp import (
    Attributes,
    Open,
    PacketBody,
    PacketKind,
    Status,
    long,
    number,
    permissions,
    string,
)
from casync_compat.store.channel import Channel, Request, Server, SftpAnswer, Task, check, status_of
from casync_compat.store.files import Can, FileDamaged, Files, FileStatus, Listed, Version, check_name

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["SftpFiles"]

_R = TypeVar("_R")

_LOG = Log(__name__)
_PAUSES = (0.2, 2.0)
"""Seconds before another connection is made, where one broke."""

_TEMPORARY = re.compile(rb"(?s).*\.[0-9a-f]{16}\.tmp")
_FIRST = 64 << 10
"""Bytes of a file that are asked for before its size is known."""
_ROUND = 4 << 20
"""Bytes that are asked for at once."""
_DIRECTORIES = 64
"""Directories that are looked into at once."""
_NANOSECONDS = 10**9
_EMPTY = number(0)
"""No attributes."""

_Entry: TypeAlias = tuple[bytes, Attributes]
_Entries: TypeAlias = Sequence[Sequence[_Entry]]


class SftpFiles(Files):
    """The files in a directory, which the first `write` makes if it is not there.

    :param path: of the directory, there; empty for where one is after login
    :param name: of the place, for messages
    """

    can = Can.RANGE | Can.LIST | Can.WRITE | Can.DATES

    def __init__(self, server: Server, path: bytes, name: str) -> None:
        self._server = server
        self._path = path.rstrip(b"/") or (b"/" if path else b".")
        self._name = name
        self._lock = threading.Lock()
        self._unsynced: list[bytes] = []

    @property
    def name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def close(self) -> None:
        self._server.close()

    def _open(self) -> Channel:
        return self._server.channel()

    def _at(self, name: bytes) -> bytes:
        return self._path.rstrip(b"/") + b"/" + name if name else self._path

    def _run(self, op: str, tasks: Callable[[Channel], Iterable[Task[_R]]]) -> list[_R]:
        """Have tasks done: from the beginning, over another connection, where one breaks off.

        :param tasks: makes them
        """
        broke = False
        for pause in (*_PAUSES, None):
            try:
                channel = self._open()
            except RemoteError:
                if pause is None or not broke:
                    raise
            else:
                try:
                    return channel.run(tasks(channel), op)
                except RemoteError as error:
                    broke = self._server.drop(channel)
                    if pause is None or not broke:
                        raise
                    _LOG.info("%s; another connection is made in %.1f s", error, pause)
            time.sleep(pause)
        raise AssertionError

    # ---- reading

    def read(self, name: bytes, limit: int) -> bytes | None:
        op = f"read {_shown(name)}"
        return self._run(op, lambda channel: [self._whole(channel, name, limit, op)])[0]

    def read_many(self, wanted: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        op = f"read {len(wanted)} files"
        return self._run(
            op, lambda channel: (self._lenient(channel, name, limit, op) for name, limit in wanted)
        )

    def _lenient(self, channel: Channel, name: bytes, limit: int, op: str) -> Task[bytes | None]:
        try:
            return (yield from self._whole(channel, name, limit, op))
        except FileDamaged:
            return None

    def _whole(self, channel: Channel, name: bytes, limit: int, op: str) -> Task[bytes | None]:
        handle = yield from self._handle(PacketKind.OPEN, _opening(self._at(name), Open.READ), op)
        if handle is None:
            return None
        try:
            said, beginning = yield [
                (PacketKind.FSTAT, string(handle)),
                (
                    PacketKind.READ,
                    string(handle) + long(0) + number(min(_FIRST, limit + 1, channel.most_read)),
                ),
            ]
            known = check(said, PacketKind.ATTRS, self.name, op).attributes()
            if not known.is_file:
                return None
            data = self._data(beginning, op)
            size = len(data) if known.size is None else known.size
            if size > limit or len(data) > limit:
                raise FileDamaged(name, self.name, f"it has {size} bytes, more than the {limit} it may have")
            if len(data) < size:
                data += yield from self._range(channel, handle, len(data), size, op)
            return data
        finally:
            channel.post(PacketKind.CLOSE, string(handle))

    def _handle(self, kind: PacketKind, body: bytes, op: str) -> Task[bytes | None]:
        """An open file or directory; None where there is none."""
        (answer,) = yield [(kind, body)]
        if answer.kind is PacketKind.HANDLE:
            return answer.body.string()
        found = status_of(answer)
        if found is not None and found[0] == Status.NO_SUCH_FILE:
            return None
        raise RemoteError(self.name, op, found[1] if found and found[1] else "the server does not open it")

    def _data(self, answer: SftpAnswer, op: str) -> bytes:
        """What was read; nothing at the end."""
        if answer.kind is PacketKind.DATA:
            return answer.body.string()
        found = status_of(answer)
        if found is not None and found[0] == Status.EOF:
            return b""
        raise RemoteError(self.name, op, found[1] if found and found[1] else "the server does not give it")

    def _range(self, channel: Channel, handle: bytes, start: int, end: int, op: str) -> Task[bytes]:
        """A part of an open file, less at its end."""
        parts: list[bytes] = []
        step = channel.most_read
        while start < end:
            asked = [(at, min(step, end - at)) for at in range(start, min(end, start + _ROUND), step)]
            answers = yield [
                (PacketKind.READ, string(handle) + long(at) + number(size)) for at, size in asked
            ]
            for (_, size), answer in zip(asked, answers, strict=True):
                data = self._data(answer, op)
                if not data:
                    return b"".join(parts)
                parts.append(data)
                start += len(data)
                if len(data) < size:  # the server reads less at once
                    break
        return b"".join(parts)

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        op = f"read {_shown(name)}"
        return self._run(op, lambda channel: [self._part(channel, name, offset, size, op)])[0]

    def _part(self, channel: Channel, name: bytes, offset: int, size: int, op: str) -> Task[bytes | None]:
        handle = yield from self._handle(PacketKind.OPEN, _opening(self._at(name), Open.READ), op)
        if handle is None:
            return None
        try:
            return (yield from self._range(channel, handle, offset, offset + size, op))
        finally:
            channel.post(PacketKind.CLOSE, string(handle))

    def pieces(self, name: bytes) -> Iterator[bytes] | None:
        status = self.stat(name)
        return None if status is None else self._pieces(name, status.size)

    def _pieces(self, name: bytes, total: int) -> Iterator[bytes]:
        """One piece is read while the one before it is used."""
        channel, op = self._open(), f"read {_shown(name)}"
        starts = range(0, total, _ROUND)
        under_way = [channel.start([self._part(channel, name, at, _ROUND, op)]) for at in starts[:2]]
        for number_, at in enumerate(starts):
            (piece,) = channel.wait(under_way.pop(0), op)
            if number_ + 2 < len(starts):
                under_way.append(channel.start([self._part(channel, name, starts[number_ + 2], _ROUND, op)]))
            if piece is None or len(piece) != min(_ROUND, total - at):
                raise FileDamaged(name, self.name, "it became shorter while it was read")
            yield piece

    def stat(self, name: bytes) -> FileStatus | None:
        op = f"look for {_shown(name)}"
        (known,) = self._run(op, lambda channel: [self._attributes(name, op)])
        if known is None or not known.is_file:
            return None
        return FileStatus(known.size or 0, _nanoseconds(known))

    def _attributes(self, name: bytes, op: str) -> Task[Attributes | None]:
        (answer,) = yield [(PacketKind.STAT, string(self._at(name)))]
        return self._known(answer, op)

    def _known(self, answer: SftpAnswer, op: str) -> Attributes | None:
        if answer.kind is PacketKind.ATTRS:
            return answer.body.attributes()
        found = status_of(answer)
        if found is not None and found[0] == Status.NO_SUCH_FILE:
            return None
        raise RemoteError(self.name, op, found[1] if found and found[1] else "the server does not say")

    # ---- writing

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> None:
        if if_absent or if_version is not None:
            raise UsageError(f"{self.name}: an SFTP server cannot write on a condition")
        check_name(name)
        op = f"write {_shown(name)}"
        self._run(op, lambda channel: [self._replace(channel, name, memoryview(data).cast("B"), op)])
        with self._lock:
            self._unsynced.append(name)

    def _replace(self, channel: Channel, name: bytes, data: memoryview, op: str) -> Task[None]:
        target = self._at(name)
        temporary = b"%b.%b.tmp" % (target, os.urandom(8).hex().encode())
        body = _opening(temporary, Open.WRITE | Open.CREATE | Open.EXCLUSIVE)
        handle = None
        for _ in range(4):  # a directory may be taken away as soon as it was made
            handle = yield from self._handle(PacketKind.OPEN, body, op)
            if handle is not None:
                break
            yield from self._make_directories(name, op)
        if handle is None:
            raise RemoteError(self.name, op, "the directory is not there, and cannot be made")
        try:
            yield from self._fill(channel, handle, data, op)
            yield from self._rename(channel, temporary, target, op)
        except RemoteError:
            yield [(PacketKind.REMOVE, string(temporary))]
            raise

    def _fill(self, channel: Channel, handle: bytes, data: memoryview, op: str) -> Task[None]:
        step = channel.most_written
        for start in range(0, len(data) or 1, _ROUND):
            piece = data[start : start + _ROUND]
            requests: list[Request] = [
                (PacketKind.WRITE, string(handle) + long(start + at) + string(piece[at : at + step]))
                for at in range(0, len(piece), step)
            ]
            last = start + _ROUND >= len(data)
            answers = yield [*requests, (PacketKind.CLOSE, string(handle))] if last else requests
            for answer in answers:
                check(answer, PacketKind.STATUS, self.name, op)

    def _rename(self, channel: Channel, old: bytes, new: bytes, op: str) -> Task[None]:
        both = string(old) + string(new)
        if b"posix-rename@openssh.com" in channel.extensions:
            (answer,) = yield [(PacketKind.EXTENDED, string(b"posix-rename@openssh.com") + both)]
        else:  # version 3 has no way to replace a file at once
            answer, again = yield [(PacketKind.RENAME, both), (PacketKind.STAT, string(old))]
            if self._known(again, op) is not None:
                _, answer = yield [(PacketKind.REMOVE, string(new)), (PacketKind.RENAME, both)]
        check(answer, PacketKind.STATUS, self.name, op)

    def _make_directories(self, name: bytes, op: str) -> Task[None]:
        parts = name.split(b"/")[:-1]
        paths = [self._at(b"/".join(parts[:count])) for count in range(len(parts) + 1)]
        yield [(PacketKind.MKDIR, string(path) + permissions(0o777)) for path in paths]

    def remove(self, name: bytes) -> int:
        op = f"remove {_shown(name)}"
        channel = self._open()
        return channel.run([self._removed(channel, name, op)], op)[0]

    def remove_many(self, files: Sequence[Listed]) -> int:
        if not files:
            return 0
        channel, op = self._open(), "remove files"
        return sum(
            channel.run(
                [self._removed(channel, file.name, f"remove {_shown(file.name)}") for file in files], op
            )
        )

    def _removed(self, channel: Channel, name: bytes, op: str) -> Task[int]:
        path = string(self._at(name))
        before, gone = yield [(PacketKind.STAT, path), (PacketKind.REMOVE, path)]
        known = self._known(before, op)
        if known is None or not known.is_file:
            return 0
        check(gone, PacketKind.STATUS, self.name, op)
        directory = name.rpartition(b"/")[0]
        if directory:  # goes if it is empty
            channel.post(PacketKind.RMDIR, string(self._at(directory)))
        return known.size or 0

    def sync(self, *, others: bool = False) -> None:
        """Have the server write to the disk what was written here, if it can be told to; what others wrote it keeps."""
        with self._lock:
            names, self._unsynced = self._unsynced, []
        if not names:
            return
        channel, op = self._open(), "sync"
        if b"fsync@openssh.com" in channel.extensions:
            channel.run((self._synced(channel, name, op) for name in dict.fromkeys(names)), op)

    def _synced(self, channel: Channel, name: bytes, op: str) -> Task[None]:
        handle = yield from self._handle(PacketKind.OPEN, _opening(self._at(name), Open.READ), op)
        if handle is not None:  # else somebody has removed it
            answer, _ = yield [
                (PacketKind.EXTENDED, string(b"fsync@openssh.com") + string(handle)),
                (PacketKind.CLOSE, string(handle)),
            ]
            check(answer, PacketKind.STATUS, self.name, op)

    # ---- listing

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        for name, known in self._walk(prefix.rpartition(b"/")[0], None, under):
            if name.startswith(prefix):
                yield Listed(name, known.size, _nanoseconds(known)) if details else Listed(name)

    def _walk(
        self, directory: bytes, entries: Sequence[_Entry] | None, under: re.Pattern[bytes] | None
    ) -> Iterator[_Entry]:
        """The files beneath a directory in ascending order; several directories are looked into at a time."""
        if entries is None:
            (entries,) = self._entries([directory])
        wanted = under is None or under.fullmatch(directory) is not None
        inside = [
            name[:-1]
            for name, _ in entries
            if name.endswith(b"/") and (under is None or under.fullmatch(name[:-1]))
        ]
        places = {name: place for place, name in enumerate(inside)}
        ahead: dict[bytes, Sequence[_Entry]] = {}
        for name, known in entries:
            place = places.get(name[:-1]) if name.endswith(b"/") else None
            if place is not None:
                if name[:-1] not in ahead:
                    some = inside[place : place + _DIRECTORIES]
                    ahead.update(zip(some, self._entries(some), strict=True))
                yield from self._walk(name[:-1], ahead.pop(name[:-1]), under)
            elif wanted and not name.endswith(b"/"):
                yield name, known

    def _entries(self, directories: Sequence[bytes]) -> _Entries:
        op = "list the files"
        return self._run(
            op, lambda channel: (self._listed(channel, directory, op) for directory in directories)
        )

    def _listed(self, channel: Channel, directory: bytes, op: str) -> Task[Sequence[_Entry]]:
        """What is in a directory, with its name from here on, in order; directories have a slash at the end."""
        handle = yield from self._handle(PacketKind.OPENDIR, string(self._at(directory)), op)
        if handle is None:
            return []
        front = directory + b"/" if directory else b""
        found: list[_Entry] = []
        ended = False
        while not ended:
            for answer in (yield [(PacketKind.READDIR, string(handle))] * 2):
                if answer.kind is PacketKind.NAME:
                    found += ((front + name, known) for name, known in _names(answer.body))
                else:
                    self._data(answer, op)
                    ended = True
        channel.post(PacketKind.CLOSE, string(handle))
        found.sort(key=itemgetter(0))
        return found

    def directories(self, under: re.Pattern[bytes]) -> int:
        (entries,) = self._entries([b""])
        return sum(1 for name, _ in entries if name.endswith(b"/") and under.fullmatch(name[:-1]))

    def clean(self, under: re.Pattern[bytes], before: int) -> int:
        count = 0
        for listed in self.list(under=under):
            if _TEMPORARY.fullmatch(listed.name) and (listed.modified or before) < before:
                count += self.remove(listed.name) > 0
        return count


def _opening(path: bytes, how: Open) -> bytes:
    created = permissions(0o666) if Open.CREATE in how else _EMPTY
    return string(path) + number(how) + created


def _names(body: PacketBody) -> Iterator[_Entry]:
    for _ in range(body.number()):
        name = body.string()
        body.string()
        known = body.attributes()
        if name in (b".", b"..") or b"/" in name or not name:
            continue
        if known.is_directory:
            yield name + b"/", known
        elif known.is_file:
            yield name, known


def _nanoseconds(known: Attributes) -> int | None:
    return None if known.modified is None else known.modified * _NANOSECONDS


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")
