"""One member of a tar as a value, and what PAX records make of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from casync_compat.oci.tar.fields import SparseMap, pax_integer, pax_time

__all__ = ["HARD_LINK", "UNKNOWN", "Member", "clean_path", "merge_records", "path_in_root"]

UNKNOWN = 0
HARD_LINK = 1
"""Values of `Member.kind` beside those of `stat`."""

_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_ACLS = (
    (b"SCHILY.acl.access", b"system.posix_acl_access"),
    (b"SCHILY.acl.default", b"system.posix_acl_default"),
)
"""Keys of star, GNU tar and libarchive, and the attributes of the kernel."""


@dataclass(slots=True)
class Member:
    """One member, with everything its headers say. (Not frozen, for speed: treat it as a value all the same.)

    Bytes `start` to `data` of the tar are its headers, then come `stored` bytes of payload, then padding up to `end`.

    :ivar start: offset of its first header, extension headers included
    :ivar header: offset of its own header
    :ivar path: as the tar has it
    :ivar kind: `stat.S_IFREG` and so on, `HARD_LINK`, or `UNKNOWN`
    :ivar mode: permissions, 12 bits
    :ivar mtime: in nanoseconds since the epoch
    :ivar device: major and minor number
    :ivar size: of a regular file's contents, holes included; 0 for all else
    :ivar sparse: which parts of the contents are stored, None for all of them
    :ivar xattrs: sorted by name
    :ivar pax: the records of its extended header
    :ivar acls: ACLs as text, by the name of the attribute that Linux keeps such a one in
    """

    start: int
    header: int
    data: int
    stored: int
    end: int
    path: bytes
    kind: int
    typeflag: bytes
    linkname: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    device: tuple[int, int]
    size: int
    sparse: SparseMap | None
    xattrs: tuple[tuple[bytes, bytes], ...]
    pax: Mapping[bytes, bytes] | None
    uname: bytes
    gname: bytes
    acls: tuple[tuple[bytes, bytes], ...] = ()

    def ranges(self) -> list[tuple[int, int, int]]:
        """`(offset in the contents, offset in the tar, length)` of each stored part, in order."""
        return stored_ranges(self.sparse, self.data, self.stored)


def stored_ranges(sparse: SparseMap | None, data: int, stored: int) -> list[tuple[int, int, int]]:
    """`(offset in the contents, offset in the tar, length)` of each stored part, in order.

    :param data: where in the tar the first stored byte is
    :param stored: bytes that are stored
    """
    if sparse is None:
        return [(0, data, stored)] if stored else []
    out = []
    at = data
    for offset, length in sparse:
        out.append((offset, at, length))
        at += length
    return out


def clean_path(path: bytes) -> tuple[bytes, ...] | None:
    """The components of a path beneath the root; None when `..` is among them."""
    parts = path.split(b"/")
    if b".." in parts:
        return None
    if b"" in parts or b"." in parts:
        return tuple(part for part in parts if part not in (b"", b"."))
    return tuple(parts)


def path_in_root(path: bytes) -> tuple[bytes, ...] | None:
    """The same by Go's `path.Clean`: `..` takes back the name before it, unseen; None when it leads out of the root."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                return None
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return tuple(parts)


def merge_records(member: Member, pax: dict[bytes, bytes]) -> None:
    """Let PAX records override the fields of a header; an empty value overrides nothing."""
    get = pax.get
    member.path = get(b"path") or member.path
    member.linkname = get(b"linkpath") or member.linkname
    member.uname = get(b"uname") or member.uname
    member.gname = get(b"gname") or member.gname
    if value := get(b"mtime"):
        member.mtime = pax_time(value)
    if value := get(b"uid"):
        member.uid = pax_integer(value)
    if value := get(b"gid"):
        member.gid = pax_integer(value)
    if value := get(b"size"):
        member.stored = pax_integer(value)
    for key in (b"atime", b"ctime"):
        if value := get(key):
            pax_time(value)
    if any(key.startswith((_SCHILY, _LIBARCHIVE)) for key in pax):
        member.xattrs = _xattrs(pax)
    if any(key in pax for key, _ in _ACLS):
        member.acls = tuple((name, value) for key, name in _ACLS if (value := get(key)))


def _xattrs(pax: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Extended attributes: raw ones of star, docker and GNU tar; those of libarchive where there is no raw one."""
    found: dict[bytes, bytes] = {}
    for key, value in pax.items():
        if key.startswith(_LIBARCHIVE):
            decoded = _base64(value)
            if decoded is not None:
                found[_unquoted(key[len(_LIBARCHIVE) :])] = decoded
    for key, value in pax.items():
        if key.startswith(_SCHILY):
            found[key[len(_SCHILY) :]] = value
    return tuple(sorted(found.items()))


def _unquoted(name: bytes) -> bytes:
    """libarchive writes the names of attributes as URLs do."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes((int(found[1], 16),)), name)


def _base64(value: bytes) -> bytes | None:
    """libarchive leaves the padding out. None for what is no base 64; Go does not look at it, so it is no error."""
    import binascii  # lazily: few tars have any

    try:
        return binascii.a2b_base64(value.rstrip(b"=") + b"=" * (-len(value.rstrip(b"=")) % 4))
    except binascii.Error:
        return None
