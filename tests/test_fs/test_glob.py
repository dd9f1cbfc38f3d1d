"""Patterns match as C's fnmatch matches them: by a table, and side by side with the C library."""

from __future__ import annotations

import ctypes
import random
import sys

import pytest

from casync_compat.fs.glob import translate

FNM_PERIOD = 4

# (pattern, names that match, names that do not), written down from glibc 2.36 in the C locale.
TABLE = (
    (b"a", (b"a",), (b"", b"b", b"aa", b"A", b"a\n")),
    (b"", (b"",), (b"a",)),
    (b"*", (b"", b"a", b"abc", b"a.b", b"\xff\n"), (b".", b".a", b"..")),
    (b"**", (b"a", b"a.b"), (b".a",)),
    (b"?", (b"a", b"\xff", b"\n"), (b"", b".", b"ab")),
    (b"*.o", (b"a.o", b"a.b.o"), (b".o", b".h.o", b"a.O", b"a.o~")),
    (b".*", (b".", b"..", b".a"), (b"a", b"a.b")),
    (b"a*", (b"a", b"a.b", b"a\nb"), (b"ba", b".a")),
    (b"a?c", (b"abc", b"a.c"), (b"ac", b"abbc")),
    (b"?a", (b"ba",), (b".a",)),
    (b"*?", (b"a", b"ab"), (b"", b".", b".a")),
    (b"[.]a", (), (b".a",)),
    (b"[!a]b", (b"cb",), (b"ab", b".b")),
    (b"x[.]", (b"x.",), (b"x",)),
    (b"[abc]", (b"a", b"b", b"c"), (b"d", b"ab", b"")),
    (b"[a-c]", (b"a", b"b", b"c"), (b"d", b"-", b"A")),
    (b"[c-a]", (), (b"a", b"b", b"c", b"-")),
    (b"[!a-c]", (b"d", b"-"), (b"a", b"b", b".")),
    (b"[^a]", (b"b", b"^"), (b"a",)),
    (b"[]a]", (b"]", b"a"), (b"b",)),
    (b"[!]a]", (b"b",), (b"]", b"a")),
    (b"[a-]", (b"a", b"-"), (b"b",)),
    (b"[-a]", (b"a", b"-"), (b"b",)),
    (b"[--0]", (b"-", b"0"), (b"1",)),
    (b"[a-c-e]", (b"a", b"b", b"-", b"e"), (b"d",)),
    (b"[\\]]", (b"]",), (b"\\",)),
    (b"[a\\-c]", (b"a", b"-", b"c"), (b"b", b"\\")),
    (b"[a-\\c]", (b"a", b"b", b"c"), (b"\\", b"-")),
    (b"[\x80-\xff]", (b"\x80", b"\xe9", b"\xff"), (b"a",)),
    (b"[[:digit:]]", (b"0", b"9"), (b"a", b":")),
    (b"[[:digit:]-c]", (b"0", b"-", b"c"), (b"b",)),
    (b"[![:alpha:]]", (b"1", b"\xe9"), (b"a", b"Z")),
    (b"[[:alpha:][:digit:]_]", (b"a", b"1", b"_"), (b"-",)),
    (b"[[:space:]]", (b" ", b"\n", b"\v"), (b"a", b"\xa0")),
    (b"[[:nonsense:]]", (), (b"n", b"[", b":")),
    (b"[a[:nonsense:]b]", (b"a",), (b"b", b"n")),
    (b"[![:nonsense:]]", (), (b"a",)),
    (b"[[=a=]]", (b"a",), (b"=", b"b")),
    (b"[[.a.]-c]", (b"a", b"b", b"c"), (b".", b"-")),
    (b"[[.hyphen.]]", (), (b"-", b"h")),
    (b"[", (b"[",), (b"", b"a")),
    (b"[a", (b"[a",), (b"a",)),
    (b"a[", (b"a[",), (b"a",)),
    (b"[]", (b"[]",), (b"]", b"")),
    (b"[[", (b"[[",), (b"[",)),
    (b"[a-", (), (b"[a-", b"a", b"-")),
    (b"[a[=]", (b"[", b"="), (b"a",)),
    (b"[[-", (b"[[-",), (b"[", b"-")),
    (b"[a[.-", (), (b"[a[.-", b"a")),
    (b"[[:z:]]", (b"[]", b"z]", b":]"), (b"z",)),
    (b"[a[:]z", (b"az", b"[z", b":z"), (b"a",)),
    (b"[[=]=]]", (b"]",), (b"=", b"=]")),
    (b"*?[.]x", (b"ab.x",), (b"a.x", b".x")),
    (b"\\*", (b"*",), (b"a", b"\\*")),
    (b"\\a", (b"a",), (b"\\a",)),
    (b"\\.a", (b".a",), (b"a",)),
    (b"\\\\", (b"\\",), (b"\\\\",)),
    (b"a\\", (), (b"a", b"a\\")),
    (b"(a|b)+$^{2}", (b"(a|b)+$^{2}",), (b"a", b"ab")),
)  # fmt: skip


