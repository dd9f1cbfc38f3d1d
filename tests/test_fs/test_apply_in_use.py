"""What a run reads is not replaced by what it writes, also where the archive is not known beforehand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from applying import apply, d, f, link, listing

from casync_compat.errors import FileError


@pytest.mark.parametrize("delete", [True, False])
def test_an_entry_where_something_is_in_use(tmp_path: Path, delete: bool) -> None:
    """It stays, nothing of the entry is written, the rest is, and the run fails in the end and names it."""
    target = tmp_path / "out"
    (target / "store").mkdir(parents=True)
    (target / "store" / "chunk").write_text("chunk")
    (target / "index").write_text("index")
    (target / "sub").mkdir()
    (target / "sub" / "seed").write_text("seed")
    used = [os.fsencode(target / name) for name in ("store", "index", "sub/seed")]
    top = d(
        b"",
        f(b"after", b"1"),
        f(b"index", b"from the archive"),
        d(b"store", f(b"chunk", b"other"), d(b"deep", f(b"er"))),
        link(b"sub", b"elsewhere"),
        f(b"zlast", b"2"),
    )
    with pytest.raises(FileError, match="in use") as caught:
        apply(target, top, in_use=tuple(used), delete=delete)
    assert caught.value.path == os.fsencode(target / "index")
    assert listing(target) == {
        "after": "1",
        "index": "index",
        "store": "/",
        "store/chunk": "chunk",
        "sub": "/",
        "sub/seed": "seed",
        "zlast": "2",
    }
