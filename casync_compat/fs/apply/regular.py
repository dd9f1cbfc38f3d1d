"""Regular files: written under a temporary name in their directory, completed, then renamed over what was there.

    >>> writer = FileWriter(placer)
    >>> writer.start(parent, node, path)
    >>> while writer.busy: writer.write(next(pieces))       # the last one completes the file

What is there already is compared as long as it has the same contents. Where it has them to the end it is left alone, or
given the right metadata; nothing is written until something differs. An interrupted run leaves nothing under a final
name that is not complete; of a large file it may leave what was written under a hidden one, in which the next run finds
it as it finds everything that is in the target: chunk by chunk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

from casync_compat.errors import FileError
from casync_compat.fs.apply.payload import PayloadWriter
from casync_compat.fs.apply.placing import Placer
from casync_compat.fs.apply.restore import InodeState
from casync_compat.fs.apply.target import Directory
from casync_compat.fs.apply.uptodate import Old
from casync_compat.fs.partial import partial_name
from catar.records import Node

__all__ = ["FileWriter", "LinkFinder", "LinkHook", "PayloadHook"]

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_LARGE = 1 << 20
"""Bytes from which on it is worth keeping what was written of a file."""
_WHATEVER = "0" * 16
"""Identity of what is kept: it does not matter of which archive it is."""

PayloadHook: TypeAlias = Callable[[int, Node, bytes], None]
LinkHook: TypeAlias = "Callable[[Node, bytes], bytes | None]"


class LinkFinder(Protocol):
    """Finds, for files that are being written, identical ones that can be hard-linked in their place."""

    def open(self, feature_flags: int) -> None:
        """Hear the archive's feature flags, before the first node."""
        ...

    def begin(self, node: Node) -> None:
        """Hear of a node that begins."""
        ...

    def update(self, piece: memoryview) -> None:
        """Take the next bytes of its payload."""
        ...

    def candidate(self, node: Node, path: bytes) -> bytes | None:
        """Once the payload is complete: the absolute path of an identical file, metadata included, or None.

        :param path: the node's path in the archive
        """
        ...


class _File:
    """What is known of the file under way.

    :ivar old: what is there, as long as it may be kept
    :ivar stood: whether something had the name
    """

    __slots__ = ("archive_path", "fd", "inode", "node", "old", "parent", "payload", "stood", "temp")

    inode: InodeState
    payload: PayloadWriter

    def __init__(self, parent: Directory, node: Node, archive_path: bytes, temp: bytes) -> None:
        self.parent = parent
        self.node = node
        self.archive_path = archive_path
        self.temp = temp
        self.fd = -1
        self.old: Old | None = None
        self.stood = False

    def forget_old(self) -> None:
        """What is there is not kept."""
        old, self.old = self.old, None
        if old is not None:
            old.close()