@pytest.mark.parametrize(("pattern", "matching", "others"), TABLE, ids=[repr(row[0]) for row in TABLE])
def test_table(pattern: bytes, matching: tuple[bytes, ...], others: tuple[bytes, ...]) -> None:
    """Each pattern takes the names that C's fnmatch takes, and no others."""
    regex = translate(pattern)
    assert [name for name in matching if not regex.match(name)] == []
    assert [name for name in others if regex.match(name)] == []


LIBC = ctypes.CDLL(None)


def _c_matches(pattern: bytes, name: bytes) -> bool:
    return bool(LIBC.fnmatch(pattern, name, FNM_PERIOD) == 0)


is_glibc = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(LIBC, "gnu_get_libc_version"),
    reason="other C libraries match malformed patterns otherwise",
)


@is_glibc
def test_table_is_what_the_c_library_does() -> None:
    """The table above is not our opinion: the C library agrees with every row."""
    for pattern, matching, others in TABLE:
        assert [name for name in matching if not _c_matches(pattern, name)] == []
        assert [name for name in others if _c_matches(pattern, name)] == []


PIECES = (
    b"*", b"?", b"[", b"]", b"!", b"^", b"\\", b".", b"a", b"b", b"z", b"1", b"\xff", b"\x80", b" ", b"\n", b"[a-c]",
    b"[!a]", b"[^a]", b"[]a]", b"[a-]", b"[!]-a]", b"[:alpha:]", b"[:digit:]", b"[:foo:]", b"[=a=]", b"[.a.]",
    b"[.-.]", b"[.aa.]", b"[:", b":]", b"-a", b"-", b":", b"=", b"[=", b"=]", b"[.", b".]", b"[:z:]", b"[=]=]",
    b"[.].]",
)  # fmt: skip
LETTERS = (
    b".", b"a", b"b", b"z", b"-", b"]", b"[", b"!", b"^", b"\\", b"1", b"\xff", b"\x80", b":", b"=", b"\n", b" ",
)  # fmt: skip


@is_glibc
@pytest.mark.parametrize("seed", range(2))
def test_like_the_c_library(seed: int) -> None:
    """Random patterns, malformed ones too, match random names exactly when C's fnmatch says so."""
    chance = random.Random(seed)
    for _ in range(5000):
        pattern = b"".join(chance.choices(PIECES, k=chance.randint(1, 7)))
        name = b"".join(chance.choices(LETTERS, k=chance.randint(1, 4)))
        # A name made from the pattern, so that matches are not rare.
        alike = pattern.replace(b"*", b"ab").replace(b"?", chance.choice(LETTERS))
        for candidate in (name, alike, alike.replace(b"\\", b"")):
            got = translate(pattern).match(candidate) is not None
            assert got == _c_matches(pattern, candidate), (pattern, candidate)
