"""What is here of all that pycasync can use: native modules, libraries, programs, and what kernel and file system can.

Nothing is changed: where a file is needed to find out, it never has a name.

>>> [one.name for one in check(b".") if one.needed and not one.there]
[]
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from casync_compat.errors import FileError
from casync_compat.fs import ioctls
from casync_compat.fs.unnamed import open_unnamed

__all__ = ["LIBRARIES", "NATIVE", "Presence", "check"]

NATIVE = (
    *("casync_compat._sha512", "casync_compat._lines", "catar._decoder", "catar._filling", "catar._goodbye"),
    *("casync_compat.chunker._kernel", "casync_compat.fs._identity", "casync_compat.fs._names"),
    *("casync_compat.fs._system", "casync_compat.fs.apply._runs", "casync_compat.fs.apply._updates"),
)
"""Modules in C; each has a twin in Python, which is slower."""

LIBRARIES = (
    ("construct", "construct", "formats", ""),
    ("zstandard", "zstandard", "chunks with zstd", ""),
    ("blake3", "blake3", "--digest=blake3", ""),
    ("pyxattr", "xattr", "extended attributes", ""),
    ("pylibacl", "posix1e", "ACLs", ""),
    ("siphashc", "siphashc", "tables of archives", ""),
    ("tqdm", "tqdm", "bars of progress", ""),
    ("pycurl", "pycurl", "web servers and registries", "remote"),
    ("obstore", "obstore", "buckets: S3, Google, Azure", "remote"),
    ("isal", "isal", "faster gzip of image layers", "oci"),
    ("uvicorn", "uvicorn", "serve", "serve"),
    ("httptools", "httptools", "serve", "serve"),
    ("granian", "granian", "serve over TLS", "serve"),
    ("PyNaCl", "nacl", "stores encrypted with xchacha20-poly1305", "encryption"),
    ("cryptography", "cryptography", "stores encrypted with aes-256-gcm", "encryption"),
    ("fsspec", "fsspec", "archives in pandas, DuckDB and others", "fsspec"),
    ("matplotlib", "matplotlib", "charts", "charts"),
)
"""Package, module, what for, and the extra that brings it; empty for what everybody gets."""


@dataclass(frozen=True, slots=True)
class Presence:
    """One thing that may be here.

    :ivar kind: `native`, `library`, `program`, `kernel` or `directory`
    :ivar there: whether it is
    :ivar what: its version where it is, why not where it is not
    :ivar use: what it is for
    :ivar needed: whether nothing works without it
    """

    kind: str
    name: str
    there: bool
    what: str
    use: str
    needed: bool = False


def check(directory: bytes) -> Iterator[Presence]:
    """Look for everything.

    :param directory: where to find out what its file system can
    :raises FileError: there is no such directory
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(directory, "open", error) from error
    try:
        yield from map(_native, NATIVE)
        yield from (_library(*row) for row in LIBRARIES)
        yield from _programs()
        yield from _kernel()
        yield from _file_system(fd)
    finally:
        os.close(fd)


def _native(name: str) -> Presence:
    try:
        import_module(name)
    except ImportError as error:
        why = "not built" if isinstance(error, ModuleNotFoundError) else str(error)
        return Presence("native", name, False, f"{why}; what it does is done in Python", "speed")
    return Presence("native", name, True, "", "speed")


def _library(package: str, module: str, use: str, extra: str) -> Presence:
    try:
        import_module(module)
    except ImportError as error:
        name = f"pycasync[{extra}]" if extra else "pycasync"
        missing = isinstance(error, ModuleNotFoundError) and error.name == module
        why = f"pip install '{name}'" if missing else str(error)
        return Presence("library", package, False, why, use, needed=not extra)
    try:
        what = version(package)
    except PackageNotFoundError:
        what = ""
    return Presence("library", package, True, what, use, needed=not extra)


def _programs() -> Iterator[Presence]:
    for name, use in (("ssh", "places on other machines"), ("fusermount3", "mount")):
        path = shutil.which(name)
        yield Presence("program", name, path is not None, path or "not in $PATH", use)


def _kernel() -> Iterator[Presence]:
    yield Presence("kernel", "release", True, os.uname().release, "")
    there = "sha512_256" in hashlib.algorithms_available
    yield Presence(
        "library", "OpenSSL", there, "" if there else "Python's has no SHA-512/256", "--digest=sha512-256"
    )
    fuse = os.access("/dev/fuse", os.R_OK | os.W_OK)
    why = "/dev/fuse cannot be opened" if os.path.exists("/dev/fuse") else "there is no /dev/fuse"
    yield Presence("kernel", "FUSE", fuse, "" if fuse else why, "mount")
    known: set[str] = set()
    with suppress(OSError), open("/proc/filesystems", encoding="ascii", errors="replace") as file:
        known = {line.split()[-1] for line in file if line.strip()}
    for name, use in (("overlay", "oci mount"), ("erofs", "oci mount")):
        why = "not loaded; modprobe may help"
        yield Presence("kernel", name, name in known, "" if name in known else why, use)


def _file_system(directory: int) -> Iterator[Presence]:
    files: list[int] = []
    try:
        for _ in range(2):
            fd = open_unnamed(b"/proc/self/fd/%d" % directory, os.O_RDWR, 0o600)
            if fd is None:
                yield _no_files("it has no files without a name")
                return
            files.append(fd)
        first, second = files
        os.write(first, bytes(8192))
        verity = bytearray(4)
        verity[2] = 64
        tests: tuple[tuple[str, str, Callable[[], object]], ...] = (
            (
                "reflinks",
                "extract shares blocks with seeds",
                lambda: fcntl.ioctl(second, ioctls.FICLONE, first),
            ),
            (
                "extended attributes",
                "user.*",
                lambda: os.setxattr(f"/proc/self/fd/{first}", "user.pycasync", b"1"),
            ),
            (
                "file attributes",
                "chattr",
                lambda: fcntl.ioctl(first, ioctls.FS_GETFLAGS, bytes(ctypes.sizeof(ctypes.c_long))),
            ),
            (
                "fs-verity",
                "oci checkout",
                lambda: fcntl.ioctl(first, ioctls.VERITY_MEASURE, bytes(verity) + bytes(64)),
            ),
        )
        for name, use, test in tests:
            why = _refusal(test)
            yield Presence("directory", name, why is None, why or "", use)
    except OSError as error:
        yield _no_files(os.strerror(error.errno or 0))
    finally:
        for fd in files:
            os.close(fd)


def _no_files(why: str) -> Presence:
    return Presence("directory", "files", False, why, "finding out what it can hold")


def _refusal(test: Callable[[], object]) -> str | None:
    """Why something cannot be done; None where it can."""
    try:
        test()
    except OSError as error:
        if error.errno == errno.ENODATA:  # fs-verity: it could measure, but the file has none
            return None
        return os.strerror(error.errno or 0)
    return None