class FileWriter:
    """Writes regular files, one after the other.

    :param on_payload: see `TreeWriter`, as is `link_candidate`

    Every method raises `FileError` naming the file; `abort` then removes what there is.
    """

    def __init__(
        self, placer: Placer, on_payload: PayloadHook | None = None, link_candidate: LinkHook | None = None
    ) -> None:
        self._placer = placer
        self._on_payload = on_payload
        self._link_candidate = link_candidate
        self._file: _File | None = None

    @property
    def busy(self) -> bool:
        """Whether a file's payload is not complete."""
        return self._file is not None

    def start(self, parent: Directory, node: Node, archive_path: bytes) -> None:
        """Begin a file; an empty one, or one that is known to be there, is complete at once."""
        file = self._file = _File(parent, node, archive_path, self._placer.temp.next())
        try:
            if not parent.fresh:
                self._find_old(file)
            if file.old is None:
                self._create(file)
            elif self._is_known(file, file.old):
                file.old.at = node.size
                self.finish()
                return
        except (OSError, ValueError) as error:
            raise self._failure(file, error) from error
        if not node.size:
            self.finish()

    def _find_old(self, file: _File) -> None:
        try:
            st = os.stat(file.node.name, dir_fd=file.parent.fd, follow_symlinks=False)
        except OSError:
            return
        file.stood = True
        if stat.S_ISREG(st.st_mode) and st.st_size == file.node.size:
            file.old = Old.open(file.parent.fd, file.node.name)
            if file.old is not None and file.old.st.st_size != file.node.size:
                file.forget_old()

    def _is_known(self, file: _File, old: Old) -> bool:
        """Whether the contents need not be compared."""
        placer = self._placer
        if placer.options.compare != "metadata" or self._link_candidate is not None:
            return False
        return placer.current.looks_same(old.st, file.node)

    def _create(self, file: _File) -> None:
        placer = self._placer
        restorer = placer.restorer
        parent, node = file.parent, file.node
        placer.at(parent, node)
        mode = restorer.create_mode(node, placer.owner_fits(parent, node))
        placer.doing("create")
        try:
            file.fd = os.open(file.temp, _CREATE, mode, dir_fd=parent.fd)
        except FileExistsError:
            file.temp = placer.temp.renew()
            file.fd = os.open(file.temp, _CREATE, mode, dir_fd=parent.fd)
        flags = restorer.prepare(file.fd, node, True, parent.child_flags)
        file.inode = placer.new_file(parent, file.fd, mode, flags)
        file.payload = PayloadWriter(file.fd, node.size, placer.options.punch_holes)

    def write(self, view: memoryview) -> None:
        """Write the next bytes of the payload; the last ones complete the file."""
        file = self._file
        assert file is not None, "no file is being written"
        self._placer.doing("write")
        try:
            if file.old is not None:
                if file.old.at + len(view) <= file.node.size and file.old.has(view):
                    if file.old.at == file.node.size:
                        self.finish()
                    return
                self._copy_old(file, file.old)
            file.payload.write(view)
        except (OSError, ValueError) as error:
            raise self._failure(file, error) from error
        if file.payload.at == file.node.size:
            self.finish()

    def _copy_old(self, file: _File, old: Old) -> None:
        """Go on with a new file, which has what was the same so far."""
        self._create(file)
        self._placer.doing("write")
        old.copy_to(file.payload)
        file.forget_old()

    def finish(self) -> None:
        """Restore metadata and put the file into its place. :raises FileError: when payload is missing, too"""
        file = self._file
        assert file is not None, "no file is being written"
        placer = self._placer
        placer.doing("write")
        try:
            if file.old is None or not self._keep(file, file.old):
                file.payload.finish()
                if self._on_payload is not None:
                    self._on_payload(file.fd, file.node, file.archive_path)
                if self._link_candidate is None or not self._link(file, self._link_candidate):
                    self._complete(file)
                placer.tally.updated += file.stood
        except (OSError, ValueError) as error:
            raise self._failure(file, error) from error
        self._file = None
        if file.fd >= 0:
            os.close(file.fd)
        if placer.options.keeps is not None and not file.parent.fresh and file.node.size >= _LARGE:
            with suppress(OSError):
                os.unlink(partial_name(file.node.name, _WHATEVER), dir_fd=file.parent.fd)

    def _keep(self, file: _File, old: Old) -> bool:
        """Leave what is there, or set its metadata. :returns: False when there is to be a new file, which is written"""
        placer = self._placer
        if old.at == file.node.size and not self._is_to_be_linked(file, old):
            placer.at(file.parent, file.node)
            if placer.mend(file.parent, old.fd, os.fstat(old.fd), file.node):
                file.forget_old()
                return True
        self._copy_old(file, old)
        return False

    def _is_to_be_linked(self, file: _File, old: Old) -> bool:
        """Whether there is an identical file, other than what is there, to link to."""
        if self._link_candidate is None:
            return False
        source = self._link_candidate(file.node, file.archive_path)
        try:
            return source is not None and not os.path.samestat(os.lstat(source), old.st)
        except OSError:
            return False

    def abort(self, error: BaseException | None = None) -> None:
        """Remove what is under way, or hide it where it is worth keeping; never raises.

        :param error: why
        """
        file, self._file = self._file, None
        if file is None:
            return
        keeps = self._placer.options.keeps
        with suppress(OSError):
            file.forget_old()
            written = 0
            if file.fd >= 0:
                written = os.fstat(file.fd).st_blocks
                os.close(file.fd)
            if written < _LARGE // 512 or keeps is None or error is None or not keeps(error):
                os.unlink(file.temp, dir_fd=file.parent.fd)
            else:
                self._hide(file, written)

    @staticmethod
    def _hide(file: _File, written: int) -> None:
        """Leave what is under way for the next run, unless an earlier one left more."""
        fd = file.parent.fd
        name = partial_name(file.node.name, _WHATEVER)
        with suppress(FileNotFoundError):
            if os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks > written:
                os.unlink(file.temp, dir_fd=fd)
                return
        os.rename(file.temp, name, src_dir_fd=fd, dst_dir_fd=fd)

    def _failure(self, file: _File, error: OSError | ValueError) -> FileError:
        path = os.path.join(file.parent.path, file.node.name)
        return self._placer.restorer.left_out.failure(path, error)

    def _complete(self, file: _File) -> None:
        placer, parent, node = self._placer, file.parent, file.node
        placer.at(parent, node)
        placer.restorer.metadata(file.inode, node)
        placer.put(parent, file.temp, node.name)
        placer.restorer.flags(file.fd, node, file.inode.flags, placer.has_fat(parent))

    def _link(self, file: _File, candidate: LinkHook) -> bool:
        """Use a hard link to the candidate, where there is one, instead of what was written."""
        parent, node = file.parent, file.node
        source = candidate(node, file.archive_path)
        if source is None:
            return False
        temp = self._placer.temp.next()
        try:
            os.link(source, temp, dst_dir_fd=parent.fd, follow_symlinks=False)
        except OSError:
            return False  # on another file system, gone, too many links: the copy is as good
        written, file.temp = file.temp, temp
        st = os.stat(temp, dir_fd=parent.fd, follow_symlinks=False)
        same = stat.S_ISREG(st.st_mode) and st.st_size == node.size
        if not same or not self._placer.current.has_basics(st, node):
            os.unlink(temp, dir_fd=parent.fd)
            file.temp = written
            return False
        os.unlink(written, dir_fd=parent.fd)
        self._placer.put(parent, temp, node.name)
        with suppress(
            FileNotFoundError
        ):  # rename does nothing where the place already is a link to the same file
            os.unlink(temp, dir_fd=parent.fd)
        return True
