"""Files in an object store - S3 and what speaks like it, Google Cloud Storage, Azure - by obstore, an optional library.

An object appears whole or not at all, and is durable when the service has answered. Which service, with whose
credentials, is not known here (`locations.clouds`), nor are the keys of objects: they are names below a prefix. What
services say of a failure is told by its code alone, since the rest may hold signatures.

    >>> files = ObjectFiles(obstore.store.MemoryStore(), "memory://")
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PreconditionError,
)

from casync_compat.errors import RemoteError, UsageError
from casync_compat.logs import Log
from casync_compat.store.files import (
    ONLY_HERE,
    Can,
    FileChanged,
    FileDamaged,
    Files,
    FileStatus,
    Listed,
    Version,
    check_name,
)
from casync_compat.store.objecterrors import failure, may_be_past_the_end, reasoned

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from obstore import GetResult, ObjectMeta, PutMode, PutResult
    from obstore.store import ObjectStore

__all__ = ["EVERYTHING", "Ahead", "ObjectFiles"]

_LOG = Log(__name__)

A = TypeVar("A")
R = TypeVar("R")

Ahead: TypeAlias = Callable[[Sequence[tuple[str, int, int | None]]], Callable[[], list[tuple[int, bytes]]]]
"""Asks for objects at once: by key, the most bytes, and the offset of a part or None for all. What it returns waits for
the HTTP status and the content of each; a status that says neither here nor gone is for another look."""

EVERYTHING = Can.RANGE | Can.LIST | Can.WRITE | Can.SWAP | Can.DATES
"""What S3, Google Cloud Storage and Azure can do."""

_AT_ONCE = 32
"""Objects of one `read_many` that are under way."""

_PAUSES = (0.2, 0.6, 1.8, 5.0)
"""Seconds before a conditional write is tried again."""

_PAGE = 1000
_PIECE = 1 << 20
_LARGE = 64 << 20
"""Bytes above which an object is sent in parts."""
_PART = 16 << 20

_WINDOW = 1000
"""Names of a listing that are put in order. Services list in order of the whole key; SeaweedFS in that of directories
and names, so that `ab/c` comes before `ab.y` (observed with 4.48)."""


class ObjectFiles(Files):
    """Objects whose keys begin with a prefix.

    :param store: the bucket
    :param name: what messages call the place
    :param prefix: of all keys, without the `/` that follows it; empty for none
    :param once: the same bucket, reached without retries, for conditional writes: of those, a second one fails where
        the first succeeded but its answer was lost
    :param by_generation: whether the service compares generations, and not entity tags, in conditional writes
    :param can: what the service can do
    :param login: what is to be done where nobody says who we are
    :param ahead: asks for many objects at once, where the service lets us
    """

    paged = True
    name: str = ""

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        prefix: str = "",
        *,
        once: ObjectStore | None = None,
        by_generation: bool = False,
        can: Can = EVERYTHING,
        login: str = "",
        ahead: Ahead | None = None,
    ) -> None:
        self.name = name
        self.eager = ahead is not None
        self._ahead = ahead
        self.can = can
        self._store = store
        self._once = once or store
        self._prefix = f"{prefix}/" if prefix else ""
        self._login = login
        self._pages_go = True
        self._tag = "version" if by_generation else "e_tag"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _key(self, name: bytes) -> str:
        try:
            return self._prefix + check_name(name).decode()
        except UnicodeDecodeError:
            raise UsageError(f"{self.name}: the name {name!r} is not UTF-8, as it must be here") from None

    def _failed(self, op: str, error: Exception) -> RemoteError:
        return failure(self.name, op, error, self._login)

    # ---- reading

    def read(self, name: bytes, limit: int) -> bytes | None:
        try:
            found = self._store.get(self._key(name))
            self._check_size(name, found, limit)
            return bytes(found.bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed(f"read {_shown(name)}", error) from None

    def _check_size(self, name: bytes, found: GetResult, limit: int) -> None:
        size = found.meta["size"]
        if size > limit:
            raise FileDamaged(name, self.name, f"it has {size} bytes, more than the {limit} it may have")

    def read_many(self, wanted: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        if len(wanted) < 2 or _in_a_loop():
            return super().read_many(wanted)
        return asyncio.run(_together(self._read_one, wanted))

    def begin(self, wanted: Sequence[tuple[bytes, int]]) -> Callable[[], list[bytes | None]]:
        if self._ahead is None or not wanted:
            return super().begin(wanted)
        answers = self._ahead([(self._key(name), limit, None) for name, limit in wanted])
        return lambda: [
            content if status == 200 else None if status == 404 else self._looked_at(name, limit)
            for (status, content), (name, limit) in zip(answers(), wanted, strict=True)
        ]

    def _looked_at(self, name: bytes, limit: int) -> bytes | None:
        try:
            return self.read(name, limit)
        except FileDamaged:
            return None

    def begin_ranges(self, wanted: Sequence[tuple[bytes, int, int]]) -> Callable[[], list[bytes | None]]:
        if self._ahead is None or not wanted:
            return super().begin_ranges(wanted)
        answers = self._ahead([(self._key(name), size, offset) for name, offset, size in wanted])
        return lambda: [
            content if status == 206 else self.read_range(name, offset, size)
            for (status, content), (name, offset, size) in zip(answers(), wanted, strict=True)
        ]

    async def _read_one(self, wanted: tuple[bytes, int]) -> bytes | None:
        name, limit = wanted
        try:
            found = await self._store.get_async(self._key(name))
            self._check_size(name, found, limit)
            return bytes(await found.bytes_async())
        except (FileNotFoundError, FileDamaged):
            return None
        except (BaseError, OSError) as error:
            raise self._failed(f"read {_shown(name)}", error) from None

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        if size <= 0:
            return b""
        try:
            return bytes(self._store.get_range(self._key(name), start=offset, length=size))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            failure = self._failed(f"read {_shown(name)}", error)
            if may_be_past_the_end(failure):
                status = self.stat(name)
                if status is None or offset >= status.size:
                    return None if status is None else b""
            raise failure from None

    def pieces(self, name: bytes) -> Iterator[bytes] | None:
        try:
            found = self._store.get(self._key(name))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed(f"read {_shown(name)}", error) from None
        return self._pieces(name, found)

    def _pieces(self, name: bytes, found: GetResult) -> Iterator[bytes]:
        try:
            for piece in found.stream(min_chunk_size=_PIECE):
                yield bytes(piece)
        except (BaseError, OSError) as error:
            raise self._failed(f"read {_shown(name)}", error) from None

    def stat(self, name: bytes) -> FileStatus | None:
        key = self._key(name)
        try:
            return self._status(self._store.head(key))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed(f"look for {_shown(name)}", reasoned(self._store, key, error)) from None

    def stat_many(self, names: Sequence[bytes]) -> list[FileStatus | None]:
        if len(names) < 2 or _in_a_loop():
            return super().stat_many(names)
        return asyncio.run(_together(self._stat_one, names))

    async def _stat_one(self, name: bytes) -> FileStatus | None:
        try:
            return self._status(await self._store.head_async(self._key(name)))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed(f"look for {_shown(name)}", error) from None

    def _status(self, meta: ObjectMeta) -> FileStatus:
        modified = _nanoseconds(meta["last_modified"])
        return FileStatus(meta["size"], modified, self._version(meta), modified)

    def _version(self, said: ObjectMeta | PutResult) -> Version | None:
        version: str | None = said.get(self._tag)  # type: ignore[assignment]
        return version

    # ---- writing

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version | None:
        key, content = self._key(name), memoryview(data).cast("B")
        if if_absent or if_version is not None:
            return self._swap(name, key, content, if_version)
        large = content.nbytes > _LARGE
        try:
            return self._version(self._store.put(key, content, use_multipart=large, chunk_size=_PART))
        except (BaseError, OSError) as error:
            raise self._failed(f"write {_shown(name)}", error) from None

    def write_many(self, files: Sequence[tuple[bytes, ReadableBuffer]]) -> None:
        large = any(memoryview(data).nbytes > _PART for _, data in files)
        if len(files) < 2 or large or _in_a_loop():
            super().write_many(files)
        else:
            asyncio.run(_together(self._write_one, files))

    async def _write_one(self, file: tuple[bytes, ReadableBuffer]) -> None:
        name, data = file
        content = memoryview(data).cast("B")
        try:
            await self._store.put_async(self._key(name), content, use_multipart=False)
        except (BaseError, OSError) as error:
            raise self._failed(f"write {_shown(name)}", error) from None

    def _swap(self, name: bytes, key: str, content: memoryview, version: Version | None) -> Version | None:
        """Write on the condition that there is this version, or none."""
        if Can.SWAP not in self.can:
            raise UsageError(f"{self.name}: files cannot be written on a condition here")
        mode: Any = "create" if version is None else {self._tag: version}
        unclear = False
        for pause in (*_PAUSES, None):
            try:
                return self._version(self._put_once(key, content, mode))
            except (AlreadyExistsError, PreconditionError):
                if unclear and self._holds(name, content):  # an earlier try did it
                    status = self.stat(name)
                    return None if status is None else status.version
                raise FileChanged(name, self.name) from None
            except FileNotFoundError as error:
                if version is not None:  # some services say so of a version of what is not there
                    raise FileChanged(name, self.name) from None
                raise self._failed(f"write {_shown(name)}", error) from None
            except (BaseError, OSError) as error:
                failure = self._failed(f"write {_shown(name)}", error)
                if pause is None or not (failure.status in (0, 408, 409, 429) or failure.status >= 500):
                    raise failure from None
                unclear = unclear or failure.status not in (409, 429)
                _LOG.info("%s; it is tried again in %.1f s", failure, pause)
                time.sleep(pause)
        raise AssertionError

    def _holds(self, name: bytes, content: memoryview) -> bool:
        try:
            return self.read(name, content.nbytes) == bytes(content)
        except FileDamaged:
            return False

    def _put_once(self, key: str, content: memoryview, mode: PutMode) -> PutResult:
        return self._once.put(key, content, mode=mode, use_multipart=False)

    def remove(self, name: bytes) -> int:
        status = self.stat(name)
        if status is None:
            return 0
        try:
            self._store.delete(self._key(name))
        except FileNotFoundError:
            return 0
        except (BaseError, OSError) as error:
            raise self._failed(f"remove {_shown(name)}", error) from None
        return status.size

    def remove_many(self, files: Sequence[Listed]) -> int:
        if len(files) < 2 or _in_a_loop():
            return super().remove_many(files)
        unknown = [file.name for file in files if file.size is None]
        sizes = {file.name: file.size for file in files if file.size is not None}
        sizes |= {name: was.size for name, was in zip(unknown, self.stat_many(unknown), strict=True) if was}
        names = list(sizes)
        for start in range(0, len(names), _PAGE):
            self._remove_page(names[start : start + _PAGE])
        return sum(sizes.values())

    def _remove_page(self, names: Sequence[bytes]) -> None:
        """Remove so many objects that one request can, where the service takes one; else each by its own."""
        if self._pages_go:
            try:
                self._once.delete([self._key(name) for name in names])
                return
            except FileNotFoundError:  # one has gone already; those behind it may still be there
                pass
            except (BaseError, OSError):  # by a service that does not know it, say; or of one of them
                self._pages_go = False
        asyncio.run(_together(self._remove_one, names))

    async def _remove_one(self, name: bytes) -> None:
        try:
            await self._store.delete_async(self._key(name))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._failed(f"remove {_shown(name)}", error) from None

    def sync(self, *, others: bool = False) -> None:
        """Does nothing: a service that has answered keeps what it was given."""

    # ---- listing

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        last = b""
        waiting: list[Listed] = []
        for page in self._here() if under is ONLY_HERE else self._pages(prefix):
            waiting += [
                file
                for file in page
                if file.name.startswith(prefix)
                and (under is None or under.fullmatch(file.name.rpartition(b"/")[0]))
            ]
            if len(waiting) >= 2 * _WINDOW:
                waiting.sort(key=itemgetter(0))
                if waiting[0].name < last:
                    raise RemoteError(self.name, "list the files", "the service gives them in no order")
                yield from waiting[:_WINDOW]
                last = waiting[_WINDOW - 1].name
                del waiting[:_WINDOW]
        waiting.sort(key=itemgetter(0))
        yield from waiting

    def _here(self) -> Iterator[Sequence[Listed]]:
        """The objects in no directory, without those in others being listed, too."""
        cut = len(self._prefix)
        try:
            found = self._store.list_with_delimiter(self._prefix.rstrip("/") or None)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._failed("list the files", error) from None
        yield [self._listed(one, cut) for one in found["objects"]]

    @staticmethod
    def _listed(one: ObjectMeta, cut: int) -> Listed:
        return Listed(one["path"][cut:].encode(), one["size"], _nanoseconds(one["last_modified"]))

    def _pages(self, prefix: bytes) -> Iterator[Sequence[Listed]]:
        """All objects in the directory that `prefix` is in, and below."""
        directory, slash, _ = prefix.rpartition(b"/")
        where = self._key(directory) if slash else self._prefix.rstrip("/")
        cut = len(self._prefix)
        try:
            for page in self._store.list(where or None, chunk_size=_PAGE):
                yield [self._listed(one, cut) for one in page]
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self._failed("list the files", error) from None

    def close(self) -> None:
        """Connections are obstore's, and live as long as the place."""


async def _together(call: Callable[[A], Awaitable[R]], given: Sequence[A]) -> list[R]:
    """What a call gives for each, a few at a time. The first error ends all."""
    found: dict[int, R] = {}
    left = iter(enumerate(given))

    async def take() -> None:
        for number, one in left:
            found[number] = await call(one)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_AT_ONCE, len(given))):
                group.create_task(take())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [found[number] for number in range(len(given))]


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _shown(name: bytes) -> str:
    return name.decode(errors="replace")


def _nanoseconds(date: datetime) -> int:
    return int(date.timestamp()) * 10**9 + date.microsecond * 1000
