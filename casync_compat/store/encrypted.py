"""Chunk files that are encrypted, in any place of files: written so, read so or plain, under the names of plain ones.

A chunk store over this sees what it would see without: a file's name and content before encryption. Files that have no
name of a chunk - leases - pass as they are, and so do those encrypted with other keys. What is decrypted is no more
trusted than anything else in a store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from casync_compat.store.cipher import Cipher
from casync_compat.store.files import FileDamaged, Files, FileStatus, Listed, Version

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["EncryptedFiles", "Undecipherable"]

_CHUNK = re.compile(rb"(?:[0-9a-f]{4}/)?[0-9a-f]{64}(?:\.[^/]*)?")


class Undecipherable(FileDamaged):
    """A file is not what was encrypted with this key."""

    kind = "corrupt"


class EncryptedFiles(Files):
    """Chunk files as they were before encryption.

    :param inner: the place
    """

    def __init__(self, inner: Files, cipher: Cipher) -> None:
        self.inner = inner
        self.cipher = cipher
        self.can = inner.can
        self.near = inner.near
        self.eager = inner.eager
        self.paged = inner.paged

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def own_paths(self) -> tuple[bytes, ...]:
        return self.inner.own_paths

    @property
    def one_kernel(self) -> bool:
        return self.inner.one_kernel

    def expect(self, name: bytes) -> None:
        self.inner.expect(name)

    def _encrypted(self, name: bytes) -> bytes | None:
        """The name of the encrypted file; None for what is no chunk's."""
        return name + self.cipher.suffix if _CHUNK.fullmatch(name) else None

    def _plain(self, name: bytes, stored: bytes) -> bytes:
        content = self.cipher.decrypt(stored)
        if content is None:
            raise Undecipherable(
                name, self.name, f"it is not what was encrypted with the key {self.cipher.key_id}"
            )
        return content

    # ---- reading

    def read(self, name: bytes, limit: int) -> bytes | None:
        encrypted = self._encrypted(name)
        if encrypted is not None:
            stored = self.inner.read(encrypted, limit + self.cipher.overhead)
            if stored:
                return self._plain(encrypted, stored)
        return self.inner.read(name, limit)

    def read_many(self, wanted: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        return self.begin(wanted)()

    def begin(self, wanted: Sequence[tuple[bytes, int]]) -> Callable[[], list[bytes | None]]:
        names = [self._encrypted(name) or name for name, _ in wanted]
        overhead = self.cipher.overhead
        first = self.inner.begin(
            [(name, limit + overhead) for name, (_, limit) in zip(names, wanted, strict=True)]
        )
        return lambda: self._collected(wanted, names, first())

    def _collected(
        self, wanted: Sequence[tuple[bytes, int]], names: list[bytes], first: list[bytes | None]
    ) -> list[bytes | None]:
        found: list[bytes | None] = []
        left = []
        for number, (stored, name) in enumerate(zip(first, names, strict=True)):
            encrypted = name != wanted[number][0]
            if not stored and encrypted:
                left.append(number)
            found.append(self.cipher.decrypt(stored) if stored and encrypted else stored)
        others = self.inner.read_many([wanted[number] for number in left]) if left else ()
        for number, stored in zip(left, others, strict=True):
            found[number] = stored
        return found

    def read_range(self, name: bytes, offset: int, size: int) -> bytes | None:
        content = self._whole(name)
        return (
            self.inner.read_range(name, offset, size)
            if content is None
            else content[1][offset : offset + size]
        )

    def _whole(self, name: bytes) -> tuple[FileStatus, bytes] | None:
        """An encrypted file's status and content; None if there is none."""
        encrypted = self._encrypted(name)
        status = None if encrypted is None else self.inner.stat(encrypted)
        if encrypted is None or status is None:
            return None
        stored = self.inner.read(encrypted, max(status.size, 1))
        content = b"" if not stored else self._plain(encrypted, stored)
        return status._replace(size=len(content)), content

    def stat(self, name: bytes) -> FileStatus | None:
        encrypted = self._encrypted(name)
        status = None if encrypted is None else self.inner.stat(encrypted)
        if status is None:
            return self.inner.stat(name)
        return status._replace(size=max(0, status.size - self.cipher.overhead))

    def stat_many(self, names: Sequence[bytes]) -> list[FileStatus | None]:
        overhead = self.cipher.overhead
        found = self.inner.stat_many([self._encrypted(name) or name for name in names])
        left = [
            number
            for number, (name, status) in enumerate(zip(names, found, strict=True))
            if status is None and self._encrypted(name) is not None
        ]
        answers: list[FileStatus | None] = [
            status._replace(size=max(0, status.size - overhead))
            if status and self._encrypted(name)
            else status
            for name, status in zip(names, found, strict=True)
        ]
        others = self.inner.stat_many([names[number] for number in left]) if left else ()
        for number, status in zip(left, others, strict=True):
            answers[number] = status
        return answers

    def peek(self, name: bytes, size: int) -> tuple[FileStatus, bytes] | None:
        try:
            whole = self._whole(name)
        except Undecipherable:
            return FileStatus(0), b""  # which is no chunk, and is replaced
        return self.inner.peek(name, size) if whole is None else (whole[0], whole[1][:size])

    # ---- writing

    def write(
        self, name: bytes, data: ReadableBuffer, *, if_absent: bool = False, if_version: Version | None = None
    ) -> Version | None:
        encrypted = self._encrypted(name)
        if encrypted is None:
            return self.inner.write(name, data, if_absent=if_absent, if_version=if_version)
        return self.inner.write(encrypted, self._stored(data), if_absent=if_absent, if_version=if_version)

    def write_many(self, files: Sequence[tuple[bytes, ReadableBuffer]]) -> None:
        self.inner.write_many(
            [
                (name, data)
                if (encrypted := self._encrypted(name)) is None
                else (encrypted, self._stored(data))
                for name, data in files
            ]
        )

    def _stored(self, data: ReadableBuffer) -> bytes:
        return self.cipher.encrypt(bytes(memoryview(data)))

    def touch(self, name: bytes) -> bool:
        encrypted = self._encrypted(name)
        return (encrypted is not None and self.inner.touch(encrypted)) or self.inner.touch(name)

    def list(
        self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
    ) -> Iterator[Listed]:
        suffix, overhead = self.cipher.suffix, self.cipher.overhead
        last = b""
        for file in self.inner.list(prefix, under=under, details=details):
            bare = file.name.removesuffix(suffix)
            if bare != file.name and _CHUNK.fullmatch(bare):
                size = None if file.size is None else max(0, file.size - overhead)
                file = Listed(bare, size, file.modified)
            if file.name != last:
                yield file
            last = file.name

    def remove(self, name: bytes) -> int:
        encrypted = self._encrypted(name)
        return (0 if encrypted is None else self.inner.remove(encrypted)) + self.inner.remove(name)

    def remove_many(self, files: Sequence[Listed]) -> int:
        names = [
            name for file in files for name in (self._encrypted(file.name), file.name) if name is not None
        ]
        return self.inner.remove_many([Listed(name) for name in names])

    def sync(self, *, others: bool = False) -> None:
        self.inner.sync(others=others)

    def directories(self, under: re.Pattern[bytes]) -> int:
        return self.inner.directories(under)

    def clean(self, under: re.Pattern[bytes], before: int) -> int:
        return self.inner.clean(under, before)

    def close(self) -> None:
        self.inner.close()
