"""What a file store remembers, in one SQLite file: contents by where they came from, and how a file was when right.

All of it can be found out again by hashing. So a cache that is damaged is thrown away and begun anew, one that cannot
be written is done without, and nothing in it is believed against the files themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from casync_compat.closing import Closing

if TYPE_CHECKING:
    import sqlite3

__all__ = ["FileCache", "Row", "Stamp"]

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS origins (origin BLOB PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    name BLOB PRIMARY KEY, content BLOB NOT NULL,
    inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime INTEGER NOT NULL, ctime INTEGER NOT NULL,
    seal BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_by_content ON files (content);
"""
_PENDING = 5000
_PATIENCE = 30.0
"""Seconds to wait for another process that is writing."""


class Stamp(NamedTuple):
    """What shows, short of reading it, that a file is as it was."""

    inode: int
    size: int
    mtime: int
    ctime: int


class Row(NamedTuple):
    """What is known of a file.

    :ivar seal: its fs-verity digest; empty when it has none
    """

    content: bytes
    stamp: Stamp
    seal: bytes


class FileCache(Closing):
    """The cache in a file. What is told to it is written now and then, and by `close`."""

    def __init__(self, path: bytes) -> None:
        import sqlite3  # lazily: checkouts alone need it

        self._errors = (sqlite3.DatabaseError, OverflowError)
        self._path = path
        self._files: dict[bytes, Row | None] = {}
        self._origins: dict[bytes, bytes] = {}
        self._names: dict[bytes, list[bytes]] = {}
        self._all_origins: dict[bytes, bytes] | None = None
        self._all_files: dict[bytes, tuple[Any, ...]] | None = None
        self._database: sqlite3.Connection | None = None
        for _ in range(2):
            try:
                self._database = sqlite3.connect(os.fsdecode(path), timeout=_PATIENCE, isolation_level=None)
                self._database.executescript(_SCHEMA)
                return
            except sqlite3.OperationalError:  # locked, or read-only: not its contents' fault
                self._drop()
                return
            except sqlite3.DatabaseError:
                self._drop()
                with suppress(OSError):
                    os.unlink(path)

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(*self._errors):
                database.close()

    def close(self) -> None:
        """Write what is pending."""
        self._write()
        self._drop()

    def _query(self, sql: str, value: bytes) -> list[tuple[bytes, ...]]:
        if self._database is None:
            return []
        try:
            return self._database.execute(sql, (value,)).fetchall()
        except self._errors:
            return []

    # Reading

    def read_all(self, most: int) -> None:
        """Read everything at once, for who asks for much of it, unless that are more than so many files."""
        if self._database is None:
            return
        try:
            ((count,),) = self._database.execute("SELECT count(*) FROM origins")
            if count > most:
                return
            self._all_origins = dict(self._database.execute("SELECT origin, content FROM origins"))
            rows = self._database.execute("SELECT name, content, inode, size, mtime, ctime, seal FROM files")
            self._all_files = {row[0]: row for row in rows}
        except self._errors:
            self._all_origins = self._all_files = None

    def known(self, origin: bytes) -> bytes | None:
        """The contents' digest for an origin."""
        found = self._origins.get(origin)
        if found is None and self._all_origins is not None:
            found = self._all_origins.get(origin)
        elif found is None:
            rows = self._query("SELECT content FROM origins WHERE origin = ?", origin)
            found = rows[0][0] if rows else None
        return found if isinstance(found, bytes) and len(found) == 32 else None

    def row(self, name: bytes) -> Row | None:
        """What is known of a file."""
        if name in self._files:
            return self._files[name]
        if self._all_files is not None:
            found = self._all_files.get(name)
        else:
            rows = self._query(
                "SELECT name, content, inode, size, mtime, ctime, seal FROM files WHERE name = ?", name
            )
            found = rows[0] if rows else None
        if found is None:
            return None
        _, content, inode, size, mtime, ctime, seal = found
        if (
            not type(inode) is type(size) is type(mtime) is type(ctime) is int
        ):  # SQLite takes any type anywhere
            return None
        return Row(content, Stamp(inode, size, mtime, ctime), seal)

    def names_of(self, content: bytes) -> Iterator[bytes]:
        """Files that have these contents, as far as is known."""
        names = [*self._names.get(content, ())]
        names += [
            name for (name,) in self._query("SELECT name FROM files WHERE content = ? LIMIT 8", content)
        ]
        yield from dict.fromkeys(name for name in names if isinstance(name, bytes))

    # Writing

    def learn(self, origin: bytes, content: bytes) -> None:
        """Contents of this origin have this digest."""
        self._origins[origin] = content
        if self._all_origins is not None:
            self._all_origins[origin] = content
        self._maybe_write()

    def remember(self, name: bytes, content: bytes, stamp: Stamp, seal: bytes) -> None:
        """A file was found right."""
        self._files[name] = Row(content, stamp, seal)
        if self._all_files is not None:
            self._all_files[name] = (name, content, *stamp, seal)
        self._names.setdefault(content, []).append(name)
        self._maybe_write()

    def forget(self, name: bytes) -> None:
        """A file is gone."""
        self._files[name] = None
        if self._all_files is not None:
            self._all_files.pop(name, None)

    def _maybe_write(self) -> None:
        if len(self._files) + len(self._origins) >= _PENDING:
            self._write()

    def _write(self) -> None:
        files, self._files = self._files, {}
        origins, self._origins = self._origins, {}
        self._names = {}
        database = self._database
        if database is None or not (files or origins):
            return
        gone = [(name,) for name, row in files.items() if row is None]
        there = [(name, row.content, *row.stamp, row.seal) for name, row in files.items() if row is not None]
        try:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM files WHERE name = ?", gone)
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", there)
            database.executemany("INSERT OR REPLACE INTO origins VALUES (?, ?)", list(origins.items()))
            database.execute("COMMIT")
        except self._errors:
            with suppress(*self._errors):
                database.execute("ROLLBACK")
