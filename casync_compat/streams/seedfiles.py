"""Files that are named as seeds: a stream as it is, an index with the file that it describes, a directory of such.

    disk.img            a file or block device: it is read and cut as the index that is extracted was
    disk.img.caibx      the chunks of disk.img, which lies beside it: nothing need be read before it is used
    tree.caidx          the same of tree.catar
    a.caibx:/dev/sda2   the same, where the file has another name
    versions/           for a blob: every .caibx in it with its file beside (a directory for archives is `treeseed`'s)

What a file was cut into is remembered, so that the next run need not read it again; an index and what is remembered are
believed only as far as that a chunk may be there, since each is checked when it is used.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from contextlib import suppress

from casync_compat.errors import CasyncError, FileError
from casync_compat.fs.atomic import AtomicFile
from casync_compat.index import Index
from casync_compat.streams.inputs import load_index
from casync_compat.streams.seeds import BlobSeed

__all__ = ["SeedCache", "file_seeds", "is_file_seed", "seed_paths", "split_seed"]

_INDEX = re.compile(rb"(.+\.ca[ib][bd]x)(?::(.+))?", re.DOTALL)
_SUFFIXES = {b".caibx": b"", b".caidx": b".catar"}
_MOST = 64


def split_seed(name: bytes) -> tuple[bytes, bytes] | None:
    """The index and the file that a seed's name stands for; None where it is the name of something else."""
    match = _INDEX.fullmatch(name)
    if match is None or match[1][-6:] not in _SUFFIXES:
        return None
    return match[1], match[2] or match[1][:-6] + _SUFFIXES[match[1][-6:]]


def seed_paths(name: bytes) -> tuple[bytes, ...]:
    """The paths of what a seed's name stands for."""
    return split_seed(name) or (name,)


def is_file_seed(name: bytes) -> bool:
    """Whether it can be a seed for an archive though it is no directory: an index, or an archive."""
    return split_seed(name) is not None or name.endswith(b".catar")


class SeedCache:
    """Remembers what files were cut into, by their identity.

    :param directory: where, made when it is needed; None remembers nothing
    :param look: only what is there is used
    """

    def __init__(self, directory: bytes | None, *, look: bool = False) -> None:
        self._directory = directory
        self._look = look

    def _path(self, st: os.stat_result, index: Index) -> bytes | None:
        if self._directory is None or not stat.S_ISREG(st.st_mode):
            return None  # nothing tells that a device was written to
        sizes = index.sizes
        known = (
            st.st_dev,
            st.st_ino,
            st.st_size,
            st.st_mtime_ns,
            st.st_ctime_ns,
            sizes.min,
            sizes.avg,
            sizes.max,
        )
        text = " ".join(map(str, (*known, index.digest.value)))
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return os.path.join(self._directory, name.encode() + b".caibx")

    def find(self, st: os.stat_result, index: Index) -> Index | None:
        """What a file was cut into, None when nobody knows.

        :param index: says how
        """
        path = self._path(st, index)
        try:
            found = None if path is None else Index.load(path)
        except CasyncError:
            return None
        if path is not None and found is not None and not self._look:
            with suppress(OSError):
                os.utime(path)  # those that are used stay
        return found if found is not None and found.size == st.st_size else None

    def add(self, st: os.stat_result, index: Index, cut: Index) -> None:
        """Remember it, as far as that can be done."""
        path = self._path(st, index)
        if path is None or self._directory is None or self._look:
            return
        with suppress(OSError, CasyncError):
            os.makedirs(self._directory, 0o700, exist_ok=True)
            with AtomicFile(path, 0o600) as out:
                out.write(cut.to_bytes())
            self._shrink(self._directory)

    def _shrink(self, directory: bytes) -> None:
        with os.scandir(directory) as entries:
            files = sorted((each.stat().st_mtime_ns, each.path) for each in entries if each.is_file())
        for _, path in files[:-_MOST]:
            os.unlink(path)


def file_seeds(name: bytes, index: Index, *, jobs: int | None, cache: SeedCache) -> list[BlobSeed]:
    """What a name of files stands for, as seeds.

    :param index: the index that is going to be extracted
    :raises CasyncError: it is none
    """
    pair = None if os.path.isdir(name) else split_seed(name)
    if pair is not None:
        return [_with_index(*pair, index)]
    if os.path.isdir(name):
        return _in_directory(name, index)
    try:
        before = os.stat(name)
    except OSError as error:
        raise FileError(name, "use as a seed", error) from error
    known = cache.find(before, index)
    seed = BlobSeed(name, index, jobs=jobs, cut=known)
    if known is None:
        with suppress(OSError):
            if _same(before, os.stat(name)):
                cache.add(before, index, seed.cut)
    return [seed]


def _same(a: os.stat_result, b: os.stat_result) -> bool:
    return (a.st_dev, a.st_ino, a.st_size, a.st_mtime_ns, a.st_ctime_ns) == (
        b.st_dev,
        b.st_ino,
        b.st_size,
        b.st_mtime_ns,
        b.st_ctime_ns,
    )


def _with_index(path: bytes, file: bytes, index: Index) -> BlobSeed:
    cut = load_index(path)
    if cut.digest is not index.digest:
        raise FileError(
            path, "use as a seed", f"its chunk ids are {cut.digest.value}, not {index.digest.value}"
        )
    return BlobSeed(file, index, cut=cut)


def _in_directory(name: bytes, index: Index) -> list[BlobSeed]:
    seeds = []
    try:
        names = sorted(os.listdir(name))
    except OSError as error:
        raise FileError(name, "use as a seed", error) from error
    for each in names:
        pair = split_seed(os.path.join(name, each))
        if pair is not None and each.endswith(b".caibx") and os.path.exists(pair[1]):
            with suppress(CasyncError):
                seeds.append(_with_index(*pair, index))
    if not seeds:
        why = "no index in it has its file beside it; a blob needs a file, or such indexes"
        raise FileError(name, "use as a seed", OSError(errno.EISDIR, why))
    return seeds
