"""How names, modes and attributes are written in listings.

The forms are casync's, so that scripts which read `casync list`, `mtree` or `stat` go on working. All observed with
casync 2, over every byte value, every mode and every flag.

Deliberately not here: JSON (`casync_compat.nodeview`), and showing names to a human in a message
(`errors.show_path`).

    >>> escape(b"sp ace#1")
    b'sp\\\\040ace\\\\0431'
    >>> ls_mode(0o100644)
    b'-rw-r--r--'
"""

from __future__ import annotations

import functools
import re
import stat
from collections.abc import Mapping

from catar.flags import FeatureFlags

__all__ = ["KIND_WORDS", "chattr_letters", "escape", "fat_letters", "ls_mode", "owner_name", "shown_path"]

F = FeatureFlags

_ODD = re.compile(rb"[\x00-\x20\x7f-\xff\\#]")
_OCTAL = {bytes([byte]): b"\\%03o" % byte for byte in range(256)}
_LONG = 128

KIND_WORDS: Mapping[int, bytes] = {
    stat.S_IFREG: b"file",
    stat.S_IFDIR: b"dir",
    stat.S_IFLNK: b"link",
    stat.S_IFBLK: b"block",
    stat.S_IFCHR: b"char",
    stat.S_IFIFO: b"fifo",
    stat.S_IFSOCK: b"socket",
}
"""The words for file types in mtree(5)."""

_KIND_LETTERS: Mapping[int, str] = {
    stat.S_IFREG: "-",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}

_CHATTR_LETTERS: tuple[tuple[int, str], ...] = (
    (int(F.FLAG_SYNC), "S"),
    (int(F.FLAG_DIRSYNC), "D"),
    (int(F.FLAG_IMMUTABLE), "i"),
    (int(F.FLAG_APPEND), "a"),
    (int(F.FLAG_NODUMP), "d"),
    (int(F.FLAG_NOATIME), "A"),
    (int(F.FLAG_COMPR), "c"),
    (int(F.FLAG_NOCOMP), "N"),
    (int(F.FLAG_NOCOW), "C"),
    (int(F.FLAG_PROJINHERIT), "P"),
)
_FAT_LETTERS: tuple[tuple[int, str], ...] = (
    (int(F.FLAG_HIDDEN), "h"),
    (int(F.FLAG_SYSTEM), "s"),
    (int(F.FLAG_ARCHIVE), "a"),
)


def _octal(match: re.Match[bytes]) -> bytes:
    return _OCTAL[match[0]]


def escape(text: bytes) -> bytes:
    r"""Text that can be one field of a line: white space, control, non-ASCII, ``\`` and ``#`` become ``\ooo``."""
    # search() on clean text costs half of what sub() does, and nearly all names are clean.
    if not _ODD.search(text):
        return text
    return _ODD.sub(_octal, text) if len(text) < _LONG else _escape_long(text)


def _escape_long(text: bytes) -> bytes:
    """The same in a twentieth of the time, for text of which any byte may be odd: values of attributes."""
    out = bytearray(4 * len(text))
    for place, column in enumerate(_columns()):
        out[place::4] = text.translate(column)
    return bytes(out.translate(None, b"\0"))


@functools.cache
def _columns() -> tuple[bytes, ...]:
    """The first, second, third and fourth byte of what each byte becomes; 0 for none, where it stays one byte."""
    forms = [escape(char).ljust(4, b"\0") for char in _OCTAL]
    return tuple(bytes(form[place] for form in forms) for place in range(4))


def shown_path(path: bytes) -> bytes:
    """A node's path from the root, escaped; `.` for the root."""
    return escape(path) if path else b"."


def owner_name(id_: int, name: bytes | None, *, shifted: bool = False, id_range: int = 0) -> bytes | None:
    """The name to show for a user or group: the one recorded, or `root` for id 0, which archives have none for.

    :param name: empty for one that is known to have none
    :param shifted: whether ids are shown shifted (`--uid-shift`); 0 is then not root's, as casync sees it
    :param id_range: what ids are taken modulo (`--uid-range`), where they are shown as they are: root's are then all
        that become 0, as casync sees it; 0 for no such thing
    """
    if name is None and not shifted and not (id_ % id_range if id_range else id_):
        return b"root"
    return name or None


@functools.cache
def ls_mode(mode: int) -> bytes:
    """File type and permissions in ten characters, as `ls -l` has them.

    One difference to `ls`, which is casync's: a sticky bit is shown for directories only.
    """
    kind = mode & 0o170000
    out = [_KIND_LETTERS[kind]]
    for shift, special, letter in ((6, stat.S_ISUID, "s"), (3, stat.S_ISGID, "s"), (0, stat.S_ISVTX, "t")):
        bits = mode >> shift
        out.append("r" if bits & 4 else "-")
        out.append("w" if bits & 2 else "-")
        if mode & special and (letter == "s" or kind == stat.S_IFDIR):
            out.append(letter if bits & 1 else letter.upper())
        else:
            out.append("x" if bits & 1 else "-")
    return "".join(out).encode()


def _letters(flags: int, table: tuple[tuple[int, str], ...]) -> bytes:
    return "".join(letter if flags & bit else "-" for bit, letter in table).encode()


def chattr_letters(flags: int) -> bytes:
    """The chattr flags in ten characters, `SDiadAcNCP`, a dash for each that is not set.

    :param flags: as in `Node.flags`
    """
    return _letters(flags, _CHATTR_LETTERS)


def fat_letters(flags: int) -> bytes:
    """The FAT attributes in three characters, `hsa` for hidden, system, archive, a dash for each that is not set."""
    return _letters(flags, _FAT_LETTERS)
