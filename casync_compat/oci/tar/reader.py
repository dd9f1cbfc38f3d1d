"""A reader of tar streams that is exact to the byte: which bytes are headers, which are payload, and what they say.

    >>> for member in members(view):
    ...     print(member.path, member.size, member.start, member.data)

It reads v7, ustar, PAX, GNU and star headers, and all four ways to store sparse files. In doubtful cases it sees what
Go's `archive/tar` sees, hence what docker and containerd see: global extended headers (`g`) change nothing, ustar
fields give way to PAX records and GNU long names, an old `\\0` member whose name ends in a slash is a directory, links,
directories and devices have no payload whatever their size field says, one zero block in the middle is an error.

Names are not judged here: they may be absolute, have `..` in them, or occur twice. Payload is never read.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.fields import (
    BLOCK,
    SPECIAL_MAX,
    FieldError,
    checked,
    number,
    pax_integer,
    pax_records,
    pax_sparse_map,
    sparse_map_in_data,
    sparse_map_in_header,
    text,
)
from casync_compat.oci.tar.member import HARD_LINK, UNKNOWN, Member, clean_path, merge_records, path_in_root
from catar.archive import RandomAccess

__all__ = [
    "HARD_LINK",
    "UNKNOWN",
    "Member",
    "TarLimits",
    "TarReader",
    "clean_path",
    "members",
    "path_in_root",
]


@runtime_checkable
class _ReadsSome(RandomAccess, Protocol):
    """A tar that has some of its bytes at hand, and fetches others."""

    def read_some(self, offset: int, least: int, most: int) -> bytes:
        """As `read_at` for `least` bytes, and more, up to `most`, as far as they cost nothing."""


_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s")
_ZEROS = bytes(BLOCK)
_WINDOW = 8192
"""Bytes that are read for headers at a time: small members follow each other closely."""
_KNOWN_NUMBERS = 8192

_KINDS = {
    b"0": stat.S_IFREG,
    b"7": stat.S_IFREG,  # "contiguous file", in POSIX a regular one to whoever does not know better
    b"S": stat.S_IFREG,
    b"1": HARD_LINK,
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
}
_HEADER_ONLY = frozenset(b"1 2 3 4 5 6".split())
_EXTENSIONS = frozenset(b"x g L K".split())


@dataclass(frozen=True, slots=True)
class TarLimits:
    """What a tar may have at most, so that a hostile one cannot fill the memory.

    :ivar members: some ten times as many as the largest images have
    :ivar path: bytes of a path or a link's target (Linux PATH_MAX)
    """

    members: int = 4_000_000
    path: int = 4096


def members(view: RandomAccess, where: str = "tar", *, limits: TarLimits | None = None) -> Iterator[Member]:
    """The members of a tar, in its order. A view with a method `read_some(offset, least, most)` is asked by it.

    :param where: what messages call the tar
    :raises ImageError: it is malformed, cut short or over a limit
    """
    return iter(TarReader(view, where, limits=limits))


class TarReader:
    """Iterates over the members of a tar; see `members`.

    :ivar end: after the last member, the offset where it ends. Zero blocks and whatever else may follow
    """

    def __init__(self, view: RandomAccess, where: str = "tar", *, limits: TarLimits | None = None) -> None:
        self._view = view
        self._where = where
        self._limits = limits or TarLimits()
        self._size = view.size
        self._read_some = view.read_some if isinstance(view, _ReadsSome) else self._read_window
        self._numbers: dict[bytes, int] = {}
        self._window = b""
        self._window_at = 0
        self._pax: dict[bytes, bytes] | None = None
        self._long_name = b""
        self._long_link = b""
        self.end = 0

    def __iter__(self) -> Iterator[Member]:
        offset = 0
        try:
            for count in range(self._limits.members + 1):
                member = self._next(self.end)
                if member is None:
                    return
                if count == self._limits.members:
                    raise FieldError(f"it has more than {count} members")
                offset = self.end = member.end
                yield member
        except FieldError as error:
            raise ImageError(self._where, f"{error} (at byte {offset})") from error

    # Bytes

    def _read_window(self, offset: int, least: int, most: int) -> bytes:
        return self._view.read_at(offset, most)

    def _exactly(self, offset: int, size: int) -> bytes:
        """Bytes that must be there."""
        at = offset - self._window_at
        if at < 0 or at + size > len(self._window):
            at = 0
            self._window_at = offset
            self._window = self._read_some(offset, size, max(_WINDOW, size))
            if len(self._window) < size:
                raise FieldError("the tar is cut short")
        return self._window[at : at + size]

    def _number(self, field: bytes) -> int:
        known = self._numbers.get(field)
        if known is None:
            known = number(field)
            if len(self._numbers) >= _KNOWN_NUMBERS:
                self._numbers.clear()
            self._numbers[field] = known
        return known

    # Headers

    def _next(self, start: int) -> Member | None:
        self._pax = None
        self._long_name = self._long_link = b""
        offset = start
        while True:
            # Whole padding after the last member is not asked for, as Go does not.
            if offset >= self._size:
                return None
            block = self._exactly(offset, BLOCK)
            if block == _ZEROS:
                if offset + BLOCK < self._size and self._exactly(offset + BLOCK, BLOCK) != _ZEROS:
                    raise FieldError(f"a zero block stands before a header, at byte {offset}")
                return None
            flag = block[156:157]
            if flag not in _EXTENSIONS:
                return self._member(start, offset, block)
            offset = self._extension(offset, block, flag)

    def _extension(self, offset: int, block: bytes, flag: bytes) -> int:
        """Take in one extension header. Returns the offset of the next header."""
        self._fields(block)
        size = self._number(block[124:136])
        if not 0 <= size <= SPECIAL_MAX:
            raise FieldError(f"an extension header has {size} bytes, more than {SPECIAL_MAX}")
        offset += BLOCK
        data = self._exactly(offset, size) if size else b""
        if flag == b"x":
            self._pax = pax_records(data)
        elif flag == b"g":
            # A member of its own to Go: what was said before it for the next member is dropped.
            pax_records(data)
            self._pax = None
            self._long_name = self._long_link = b""
        elif flag == b"L":
            self._long_name = text(data)
        else:
            self._long_link = text(data)
        return offset + size + -size % BLOCK

    def _fields(self, block: bytes) -> tuple[bytes, int, int, int, int, int, bytes, int, int, bytes, bytes]:
        """Path, mode, uid, gid, size, mtime, link name, device, user and group name of a header."""
        (name, mode, uid, gid, size, mtime, checksum, _, link, magic, uname, gname, major, minor) = (
            _HEADER.unpack_from(block)
        )
        if not checked(block, checksum):
            raise FieldError("this is no tar header: its checksum is wrong")
        path = text(name)
        parsed = self._number
        if magic[:6] == b"ustar\0":
            is_star = block[508:] == b"tar\0"
            prefix = text(block[345:476] if is_star else block[345:500])
            if is_star:
                parsed(block[476:488])
                parsed(block[488:500])
        elif magic == b"ustar  \0":
            prefix = _gnu_prefix(block)
        else:
            return (
                *(path, parsed(mode), parsed(uid), parsed(gid), parsed(size), parsed(mtime)),
                *(text(link), 0, 0, b"", b""),
            )
        if prefix:
            path = prefix + b"/" + path
        return (
            *(path, parsed(mode), parsed(uid), parsed(gid), parsed(size), parsed(mtime)),
            *(text(link), parsed(major), parsed(minor), text(uname), text(gname)),
        )

    def _member(self, start: int, header: int, block: bytes) -> Member:
        path, mode, uid, gid, size, mtime, link, major, minor, uname, gname = self._fields(block)
        flag = block[156:157]
        member = Member(
            *(start, header, header + BLOCK, size, 0, path, UNKNOWN, flag, link, mode & 0o7777, uid, gid),
            *(mtime * 1_000_000_000, (major, minor), 0, None, (), self._pax, uname, gname),
        )
        pax = self._pax
        if pax:
            merge_records(member, pax)
        if self._long_name:
            member.path = self._long_name
        if self._long_link:
            member.linkname = self._long_link
        if flag == b"\0":
            flag = b"5" if member.path.endswith(b"/") else b"0"
            member.typeflag = flag
        member.kind = _KINDS.get(flag, UNKNOWN)
        if flag in _HEADER_ONLY:
            member.stored = 0
        elif member.stored < 0:
            raise FieldError("the size of a member is negative")
        end = member.data + member.stored
        if flag == b"S" or (pax and (b"GNU.sparse.map" in pax or b"GNU.sparse.major" in pax)):
            end = self._sparse(member, block)
        if member.kind == stat.S_IFREG and member.sparse is None:
            member.size = member.stored
        if end > self._size:
            raise FieldError("the tar is cut short within a member")
        if len(member.path) > self._limits.path or len(member.linkname) > self._limits.path:
            raise FieldError(f"a path has more than {self._limits.path} bytes")
        member.end = min(end + -end % BLOCK, self._size)
        return member

    def _sparse(self, member: Member, block: bytes) -> int:
        """Find the sparse map of a member, if it has one. Returns where its data end."""
        if member.typeflag == b"S":
            return self._old_sparse(member, block)
        pax = member.pax
        assert pax is not None
        version = (pax.get(b"GNU.sparse.major", b""), pax.get(b"GNU.sparse.minor", b""))
        end = member.data + member.stored
        if version not in ((b"0", b"0"), (b"0", b"1"), (b"1", b"0"), (b"", b"")):
            return end  # of a version to come
        if version == (b"", b"") and not pax.get(b"GNU.sparse.map"):
            return end
        member.path = pax.get(b"GNU.sparse.name") or member.path
        size = pax.get(b"GNU.sparse.size") or pax.get(b"GNU.sparse.realsize")
        member.size = pax_integer(size) if size else member.stored
        if member.kind != stat.S_IFREG:
            raise FieldError("something that is not a file has a sparse map")
        if version == (b"1", b"0"):
            data = member.data

            def read(at: int) -> bytes:
                return self._read_some(data + at, BLOCK, _WINDOW)[: member.stored - at]

            member.sparse, used = sparse_map_in_data(read, member.stored, member.size)
            member.data += used
            member.stored -= used
        else:
            member.sparse = pax_sparse_map(dict(pax), member.size)
        self._check_sum(member)
        return end

    def _old_sparse(self, member: Member, block: bytes) -> int:
        if block[257:265] != b"ustar  \0":
            raise FieldError("a sparse member has no GNU header")

        def more() -> bytes:
            member.data += BLOCK
            return self._exactly(member.data - BLOCK, BLOCK)

        member.size = number(block[483:495])
        member.sparse = sparse_map_in_header(block, member.size, more)
        self._check_sum(member)
        return member.data + member.stored

    @staticmethod
    def _check_sum(member: Member) -> None:
        assert member.sparse is not None
        if member.size < 0 or sum(length for _, length in member.sparse) != member.stored:
            raise FieldError("the sparse map and the stored size of a member contradict each other")


def _gnu_prefix(block: bytes) -> bytes:
    """GNU headers have no prefix, but Go before 1.8 wrote one into the fields for access and change time."""
    try:
        for field in (block[345:357], block[357:369]):
            if field[0]:
                number(field)
    except FieldError:
        prefix = text(block[345:500])
        return prefix if prefix.isascii() else b""
    return b""
