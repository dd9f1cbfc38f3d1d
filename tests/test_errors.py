"""Errors as a program catches them: of one root, and of Python's classes where those say the same."""

from __future__ import annotations

import errno
import os
import pickle

import pytest

from casync_compat.errors import (
    CasyncError,
    ChunkMissing,
    FileError,
    FormatError,
    NotFound,
    UsageError,
    naming,
    translated,
)
from catar.errors import CatarError
from catar.errors import FormatError as CatarFormatError
from catar.errors import NotFound as CatarNotFound


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_a_file_error_is_an_oserror() -> None:
    """Whoever catches `OSError` gets number, reason and file name, as from the functions of `os`."""
    error = FileError(b"/x/\xff\n", "read", system_error(errno.EIO))
    assert isinstance(error, CasyncError)
    assert isinstance(error, OSError)
    assert not isinstance(error, UsageError)
    assert (error.errno, error.strerror) == (errno.EIO, "Input/output error")
    assert os.fsencode(error.filename) == error.path == b"/x/\xff\n"
    assert str(error) == "/x/\\xff\\n: cannot read: Input/output error"


def test_a_reason_of_our_own() -> None:
    """Without a system call there is no number, but a reason."""
    error = FileError("x", "archive", "it is not a directory")
    assert (error.errno, error.strerror, error.filename) == (0, "it is not a directory", "x")
    assert str(error) == "x: cannot archive: it is not a directory"


def test_what_is_missing_is_not_found() -> None:
    """The class follows from the number, as `OSError` does it."""
    error = FileError(b"x", "open", system_error(errno.ENOENT))
    assert type(error) is NotFound
    assert isinstance(error, FileNotFoundError)
    assert error.inside is None
    assert str(error) == "x: cannot open: No such file or directory"
    assert type(FileError(b"x", "open", system_error(errno.EACCES))) is FileError


def test_an_error_that_is_caught_again_stays_as_it_was() -> None:
    """The innermost file and deed are told, however often `OSError` is caught on the way."""
    inner = FileError(b"inner", "open", system_error(errno.ENOENT))
    outer = FileError(b"outer", "write", inner)
    assert type(outer) is NotFound
    assert (outer.path, outer.op, outer.errno, outer.filename) == (b"inner", "open", errno.ENOENT, "inner")
    assert str(outer) == str(inner)


def test_errors_of_the_format_are_translated() -> None:
    """They get the file's name: malformed ones keep their offset, paths their path, others their text."""
    wrapped = translated(CatarFormatError("the size is wrong", 17), b"x.catar")
    assert isinstance(wrapped, FormatError)
    assert (wrapped.reason, wrapped.path, wrapped.offset) == ("the size is wrong", b"x.catar", 17)
    missing = translated(CatarNotFound(b"a/b"), b"x\n.catar")
    assert isinstance(missing, NotFound)
    assert (missing.path, missing.inside, missing.filename) == (b"x\n.catar", b"a/b", "a/b")
    assert str(missing) == "x\\n.catar: no such path in the archive: a/b"
    assert "standard input" in str(translated(CatarError("odd"), None))


def test_names_are_added_where_they_miss() -> None:
    """An error that names a file keeps it."""
    with pytest.raises(FormatError) as caught, naming(b"x.caidx"):
        raise FormatError("short", None, 3)
    assert (caught.value.path, caught.value.offset) == (b"x.caidx", 3)
    with pytest.raises(FormatError) as caught, naming(b"x.caidx"):
        raise FormatError("short", b"chunk", 3)
    assert caught.value.path == b"chunk"
    with pytest.raises(NotFound), naming(b"x.catar"):
        raise CatarNotFound(b"a")


@pytest.mark.parametrize(
    "error",
    [
        FileError(b"x", "read", system_error(errno.EIO)),
        FileError(b"x", "open", system_error(errno.ENOENT)),
        FileError(b"x", "archive", "it is odd"),
        NotFound.in_archive(b"x.catar", b"a/\xff"),
        FormatError("bad", b"x", 7),
        ChunkMissing(bytes(32), "a store"),
        CatarNotFound(b"a"),
        CatarFormatError("bad", 7),
    ],
    ids=lambda error: str(error)[:30],
)
def test_errors_cross_processes(error: Exception) -> None:
    """A pool of processes hands them over whole."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert {k: v for k, v in vars(back).items() if k != "cause"} == {
        k: v for k, v in vars(error).items() if k != "cause"
    }
    if isinstance(error, FileError):
        assert (back.errno, back.filename) == (error.errno, error.filename)
