"""ACLs as text: what `getfacl` writes, `setfacl` reads, and star and GNU tar put into archives; and what is refused."""

from __future__ import annotations

import pwd

import posix1e
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.acltext import (
    GROUP,
    GROUP_OBJ,
    MASK,
    OTHER,
    TEXT_MAX,
    USER,
    USER_OBJ,
    Entry,
    from_text,
    to_text,
)

permissions = st.integers(0, 7)
ids = st.dictionaries(st.integers(0, 0xFFFFFFFE), permissions, max_size=5)


@st.composite
def acls(draw: st.DrawFn) -> list[Entry]:
    """Valid ACLs, in the order of their tags and ids."""
    users, groups = draw(ids), draw(ids)
    out: list[Entry] = [(USER_OBJ, draw(permissions), None)]
    out += [(USER, users[id_], id_) for id_ in sorted(users)]
    out.append((GROUP_OBJ, draw(permissions), None))
    out += [(GROUP, groups[id_], id_) for id_ in sorted(groups)]
    if users or groups or draw(st.booleans()):
        out.append((MASK, draw(permissions), None))
    out.append((OTHER, draw(permissions), None))
    return out


@given(acls())
def test_there_and_back(entries: list[Entry]) -> None:
    """What is written is read back, and libacl reads it too."""
    text = to_text(entries)
    assert text is not None
    assert from_text(text.encode()) == entries
    assert posix1e.ACL(text=text).valid()


@pytest.mark.parametrize(
    "text",
    [
        b"user::rwx,user:33:r-x,group::r-x,mask::r-x,other::---",
        b"u::rwx,u:33:r-x,g::r-x,m::r-x,o::---",
        b"user::rwx\nuser:33:r-x\t#effective:r-x\ngroup::r-x\nmask::r-x\nother::---\n",
        b"user::rwx,user:www-data:r-x:33,group::r-x,mask::r-x,other::---\0",
        b"other::---,mask::r-x,group::r-x,user::rwx,user:33:r-x",
    ],
)
def test_forms(text: bytes) -> None:
    """Long and short, by lines and by commas, with star's numbers behind the names."""
    expected = [(USER_OBJ, 7, None), (USER, 5, 33), (GROUP_OBJ, 5, None), (MASK, 5, None), (OTHER, 0, None)]
    assert sorted(from_text(text), key=lambda entry: entry[:1]) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "needs owner"),
        (b"user::rwx", "needs owner"),
        (b"u::rwx,u:1:r--,g::r--,o::r--", "a mask where it names"),
        (b"u::rwx,u:1:r--,u:1:r--,g::r--,m::r--,o::r--", "once each"),
        (b"u::rwx,u:root:r--,g::r--,m::r--,o::r--", "name without a number"),
        (b"u::rwx,u:4294967295:r--,g::r--,m::r--,o::r--", "an id that there is not"),
        (b"u::rwx,g::r--,o:1:r--", "no entry"),
        (b"u::7,g::r--,o::r--", "no entry"),
        (b"u::rwx,g::r--,o::r--,\xff\0\n", "no entry"),
        (b"default:u::rwx,g::r--,o::r--", "no entry"),
        (b"u::rwx," * TEXT_MAX, "too long"),
    ],
)
def test_refused(text: bytes, says: str) -> None:
    """What is no whole ACL is refused in one line."""
    with pytest.raises(ValueError, match=says) as caught:
        from_text(text)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200) | st.text("ugmo:rwx-,0123456789#\n", max_size=200).map(str.encode))
def test_anything(text: bytes) -> None:
    """Whatever the text: entries that are an ACL, or a ValueError."""
    try:
        entries = from_text(text)
    except ValueError:
        return
    written = to_text(entries)
    assert written is not None
    assert posix1e.ACL(text=written).valid()


def test_nobody_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of this host is not taken for the user that it has here."""
    assert pwd.getpwnam("root")
    with pytest.raises(ValueError, match="name without a number"):
        from_text(b"u::rwx,u:root:r--,g::r--,m::r--,o::r--")
    assert "root" not in str(
        to_text([(USER_OBJ, 7, None), (USER, 4, 0), (GROUP_OBJ, 4, None), (OTHER, 4, None)])
    )
