"""A bucket that says of each request to it what it was and how it ended, to whoever listens through `logging`.

Keys and sizes are told, and of a failure what `objecterrors` makes of it; neither signatures nor what services say.
What obstore sends again by itself is one request here, which takes longer.

    >>> bucket = LoggedStore(obstore.store.MemoryStore(), "memory:/")
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError

from casync_compat.logs import Log
from casync_compat.store.objecterrors import failure

if TYPE_CHECKING:
    from obstore import Bytes, GetResult, ListResult, ObjectMeta, PutResult
    from obstore.store import ObjectStore

__all__ = ["LoggedStore"]

_LOG = Log(__name__)


class LoggedStore:
    """What `ObjectFiles` wants of a store of obstore's; its methods are obstore's, see there.

    :param store: the bucket
    :param where: the bucket as it may be shown, `s3://bucket`
    """

    def __init__(self, store: ObjectStore, where: str) -> None:
        self._store = store
        self._where = where

    @contextmanager
    def _told(self, method: str, key: str | None) -> Iterator[list[str]]:
        """Tell of a request when it has ended. Gives a list for what came of it: empty tells nothing."""
        begin = time.monotonic()
        said: list[str] = []
        try:
            yield said
        except FileNotFoundError:
            said.append("not there")
            raise
        except (BaseError, OSError) as error:
            found = failure("", "", error, "")
            said.append(found.why + (f" (HTTP {found.status})" if found.status else ""))
            raise
        finally:
            took = time.monotonic() - begin
            if said:
                what = ", ".join(said)
                _LOG.debug("%s %s/%s: %s, after %.3f s", method, self._where, key or "", what, took)

    def get(self, key: str) -> GetResult:
        with self._told("GET", key) as said:
            found = self._store.get(key)
            said.append(f"{found.meta['size']} bytes")
            return found

    async def get_async(self, key: str) -> GetResult:
        with self._told("GET", key) as said:
            found = await self._store.get_async(key)
            said.append(f"{found.meta['size']} bytes")
            return found

    def get_range(self, key: str, *, start: int, length: int) -> Bytes:
        with self._told("GET", key) as said:
            found = self._store.get_range(key, start=start, length=length)
            said.append(f"{len(found)} bytes at {start}")
            return found

    def head(self, key: str) -> ObjectMeta:
        with self._told("HEAD", key) as said:
            found = self._store.head(key)
            said.append(f"{found['size']} bytes")
            return found

    async def head_async(self, key: str) -> ObjectMeta:
        with self._told("HEAD", key) as said:
            found = await self._store.head_async(key)
            said.append(f"{found['size']} bytes")
            return found

    def put(self, key: str, content: memoryview, **how: Any) -> PutResult:
        with self._told("PUT", key) as said:
            done = self._store.put(key, content, **how)
            said.append(f"{content.nbytes} bytes")
            return done

    async def put_async(self, key: str, content: memoryview, **how: Any) -> PutResult:
        with self._told("PUT", key) as said:
            done = await self._store.put_async(key, content, **how)
            said.append(f"{content.nbytes} bytes")
            return done

    def delete(self, keys: str | Sequence[str]) -> None:
        more = "" if isinstance(keys, str) or len(keys) < 2 else f" and {len(keys) - 1} more"
        with self._told("DELETE", f"{keys if isinstance(keys, str) else keys[0]}{more}") as said:
            self._store.delete(keys)
            said.append("done")

    async def delete_async(self, key: str) -> None:
        with self._told("DELETE", key) as said:
            await self._store.delete_async(key)
            said.append("done")

    def list(self, prefix: str | None, *, chunk_size: int) -> Iterator[Sequence[ObjectMeta]]:
        pages = self._store.list(prefix, chunk_size=chunk_size)
        while True:
            with self._told("LIST", prefix) as said:
                page = next(pages, None)
                if page is not None:
                    said.append(f"{len(page)} objects")
            if page is None:
                return
            yield page

    def list_with_delimiter(self, prefix: str | None) -> ListResult[Sequence[ObjectMeta]]:
        with self._told("LIST", prefix) as said:
            found = self._store.list_with_delimiter(prefix)
            said.append(f"{len(found['objects'])} objects")
            return found
