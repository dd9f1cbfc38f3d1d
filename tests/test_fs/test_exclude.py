"""`.caexclude` rules: how lines are read, and which children they leave out."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.errors import FormatError
from casync_compat.fs.exclude import Rule, decide, parse_rules

Tree = dict[str, "Tree | None"]


def left(tree: Tree, files: dict[str, bytes]) -> set[str]:
    """The paths of a tree that stay; `files` has the contents of the `.caexclude` of each directory that has one."""
    out: set[str] = set()

    def walk(children: Tree, path: str, inherited: list[Rule]) -> None:
        rules = inherited + parse_rules(files.get(path, b""), b".caexclude")
        for name, below in children.items():
            excluded, passed_on = decide(rules, os.fsencode(name), below is not None)
            if not excluded:
                here = f"{path}/{name}".strip("/")
                out.add(here)
                if below is not None:
                    walk(below, here, passed_on)

    walk(tree, "", [])
    return out


def excludes(rules: bytes, name: bytes, *, is_dir: bool = False) -> bool:
    """Whether a file of rules keeps one child out."""
    return decide(parse_rules(rules, b".caexclude"), name, is_dir)[0]


def test_the_recorded_tree() -> None:
    """The tree of vector V12 comes out as casync 2 lists it."""
    tree: Tree = {
        "a.o": None,
        ".h.o": None,
        "foo": {"x": None},
        "sub": {"b.o": None, "foo": {"z": None}, "keep": {"c.o": None}},
    }
    files = {"": b"# comment\n\n*.o\nfoo/\n", "sub": b"!c.o\n"}
    assert left(tree, files) == {".h.o", "sub", "sub/foo", "sub/foo/z", "sub/keep", "sub/keep/c.o"}


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        (b"x", b"x"),
        (b"x\n", b"x"),
        (b"  x\t \n", b"x"),
        (b"\n\n# no\n  # neither\nx", b"x"),
        (b"y\0x", b"x"),
        (b"y\nx\0z", b"x"),
        (b"a b", b"a b"),
        (b"x#y", b"x#y"),
        (b"\\#x", b"#x"),
        (b"\\!x", b"!x"),
        (b"x\r\n", b"x"),
        (b"\xff\xfe", b"\xff\xfe"),
        (b"/x", b"x"),
        (b"//x", b"x"),
        (b"a\\\nx", b"x"),
    ],
)
def test_lines(rules: bytes, name: bytes) -> None:
    """Lines end at line feeds and NULs, blanks around them do not count, comments and empty lines are passed over."""
    assert excludes(rules, name)


@pytest.mark.parametrize(
    ("rules", "name"),
    [(b"#x", b"#x"), (b"x\r\n", b"x\r"), (b"", b""), (b"  \t\n", b" "), (b"!x", b"x"), (b"x y", b"x")],
)
def test_lines_that_exclude_nothing(rules: bytes, name: bytes) -> None:
    """Comments, blank lines and rules for other names leave a name alone."""
    assert not excludes(rules, name)


@pytest.mark.parametrize(
    "line", [b"/", b"//", b"!", b"!/", b".", b"..", b"./x", b"a/../b", b"a/.", b"!..", b"/./", b"a//.."]
)
def test_rules_that_name_no_path(line: bytes) -> None:
    """A rule without a name, or with `.` or `..` in it, is an error that tells the file and the offset of the line."""
    with pytest.raises(FormatError) as caught:
        parse_rules(b"good\n" + line + b"\n", b"dir/.caexclude")
    assert caught.value.path == b"dir/.caexclude"
    assert caught.value.offset == 5
    assert "names no path" in str(caught.value)


def test_error_texts_are_one_line() -> None:
    """Whatever bytes a bad rule has, its message stays one printable line."""
    with pytest.raises(FormatError) as caught:
        parse_rules(b"\xff\x1b/..", b"\xfe/.caexclude")
    assert str(caught.value).isprintable()


def test_directories_only() -> None:
    """A rule that ends in a slash excludes directories alone."""
    assert excludes(b"x/", b"x", is_dir=True)
    assert not excludes(b"x/", b"x")


def test_a_slash_anywhere_anchors() -> None:
    """Rules with a slash hold where their file stands; those without travel down."""
    tree: Tree = {"foo": {"k": None}, "sub": {"foo": {"k": None}, "foo2": None}}
    assert left(tree, {"": b"foo"}) == {"sub", "sub/foo2"}
    for rules in (b"foo/", b"/foo", b"/foo/"):
        assert left(tree, {"": rules}) == {"sub", "sub/foo", "sub/foo/k", "sub/foo2"}


def test_rules_of_several_components() -> None:
    """`a/b` excludes b in a, and only there; inner components match as patterns do."""
    tree: Tree = {"a": {"b": None, "c": None}, "ax": {"b": None}, "b": None, "d": {"a": {"b": None}}}
    assert left(tree, {"": b"a/b"}) == {"a", "a/c", "ax", "ax/b", "b", "d", "d/a", "d/a/b"}
    assert left(tree, {"": b"a*/b"}) == {"a", "a/c", "ax", "b", "d", "d/a", "d/a/b"}
    assert left(tree, {"": b"*/*/b"}) == {"a", "a/b", "a/c", "ax", "ax/b", "b", "d", "d/a"}
    assert left(tree, {"": b"a//b"}) == left(tree, {"": b"a/b"})


def test_inner_components_are_directories() -> None:
    """The first part of `a/b` is never a file, and leaves directories of that name in."""
    assert not excludes(b"a/b", b"a")
    assert not excludes(b"a/b", b"a", is_dir=True)


def test_any_negative_rule_wins() -> None:
    """`!` keeps a name, whatever the order of rules and whichever file they come from."""
    for rules in (b"*\n!x", b"!x\n*", b"x\n!x\nx"):
        assert not excludes(rules, b"x")
    assert left({"d": {"x": None, "y": None}}, {"": b"x\ny", "d": b"!x"}) == {"d", "d/x"}
    assert left({"d": {"x": None, "y": None}}, {"": b"!x", "d": b"x\ny"}) == {"d", "d/x"}


def test_nothing_in_an_excluded_directory_can_be_kept() -> None:
    """An excluded directory goes whole."""
    assert left({"d": {"x": None}}, {"": b"d\n!x"}) == set()


def test_two_stars_are_one() -> None:
    """`**` has no meaning of its own."""
    tree: Tree = {"a": {"b": {"c": None}}}
    assert left(tree, {"": b"a/**/c"}) == {"a", "a/b"}
    assert left(tree, {"": b"**/c"}) == {"a", "a/b", "a/b/c"}


def test_a_leading_period_is_literal() -> None:
    """`*` leaves dot files alone."""
    assert not excludes(b"*", b".git", is_dir=True)
    assert excludes(b".*", b".git", is_dir=True)


def test_its_own_file_can_be_excluded() -> None:
    """`.caexclude` is a name like any other."""
    assert excludes(b".caexclude", b".caexclude")
    assert not excludes(b"*", b".caexclude")


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name))
def test_any_bytes_are_rules_or_an_error(data: bytes, name: bytes) -> None:
    """Whatever a file holds, it parses to rules that can be asked, or raises the one error, inside the file."""
    offset = None
    try:
        rules = parse_rules(data, b"f")
    except FormatError as error:
        offset, rules = error.offset, []
    assert offset is None or 0 <= offset <= len(data)
    for is_dir in (False, True):
        excluded, below = decide(rules, name, is_dir)
        assert rules or not (excluded or below)
        assert is_dir or not below


def test_the_longest_line() -> None:
    """65535 bytes are a rule, one more is an error with the line's offset, as casync has it."""
    assert len(parse_rules(b"x" * 65535 + b"\nshort", b"f")) == 2
    with pytest.raises(FormatError, match="65536 bytes is too long") as caught:
        parse_rules(b"fine\n" + b"x" * 65536, b"f")
    assert caught.value.offset == 5


def test_files_from_elsewhere() -> None:
    """Lines that end in CR LF, and a UTF-8 mark at the begin, are no part of a rule; CR within a line is."""
    plain = parse_rules(b"*.o\n!keep.o\nb\rc\n/last", b"x")
    assert parse_rules(b"\xef\xbb\xbf*.o\r\n!keep.o\r\nb\rc\r\n\r\n/last\r", b"x") == plain
    assert decide(plain, b"b\rc", False)[0]
