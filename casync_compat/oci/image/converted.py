"""Which layers this user's program has converted itself: what lets a layer of a base be taken over unread.

    >>> memory = ConvertedLayers(b"/home/me/.cache/pycasync/layers")
    >>> memory.has(layer_key(config, options)) or convert_it_anew()

A base says that an index and a recipe make a layer of some diff id, and anybody who may write the tag can say so. What
is remembered here was made by this program from a tar that it had checked, so it need not believe the base.

A line of hexadecimal digits for each layer, in one file that only its owner can have written. It is a cache: a file
that cannot be read or written is done without. What this does not do: look at blobs.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from contextlib import suppress

from casync_compat.oci.image.convertlayer import LayerOptions
from casync_compat.oci.spec.descriptor import BlobDigest, canonical_json
from casync_compat.oci.spec.wrapper import LayerConfig

__all__ = ["ConvertedLayers", "layer_key", "source_key"]

_MOST = 100_000
"""Lines of the file, after which it is begun anew."""
_LINE = 65


def layer_key(config: LayerConfig, options: LayerOptions) -> str:
    """What stands for a layer converted in this way: all that is known of it but the blob that it was made from."""
    members = {name: value for name, value in config.to_json().items() if name != "source"}
    sizes = options.sizes
    made = [sizes.min, sizes.avg, sizes.max, options.digest.value, options.mtime, options.epoch]
    return hashlib.sha256(canonical_json([members, made])).hexdigest()


def source_key(blob: BlobDigest, diff_id: BlobDigest) -> str:
    """What stands for a layer blob that decompresses to a tar of this digest."""
    return hashlib.sha256(f"source {blob} {diff_id}".encode()).hexdigest()


class ConvertedLayers:
    """Remembers keys, in a file or only as long as it lives.

    :param path: the file, whose directory is made; None for none
    """

    def __init__(self, path: bytes | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keys: set[str] | None = None

    def has(self, key: str) -> bool:
        """Whether this was added, now or by an earlier run."""
        with self._lock:
            return key in self._known()

    def add(self, *keys: str) -> None:
        """Remember what was made or checked."""
        with self._lock:
            known = self._known()
            new = [key for key in keys if key not in known]
            known.update(new)
            if new and self._path is not None:
                with suppress(OSError):
                    self._append(self._path, "".join(f"{key}\n" for key in new).encode())

    def _known(self) -> set[str]:
        if self._keys is None:
            self._keys = set()
            if self._path is not None:
                with suppress(OSError, UnicodeDecodeError):
                    self._keys.update(self._read(self._path))
        return self._keys

    @staticmethod
    def _read(path: bytes) -> list[str]:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            seen = os.fstat(fd)
            # A line that somebody else wrote would be believed.
            if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
                return []
            data = file.read(_MOST * _LINE)
        return [line for line in data.decode("ascii").splitlines() if len(line) == _LINE - 1]

    @staticmethod
    def _append(path: bytes, data: bytes) -> None:
        os.makedirs(os.path.dirname(path) or b".", mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return
            if os.fstat(fd).st_size > (_MOST - 1000) * _LINE:
                os.ftruncate(fd, 0)
            os.write(fd, data)
        finally:
            os.close(fd)
