"""What a name says about a file."""

from __future__ import annotations

import pytest

from casync_compat.kinds import Kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"x.catar", Kind.ARCHIVE),
        (b"x.caidx", Kind.ARCHIVE_INDEX),
        (b"x.caibx", Kind.BLOB_INDEX),
        (b"/a/b.caibx/x.catar", Kind.ARCHIVE),
        (b"x.caidx.catar", Kind.ARCHIVE),
        (b"x.catar/", Kind.ARCHIVE),
        (b"\xff\n.caidx", Kind.ARCHIVE_INDEX),
        (b"..caidx", Kind.ARCHIVE_INDEX),
        (b".catar", None),
        (b"dir/.caidx", None),
        (b"x.catar/y", None),
        (b"x.CATAR", None),
        (b"x.catar.gz", None),
        (b"xcatar", None),
        (b"x.castr", None),
        (b"x", None),
        (b"", None),
        (b"/", None),
    ],
)
def test_suffix(path: bytes, kind: Kind | None) -> None:
    """The suffix of the last component counts, behind a stem that is not empty, in lower case."""
    assert Kind.of_suffix(path) is kind


def test_what_kinds_are() -> None:
    """Indexes need a store; archives, their indexes and directories have files in them."""
    assert [kind for kind in Kind if kind.is_index] == [Kind.ARCHIVE_INDEX, Kind.BLOB_INDEX]
    assert [kind for kind in Kind if kind.is_tree] == [Kind.ARCHIVE, Kind.ARCHIVE_INDEX, Kind.DIRECTORY]
