"""Who uses a directory, for the message that a mount cannot be taken away."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from casync_compat.errors import FileError
from casync_compat.fs.inuse import in_use, users_of
from casync_compat.mount import session
from casync_compat.oci.rootfs import kernelmount


@pytest.fixture
def user(tmp_path: Path) -> Iterator[str]:
    """This process has a file open there."""
    with open(tmp_path / "open", "wb"):
        yield f"({os.getpid()})"


def test_who(tmp_path: Path, user: str) -> None:
    """By open files and by the directory in which a process is; a directory that only begins alike is another one."""
    assert [one for one in users_of(bytes(tmp_path)) if one.endswith(user)]
    assert users_of(bytes(tmp_path) + b"x") == []
    with subprocess.Popen(["cat"], cwd=tmp_path, stdin=subprocess.PIPE) as there:
        assert f"cat ({there.pid})" in users_of(bytes(tmp_path))
        assert there.stdin is not None
        there.stdin.close()


def test_what_to_do(tmp_path: Path, user: str) -> None:
    """The message names them, or the program that does, and the way out."""
    assert user in in_use(bytes(tmp_path))
    text = in_use(bytes(tmp_path) + b"x")
    assert "`fuser -vm" in text
    assert "`umount -l" in text


def test_unmounting(tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel and by FUSE."""

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(kernelmount, "_unmount", busy)
    with pytest.raises(FileError, match=rf"it is in use by .*\({os.getpid()}\).*umount -l"):
        kernelmount.unmount(bytes(tmp_path))
    said = b"fusermount3: failed to unmount x: Device or resource busy\n"
    monkeypatch.setattr(session, "_run", lambda *_: subprocess.CompletedProcess[bytes]([], 1, b"", said))
    with pytest.raises(FileError, match=rf"it is in use by .*\({os.getpid()}\)"):
        session.unmount(bytes(tmp_path))
