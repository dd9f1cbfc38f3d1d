"""Shell patterns over bytes as C's `fnmatch(..., FNM_PERIOD)` in the C locale matches them.

`fnmatch` of the standard library differs: it has no backslash escapes and lets `*` match a leading period.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["translate"]

_NEVER = re.compile(rb"(?!)")
_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": rb" \t\n\r\f\v",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}


_NAMED = re.compile(rb"\[:([a-y]*):\]")
_SAME_AS = re.compile(rb"\[=(.)=\]", re.DOTALL)


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value


class _NeverMatchesError(Exception):
    """The pattern is malformed in a way that lets it match no name at all."""


class _Bracket:
    """A bracket expression, read as glibc reads it (`posix/fnmatch_loop.c`), common malformed ones included.

    What glibc makes of some others (`[a[=]`, `[[-`) depends on which of its characters matches; no rule says more.

    :ivar end: where it ends; 0 when it never closes, and its `[` is an ordinary character
    :raises _NeverMatchesError: where glibc gives up
    """

    def __init__(self, glob: bytes, at: int) -> None:
        self.end = 0
        self._glob = glob
        self._i = at + 1
        self._parts: list[bytes] = []
        self._spoilt = False
        self._negated = glob[self._i : self._i + 1] in (b"!", b"^")
        self._i += self._negated
        first = self._i
        while self._i < len(glob):
            if glob[self._i] == ord("]") and self._i > first:
                self.end = self._i + 1
                return
            self._element()
        if self._spoilt:
            raise _NeverMatchesError

    def pattern(self) -> bytes:
        """The regular expression for one character."""
        if not self._negated:
            return self._union()
        return b"(?!)" if self._spoilt else b"(?!" + self._union() + b")."

    def _union(self) -> bytes:
        return b"[" + b"".join(self._parts) + b"]" if self._parts else b"(?!)"

    def _add(self, part: bytes) -> None:
        # A character that nothing before an invalid class name matches, nothing behind it matches either.
        if not self._spoilt:
            self._parts.append(part)

    def _element(self) -> None:
        glob = self._glob
        if named := _NAMED.match(glob, self._i):
            self._i = named.end()
            if named[1] in _CLASSES:
                self._add(_CLASSES[named[1]])
            else:
                self._spoilt = True
        elif same := _SAME_AS.match(glob, self._i):
            self._i = same.end()
            self._add(_byte(same[1][0]))
        else:
            low = high = self._character()
            if glob[self._i : self._i + 1] == b"-" and glob[self._i + 1 : self._i + 2] != b"]":
                self._i += 1
                high = self._character()
            if low <= high:
                self._add(_byte(low) + b"-" + _byte(high))

    def _character(self) -> int:
        if self._glob.startswith(b"[.", self._i):
            return self._symbol()
        self._i += self._glob.startswith(b"\\", self._i)
        if self._i >= len(self._glob):
            raise _NeverMatchesError
        self._i += 1
        return self._glob[self._i - 1]

    def _symbol(self) -> int:
        """The character that a collating symbol, `[.x.]`, stands for; in the C locale each has one."""
        close = self._glob.find(b".]", self._i + 2)
        if close < 0:
            raise _NeverMatchesError
        name = self._glob[self._i + 2 : close]
        self._i = close + 2
        self._spoilt |= len(name) != 1
        return name[0] if name else 0


@lru_cache(maxsize=1024)
def translate(glob: bytes) -> re.Pattern[bytes]:
    """A pattern whose `match` tells whether a whole name matches `glob`."""
    try:
        return re.compile(_expression(glob) + rb"\Z", re.DOTALL)
    except _NeverMatchesError:
        return _NEVER


def _expression(glob: bytes) -> bytes:
    out = b""
    i = 0
    while i < len(glob):
        char = glob[i : i + 1]
        # FNM_PERIOD: at the very start of the name, only a literal period matches one.
        guard = b"(?!\\.)" if i == 0 else b""
        if char == b"*":
            while glob[i : i + 1] == b"*":
                i += 1
            out += guard + b".*"
        elif char == b"?":
            out += guard + b"."
            i += 1
        elif char == b"[" and (bracket := _Bracket(glob, i)).end:
            out += guard + bracket.pattern()
            i = bracket.end
        else:
            i += char == b"\\"
            if i >= len(glob):
                raise _NeverMatchesError
            out += _byte(glob[i])
            i += 1
    return out
