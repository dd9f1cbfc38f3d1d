"""The file that says what each token may do: what it may say, and what a wrong one is told."""

from __future__ import annotations

import os
import socket
from hashlib import sha256
from pathlib import Path

import pytest

from casync_compat.errors import FileError, UsageError
from casync_compat.serve.tokens import read_tokens

HASH = sha256(b"word").hexdigest()


def test_what_a_file_says(tmp_path: Path) -> None:
    """Names that may be read and written, a token by its hash in either case, and what anybody may."""
    path = tmp_path / "tokens"
    path.write_text(
        f'anybody = ["public"]\n[[token]]\nsha256 = "{HASH.upper()}"\n'
        'read = ["public", "indexes"]\nwrite = ["indexes"]\ncomment = "of the builder"\n'
    )
    tokens, anybody = read_tokens(str(path))
    assert list(tokens) == [HASH]
    assert (tokens[HASH].read, tokens[HASH].write) == ({"public", "indexes"}, {"indexes"})
    assert (anybody.read, anybody.write) == ({"public"}, frozenset())


def test_an_empty_file_gives_nobody_anything(tmp_path: Path) -> None:
    """No line grants nothing."""
    path = tmp_path / "tokens"
    path.touch()
    tokens, anybody = read_tokens(str(path))
    assert not tokens
    assert not anybody.read
    assert not anybody.write


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("anybody = [", "Invalid value"),
        ('everybody = ["x"]', "unknown key 'everybody'"),
        ('anybody = "public"', "anybody is a list of names"),
        ("anybody = [1]", "anybody is a list of names"),
        ("token = 3", r"tokens are written as \[\[token\]\]"),
        ('token = ["x"]', r"tokens are written as \[\[token\]\]"),
        ("[[token]]\nread = []", "no sha256 of 64 hexadecimal digits"),
        ('[[token]]\nsha256 = "word"', "no sha256 of 64 hexadecimal digits"),
        (f'[[token]]\nsha256 = "{HASH}"\nreads = []', "unknown key 'reads'"),
        (f'[[token]]\nsha256 = "{HASH}"\nwrite = "all"', "write is a list of names"),
        (b"\xff\xfe", "it is not TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str | bytes, said: str) -> None:
    """What is wrong is told with the file, whoever wrote it."""
    path = tmp_path / "tokens"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UsageError, match=said) as caught:
        read_tokens(str(path))
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is an error of files, not an open door."""
    with pytest.raises(FileError, match="tokens"):
        read_tokens(str(tmp_path / "tokens"))


@pytest.mark.parametrize("what", ["fifo", "directory", "socket", "terminal"])
def test_what_is_no_regular_file(tmp_path: Path, what: str) -> None:
    """It is refused at once: nobody waits for a writer, and what is read again must be there again."""
    path = tmp_path / "tokens"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    else:
        path = Path("/dev/null")
    with pytest.raises((UsageError, FileError), match="tokens"):
        read_tokens(str(path))


def test_a_large_file(tmp_path: Path) -> None:
    """Nothing without bounds is read."""
    path = tmp_path / "tokens"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="no more than 16 MiB"):
        read_tokens(str(path))
