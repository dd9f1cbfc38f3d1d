"""Shell patterns over bytes as C's `fnmatch(..., FNM_PERIOD)` in the C locale matches them, that of glibc.

`fnmatch` of the standard library differs: it has no backslash escapes and lets `*` match a leading period.

    >>> translate(b"*.o").match(b"a.o")

Patterns become regular expressions. A bracket expression with another `[` in it - a class, an equivalence, a collating
symbol, or one of these that is malformed - may end at another place for each character that it is asked about, since
glibc passes over the rest of it in another way once something in it matched. Such patterns are walked instead.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache
from typing import Literal, Protocol

__all__ = ["Glob", "translate"]

_OPEN, _CLOSE, _BACKSLASH, _MINUS, _COLON, _EQUALS, _DOT = b"[]\\-:=."
_STAR, _ANY = b"*?"
_NOT = b"!^"
_END = 0
"""What a pattern ends with here; in one there is none."""
_LETTERS = range(ord("a"), ord("z"))
"""What names of classes are made of to glibc: no z."""
_LONGEST = 256
_CLASSES = {
    name: frozenset(members.encode())
    for name, members in (
        (b"alnum", string.ascii_letters + string.digits),
        (b"alpha", string.ascii_letters),
        (b"blank", " \t"),
        (b"cntrl", "".join(map(chr, (*range(32), 127)))),
        (b"digit", string.digits),
        (b"graph", string.ascii_letters + string.digits + string.punctuation),
        (b"lower", string.ascii_lowercase),
        (b"print", string.ascii_letters + string.digits + string.punctuation + " "),
        (b"punct", string.punctuation),
        (b"space", string.whitespace),
        (b"upper", string.ascii_uppercase),
        (b"xdigit", string.hexdigits),
    )
}


class Glob(Protocol):
    """A pattern."""

    def match(self, string: bytes, /) -> object:
        """Whether a whole name matches: something true, or None."""


class _Dead(Exception):
    """glibc gives up here: no name matches."""


class _Unclosed(Exception):
    """The bracket never closes, so that its `[` is an ordinary character."""


class _Bracket:
    """A bracket expression, asked about one character. A pattern ends with a NUL here.

    :param at: where its `[` is
    :ivar at: what is read next
    """

    def __init__(self, glob: bytes, at: int, char: int) -> None:
        self._glob = glob
        self._char = char
        self.at = at + 1

    def outcome(self) -> bool:
        """Whether the character matches; `at` is what follows then.

        :raises _Dead: no name can match
        :raises _Unclosed: it is no bracket expression
        """
        negated = self._glob[self.at] in _NOT
        self.at += negated
        if self._search():
            self._pass_over()
            return not negated
        return negated

    def _next(self) -> int:
        self.at += 1
        return self._glob[self.at - 1]

    def _search(self) -> bool:
        """Read members until one matches, or the bracket closes. A `]` in the first place is a member."""
        first = True
        while True:
            char = self._next()
            if char == _CLOSE and not first:
                return False
            if char == _END:
                raise _Unclosed
            if self._member(char):
                return True
            first = False

    def _member(self, char: int) -> bool:
        follows = self._glob[self.at]
        if char == _OPEN and follows == _COLON and (name := self._class()) is not None:
            if name not in _CLASSES:
                raise _Dead
            return self._char in _CLASSES[name]
        if char == _OPEN and follows == _EQUALS and (same := self._equivalent()) is not None:
            return self._char == same
        if char == _OPEN and follows == _DOT:
            char = self._symbol()
            is_range = self._glob[self.at] == _MINUS and self._glob[self.at + 1] != _END
        else:
            if char == _BACKSLASH:
                char = self._escaped()
            is_range = self._glob[self.at] == _MINUS and self._glob[self.at + 1] not in (_END, _CLOSE)
        if not is_range and char == self._char:
            return True
        if self._glob[self.at] != _MINUS or self._glob[self.at + 1] == _CLOSE:
            return False
        self.at += 1
        last = self._range_end()
        return char <= self._char <= last

    def _range_end(self) -> int:
        char = self._next()
        if char == _OPEN and self._glob[self.at] == _DOT:
            return self._symbol()
        if char == _BACKSLASH:
            return self._escaped()
        if char == _END:
            raise _Dead
        return char

    def _escaped(self) -> int:
        if self._glob[self.at] == _END:
            raise _Dead
        return self._next()

    def _class(self) -> bytes | None:
        """The name of a class; None, and nothing is read, where this cannot be one. The colon is next."""
        at = self.at + 1
        while self._glob[at] in _LETTERS and at - self.at <= _LONGEST:
            at += 1
        if at - self.at > _LONGEST:
            raise _Dead
        if self._glob[at : at + 2] != b":]":
            return None
        name = self._glob[self.at + 1 : at]
        self.at = at + 2
        return name

    def _equivalent(self) -> int | None:
        """The character of `[=x=]`; None, and nothing is read, where this is none. The equals sign is next."""
        char = self._glob[self.at + 1]
        if char == _END or self._glob[self.at + 2 : self.at + 4] != b"=]":
            return None
        self.at += 4
        return char

    def _symbol(self) -> int:
        """The character that a collating symbol, `[.x.]`, stands for; in the C locale each has one. The dot is next."""
        name = self._symbol_name()
        if len(name) != 1:
            raise _Dead
        return name[0]

    def _symbol_name(self) -> bytes:
        close = self._glob.find(b".]", self.at + 1)
        if close < 0:
            raise _Dead
        name = self._glob[self.at + 1 : close]
        self.at = close + 2
        return name

    def _pass_over(self) -> None:
        """Read on to where the bracket closes, after something in it matched."""
        while (char := self._next()) != _CLOSE:
            follows = self._glob[self.at] if char != _END else _END
            if char == _END:
                raise _Unclosed
            if char == _BACKSLASH:
                self._escaped()
            elif char == _OPEN and follows == _COLON:
                self._class()
            elif char == _OPEN and follows == _EQUALS:
                if self._equivalent() is None:
                    raise _Dead
            elif char == _OPEN and follows == _DOT:
                self._symbol_name()


class _Walked:
    """A pattern that is walked for each name, from every place that may be come to, once each."""

    def __init__(self, glob: bytes) -> None:
        self._glob = glob + bytes(1)

    def match(self, string: bytes, /) -> Literal[True] | None:
        """Whether a whole name matches."""
        # Where in the pattern, where in the name, and whether a period there must be matched by one.
        pending = [(0, 0, True)]
        seen = set()
        while pending:
            state = pending.pop()
            if state in seen:
                continue
            seen.add(state)
            at, there, leads = state
            if self._glob[at] == _END:
                if there == len(string):
                    return True
            elif self._glob[at] == _STAR:
                if string[there : there + 1] == b"." and leads:
                    continue
                while self._glob[at] in (_STAR, _ANY):
                    there += self._glob[at] == _ANY
                    at += 1
                if there <= len(string) and self._glob[at] == _END:
                    return True
                pending += [(at, n, leads and n == there) for n in range(there, len(string))]
            elif there < len(string):
                following = self._one(at, string[there], leads)
                if following:
                    pending.append((following, there + 1, False))
        return None

    def _one(self, at: int, char: int, leads: bool) -> int:
        """What follows in the pattern when it takes one character; 0 when it does not."""
        wanted = self._glob[at]
        if wanted in (_ANY, _OPEN) and char == _DOT and leads:
            return 0
        if wanted == _ANY:
            return at + 1
        if wanted == _OPEN:
            bracket = _Bracket(self._glob, at, char)
            try:
                return bracket.at if bracket.outcome() else 0
            except _Dead:
                return 0
            except _Unclosed:
                pass  # an ordinary character, as below
        elif wanted == _BACKSLASH:
            at += 1
            wanted = self._glob[at]
        return at + 1 if char == wanted else 0


_NESTED = re.compile(rb"\[[^]]*\[|\[\].*\[", re.DOTALL)
_LEADING = re.compile(rb"[*?]*\*[*?]*\?[*?]*\[|[*?]*\?[*?]*\*[*?]*\[")


@lru_cache(maxsize=1024)
def translate(glob: bytes) -> Glob:
    """A pattern whose `match` tells whether a whole name matches `glob`."""
    # glibc takes a period for a leading one, too, where stars and question marks at the beginning led to it.
    if _NESTED.search(glob) or _LEADING.match(glob):
        return _Walked(glob)
    try:
        return re.compile(_expression(glob) + rb"\Z", re.DOTALL)
    except _Dead:
        return re.compile(rb"(?!)")


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value


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
        elif char == b"[" and (plain := _plain_bracket(glob, i)) is not None:
            out += guard + plain[0]
            i = plain[1]
        else:
            i += char == b"\\"
            if i >= len(glob):
                raise _Dead
            out += _byte(glob[i])
            i += 1
    return out


def _plain_bracket(glob: bytes, at: int) -> tuple[bytes, int] | None:
    """One without another `[` in it, as a regular expression, and where it ends; None when it never closes."""
    ended = glob + bytes(1)
    taken = bytearray()
    end, unclosed = len(glob), False
    for char in range(256):
        bracket = _Bracket(ended, at, char)
        try:
            if bracket.outcome():
                taken.append(char)
                end = bracket.at
        except _Unclosed:
            unclosed |= char == _OPEN
        except _Dead:
            pass
    if unclosed:
        return None
    return (b"[" + b"".join(map(_byte, taken)) + b"]" if taken else b"(?!)"), end
