"""Mounts an EROFS image of metadata with the files of a store below it, by the kernel alone.

    >>> mount(b"/srv/files/tmp/x", b"/srv/files/files", b"/mnt", Overlay(source="oci:images:app"))
    >>> unmount(b"/mnt")

What is left is one mount, of overlayfs: the EROFS file system is taken out of the tree of names once the overlay holds
it, and its file may lose its name, too. All directories are given as descriptors, so that neither what their paths
have in them (commas, colons) nor what becomes of them meanwhile matters. From Linux 6.12 on EROFS reads a plain file;
before, or where the kernel was built without that, a loop device, which goes away with the mount.

Numbers are those of `linux/mount.h` and `linux/loop.h`.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import ioctl

from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.fs.inuse import in_use
from casync_compat.fs.mounts import mounts

__all__ = ["NoKernelMount", "Overlay", "check_kernel", "check_upper", "mount", "unmount"]

_MS_RDONLY = 1
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
_LO_READ_ONLY, _LO_AUTOCLEAR = 1, 4
_LOOP_CONFIG = struct.Struct("=II40x12xI240x")
"""Descriptor, size of blocks, flags; all else zeros."""
_TRIES = 16
_MOUNTED = b"mounted"
_LONGEST_NOTE = 1 << 16
_OLDEST = (6, 5)
"""Linux that has layers of data alone (overlayfs, `lowerdir=META::DATA`)."""
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NoKernelMount(UsageError):
    """The kernel cannot mount an image here, or not for this user."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """How the tree is mounted.

    :ivar source: what `mount` shows as the device
    :ivar upper: directory that takes what is written, in `upper` and `work` of it, which are there; None to mount for
        reading only
    :ivar verity: whether the kernel is to check every file of the store against its fs-verity digest
    """

    source: str = "pycasync"
    upper: bytes | None = None
    verity: bool = False


def check_kernel(release: str | None = None, euid: int | None = None) -> None:
    """See whether this can be done at all.

    :param release: of the kernel, as of `uname -r`; None for the one that runs
    :raises NoKernelMount: not by this user, or not by this kernel
    """
    if (os.geteuid() if euid is None else euid) != 0:
        raise NoKernelMount("only root can have the kernel mount an image")
    release = os.uname().release if release is None else release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is not None and (int(found[1]), int(found[2])) < _OLDEST:
        raise NoKernelMount(f"it takes Linux 6.5 or newer to mount an image, and this is {release}")


def mount(image: bytes, files: bytes, target: bytes, overlay: Overlay) -> None:
    """Mount a tree.

    :param image: path of the EROFS image; it may go once this is done
    :param files: directory of the store that the image leads to
    :param target: an existing directory
    :raises FileError: the kernel says no
    """
    with _opened(files) as store, _opened(target) as place, _metadata(image) as lower:
        options = [
            *(b"metacopy=on", b"redirect_dir=on"),
            b"lowerdir=/proc/self/fd/%d::/proc/self/fd/%d" % (lower, store),
        ]
        if overlay.verity:
            options.append(b"verity=require")
        with _upper(overlay.upper) as written:
            options += written
            try:
                _mount(
                    overlay.source.encode(),
                    b"/proc/self/fd/%d" % place,
                    b"overlay",
                    0 if written else _MS_RDONLY,
                    b",".join(options),
                )
            except OSError as error:
                raise FileError(target, "mount on", error) from error
        if overlay.upper is not None:
            _note(overlay.upper, target)


def check_upper(path: bytes) -> None:
    """See whether a directory is free to take what is written: two mounts that share one damage it.

    Only mounts that this process sees are known, and only those that `mount` made.

    :raises UsageError: another mount has it
    """
    try:
        with open(os.path.join(path, _MOUNTED), "rb") as file:
            noted = file.read(_LONGEST_NOTE)
    except OSError:
        return
    number, _, where = noted.partition(b" ")
    if any(each.number == number and each.path == where and each.kind == b"overlay" for each in mounts()):
        raise UsageError(
            f"{show_path(path)} takes what is written to {show_path(where)} already; "
            "unmount that first, or name another --upper"
        )


def _note(upper: bytes, target: bytes) -> None:
    """Leave word in an upper directory of the mount that has it: its number, and where it is."""
    place = os.path.realpath(target)
    found = [each for each in mounts() if each.path == place]
    with suppress(OSError, IndexError), open(os.path.join(upper, _MOUNTED), "wb") as file:
        file.write(found[-1].number + b" " + place)


def unmount(target: bytes) -> None:
    """Take away the mount on a directory. A symlink is not followed.

    :raises FileError: there is none, or it is in use
    """
    try:
        _unmount(target, _UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileError(target, "unmount", "nothing is mounted there") from error
        if error.errno == errno.EPERM:
            raise FileError(target, "unmount", "only root can") from error
        if error.errno == errno.EBUSY:
            raise FileError(target, "unmount", in_use(target)) from error
        raise FileError(target, "unmount", error) from error


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    try:
        fd = os.open(path, _OPEN_DIR)
    except OSError as error:
        raise FileError(path, "open", error) from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _upper(path: bytes | None) -> Iterator[list[bytes]]:
    """The options for what is written."""
    if path is None:
        yield []
        return
    with _opened(os.path.join(path, b"upper")) as upper, _opened(os.path.join(path, b"work")) as work:
        yield [b"upperdir=/proc/self/fd/%d" % upper, b"workdir=/proc/self/fd/%d" % work]


@contextmanager
def _metadata(image: bytes) -> Iterator[int]:
    """An EROFS image, mounted where nobody sees it for longer than it takes: a descriptor of its root."""
    try:
        place = os.fsencode(tempfile.mkdtemp(prefix="pycasync-"))
    except OSError as error:
        raise FileError(os.fsencode(tempfile.gettempdir()), "write", error) from error
    try:
        try:
            _mount_erofs(image, place)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise FileError(image, "mount", "this kernel has no EROFS; try modprobe erofs") from error
            raise FileError(image, "mount", error) from error
        try:
            with _opened(place) as root:
                yield root
        finally:
            with suppress(OSError):
                _unmount(place, _MNT_DETACH)
    finally:
        with suppress(OSError):
            os.rmdir(place)


def _mount_erofs(image: bytes, place: bytes) -> None:
    try:
        _mount(image, place, b"erofs", _MS_RDONLY, b"")
    except OSError as error:
        if error.errno != errno.ENOTBLK:
            raise
        with _loop_device(image) as device:
            _mount(device, place, b"erofs", _MS_RDONLY, b"")


@contextmanager
def _loop_device(image: bytes) -> Iterator[bytes]:
    """A block device of a file, which the kernel takes away when nobody uses it any more."""
    with open(image, "rb") as file, open("/dev/loop-control", "rb") as control:
        for left in reversed(range(_TRIES)):
            device = b"/dev/loop%d" % ioctl(control, _LOOP_CTL_GET_FREE)
            fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                flags = _LO_READ_ONLY | _LO_AUTOCLEAR
                ioctl(fd, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(file.fileno(), 0, flags))
                yield device
                return
            except OSError as error:
                if error.errno != errno.EBUSY or not left:  # else somebody was faster
                    raise
            finally:
                os.close(fd)


def _mount(source: bytes, target: bytes, kind: bytes, flags: int, options: bytes) -> None:
    import ctypes  # 8 ms to import, and only these callers need it

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), options):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _unmount(target: bytes, flags: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(target, flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
