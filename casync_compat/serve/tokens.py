"""The file of tokens, in TOML:

anybody = ["public"]                # stores that are read without a token; `indexes` are the indexes and archives

[[token]]
sha256 = "9f86d081..."              # of the token, which the file need not hold
read = ["public", "internal", "indexes"]
write = ["internal", "indexes"]
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping

from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.serve.access import Grant

__all__ = ["read_tokens"]

_LARGEST = 16 << 20
_KEYS = frozenset({"sha256", "read", "write", "comment"})


def read_tokens(path: str) -> tuple[Mapping[str, Grant], Grant]:
    """What each token may do, by its hash, and what anybody may.

    :raises UsageError: the file is no such file
    :raises FileError: it cannot be read
    """
    try:
        said = tomllib.loads(_content(path).decode())
    except OSError as error:
        raise FileError(path, "read", error) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{show_path(path)}: it is not TOML, which is UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{show_path(path)}: {error}") from error
    if unknown := sorted(said.keys() - {"anybody", "token"}):
        raise UsageError(f"{show_path(path)}: unknown key {unknown[0]!r}; known are anybody and token")
    tokens: dict[str, Grant] = {}
    rows = said.get("token", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{show_path(path)}: tokens are written as [[token]]")
    for row in rows:
        digest = row.get("sha256")
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise UsageError(f"{show_path(path)}: a token has no sha256 of 64 hexadecimal digits")
        if unknown := sorted(row.keys() - _KEYS):
            raise UsageError(f"{show_path(path)}: a token has the unknown key {unknown[0]!r}")
        read, write = _names(path, row, "read"), _names(path, row, "write")
        tokens[digest.lower()] = Grant(read, write, known=True)
    return tokens, Grant(_names(path, said, "anybody"))


def _content(path: str) -> bytes:
    """Of a file that can be read again later; nobody is waited for."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(
                f"{show_path(path)} is no regular file; tokens are read again while the server runs"
            )
        if status.st_size > _LARGEST:
            raise UsageError(f"{show_path(path)}: a file of tokens has no more than {_LARGEST >> 20} MiB")
        return file.read(_LARGEST)


def _names(path: str, row: Mapping[str, object], key: str) -> frozenset[str]:
    names = row.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{show_path(path)}: {key} is a list of names")
    return frozenset(names)
