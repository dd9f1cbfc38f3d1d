"""Metadata images of a store of files, kept so that an image that was mounted before is mounted again at once.

    roots/<64 digits>.erofs     what the kernel mounts
    roots/<64 digits>.list      what is said about it, and the files of the store that it leads to, each as it was

    >>> roots = KeptRoots(b"/srv/files")
    >>> found = roots.find(key)                 # None where anything is not as it was
    >>> roots.keep(key, temporary, root)        # takes the file

A key stands for all that the image depends on. Both files may be deleted at any time, which costs time and nothing
else; those that nobody has mounted for a month are. A root is only found when its image has the digest that it had, and
every file that it leads to is, by inode number, size and times, the one that was found right when it was made.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from casync_compat.oci.rootfs.filecache import Stamp
from casync_compat.oci.rootfs.mergedtree import Inode
from casync_compat.oci.rootfs.shared import FILES, stamp_of

__all__ = ["KeptRoot", "KeptRoots"]

_ROOTS = b"roots"
_MONTH = 30 * 86400
_STAMP = struct.Struct("=QQqq")
_ROW = 32 + _STAMP.size
_HEAD_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class KeptRoot:
    """What is known of a metadata image.

    :ivar entries: names in the tree
    :ivar size: bytes of its files, without holes
    :ivar metadata: bytes of the image
    :ivar digest: its SHA-256, as digits
    :ivar verity: whether the kernel is to check the files
    :ivar root: metadata of the top directory
    :ivar files: what it leads to, by name within `files`
    """

    entries: int
    size: int
    metadata: int
    digest: str
    verity: bool
    root: Inode
    files: Mapping[bytes, Stamp]


class KeptRoots:
    """Those of one store.

    :param store: its directory
    :param now: the time, in seconds since the epoch
    """

    def __init__(self, store: bytes, now: float | None = None) -> None:
        self._store = store
        self._directory = os.path.join(store, _ROOTS)
        self._now = time.time() if now is None else now

    def image(self, key: str) -> bytes:
        """The path of an image."""
        return os.path.join(self._directory, key.encode() + b".erofs")

    def find(self, key: str) -> KeptRoot | None:
        """What was kept, if it is still right."""
        try:
            found = self._read(key)
        except (OSError, ValueError, LookupError, TypeError, struct.error):
            return None
        with suppress(OSError):
            os.utime(self._list(key), (self._now, self._now))
        return found

    def keep(self, key: str, image: bytes, root: KeptRoot) -> None:
        """Keep an image, as far as that can be: no error is one of whoever mounts.

        :param image: path of its file, in the store, which gets another name
        """
        with suppress(OSError):
            os.makedirs(self._directory, 0o700, exist_ok=True)
            self._tidy()
            top = root.root
            head = {
                "entries": root.entries,
                "size": root.size,
                "metadata": root.metadata,
                "digest": root.digest,
                "verity": root.verity,
                "root": [top.kind, top.mode, top.uid, top.gid, top.mtime],
                "xattrs": [[name.hex(), value.hex()] for name, value in top.xattrs],
            }
            rows = b"".join(
                bytes.fromhex(name.replace(b"/", b"").decode()) + _STAMP.pack(*stamp)
                for name, stamp in sorted(root.files.items())
            )
            head["rows"] = hashlib.sha256(rows).hexdigest()
            temporary = image + b".list"
            try:
                with open(temporary, "xb") as out:
                    out.write(json.dumps(head).encode() + b"\n" + rows)
                os.rename(image, self.image(key))
                os.rename(temporary, self._list(key))
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)

    def _list(self, key: str) -> bytes:
        return os.path.join(self._directory, key.encode() + b".list")

    def _tidy(self) -> None:
        with os.scandir(self._directory) as entries:
            old = [
                entry.path for entry in entries
                if entry.name.endswith(b".list") and entry.stat().st_mtime < self._now - _MONTH
            ]  # fmt: skip
        for path in old:
            for each in (path, path.removesuffix(b".list") + b".erofs"):
                with suppress(FileNotFoundError):
                    os.unlink(each)

    def _read(self, key: str) -> KeptRoot:
        """:raises OSError, ValueError, LookupError, TypeError: there is none, or it is not right"""
        with open(self._list(key), "rb") as file:
            head = json.loads(file.readline(_HEAD_LIMIT))
            rows = file.read()
        if hashlib.sha256(rows).hexdigest() != head["rows"] or len(rows) % _ROW:
            raise ValueError("the list is damaged")
        with open(self.image(key), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != head["digest"]:
                raise ValueError("the image is damaged")
        files = self._compared(rows)
        kind, mode, uid, gid, mtime = head["root"]
        xattrs = tuple((bytes.fromhex(name), bytes.fromhex(value)) for name, value in head["xattrs"])
        return KeptRoot(
            head["entries"],
            head["size"],
            head["metadata"],
            head["digest"],
            head["verity"],
            Inode(kind, mode, uid, gid, mtime, xattrs),
            files,
        )

    def _compared(self, rows: bytes) -> dict[bytes, Stamp]:
        """The files of a list. :raises ValueError: one is not as it was"""
        found: dict[bytes, Stamp] = {}
        directory = os.open(os.path.join(self._store, FILES), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for at in range(0, len(rows), _ROW):
                digits = rows[at : at + 32].hex()
                name = f"{digits[:2]}/{digits[2:]}".encode()
                stamp = stamp_of(os.stat(name, dir_fd=directory, follow_symlinks=False))
                if _STAMP.pack(*stamp) != rows[at + 32 : at + _ROW]:
                    raise ValueError("a file of the store is another now")
                found[name] = stamp
        finally:
            os.close(directory)
        return found
