"""What is said of each store: on the command line, by the environment, in our `config.toml`, in desync's `config.json`.

What counts for more comes first in that list. Files are looked for when the first store is opened, and read once:
ours is `$PYCASYNC_CONFIG`, else `pycasync/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`; desync's is
`~/.config/desync/config.json`. Keys are locators or paths, with `*`, `?` and `[a-z]` as desync has them (none matches a
`/`). Of several of ours that match the longest counts; with desync's that is an error, as it is there.

    >>> Configuration({"HOME": "/home/me"})("https://example.com/store").timeout
    10.0
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.locations.shown import shown
from casync_compat.store.options import StoreOptions

if TYPE_CHECKING:
    from casync_compat.locations.configfiles import ConfigFile, Fields

__all__ = ["Configuration", "Said"]

_URL = r"[A-Za-z][A-Za-z0-9+.-]+:"
_OBJECTS = ("s3", "s3+http", "s3+https")
_KEYS = (
    ("S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
"""Variables with the keys of object stores, as desync has them: the first of which one is set."""


def _ignore(text: str) -> None:
    """No warnings wanted."""


class Said(NamedTuple):
    """Something that is configured.

    :ivar name: of the field or option
    :ivar origin: where it is from: a file and line, say
    """

    name: str
    value: Any
    origin: str


class Configuration:
    """What is said of stores. To be called with a locator or path; threads may do so at once.

    :param environ: environment variables; files are looked for where these say
    :param warn: called with each warning
    :param given: what counts for more than all else, by the names of the fields of `StoreOptions`
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        warn: Callable[[str], None] = _ignore,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self._environ = environ
        self._warn = warn
        self._lock = threading.Lock()
        self._read: dict[tuple[bytes | None, bytes | None], list[ConfigFile | None]] = {}
        self.given: dict[str, Any] = dict(given or {})

    def __call__(self, where: str) -> StoreOptions:
        """What is said of the store, or the directory of indexes, at a locator or path.

        :raises FileError: a file is there that cannot be read
        :raises UsageError: a file is malformed
        """
        fields = {one.name: one.value for one in self.said_of(where)}
        _check_encryption(fields, where)
        return StoreOptions(**fields)

    def said_of(self, where: str) -> list[Said]:
        """What is said of a store: what counts, by the fields of `StoreOptions`, with where each is from."""
        ours, desync = self._files()
        found: dict[str, Said] = {}
        for file, tables in ((desync, _of_desync), (ours, _of_ours)):
            for pattern, fields in tables(file, where) if file is not None else ():
                for name, value in fields.items():
                    found[name] = Said(name, value, _line_of(file, pattern, name))
        for name, value in self._of_environment(where).items():
            found[name] = Said(name, value, "the environment")
        for name, value in self.given.items():
            if value is not None:
                found[name] = Said(name, value, "the command line")
        return list(found.values())

    def generally(self) -> list[Said]:
        """What our file says of no store in particular."""
        ours, _ = self._files()
        general = {} if ours is None else ours.general
        return [Said(key, value, _line_of(ours, "", key)) for key, value in general.items()]

    def defaults(self) -> dict[str, list[Said]]:
        """What our file says that options are, by verb (empty for all) and in the order of the file."""
        ours, _ = self._files()
        return {
            verb: [Said(option, value, _line_of(ours, verb, option)) for option, value in options.items()]
            for verb, options in ({} if ours is None else ours.defaults).items()
        }

    def paths(self) -> list[tuple[bytes, bool]]:
        """Where files are looked for, and whether each is there: ours, and desync's."""
        paths = _our_path(self._environ), _desync_path(self._environ)
        return [(path, file is not None) for path, file in zip(paths, self._files(), strict=True) if path]

    def general(self, key: str) -> str | int | None:
        """What our file says of no store in particular, `chunk-cache` say."""
        ours, _ = self._files()
        return None if ours is None else ours.general.get(key)

    def _files(self) -> list[ConfigFile | None]:
        """Our file, and desync's, where there are such."""
        paths = _our_path(self._environ), _desync_path(self._environ)
        with self._lock:
            if paths not in self._read:
                self._read[paths] = [self._file(paths[0], ours=True), self._file(paths[1], ours=False)]
            return self._read[paths]

    def _file(self, path: bytes | None, *, ours: bool) -> ConfigFile | None:
        if path is None:
            return None
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not self._wanted(path):
                return None
            raise FileError(path, "read", error) from error
        if stat.S_ISDIR(mode):
            raise FileError(path, "read", "it is a directory")
        from casync_compat.locations import configfiles  # lazily: most runs have neither file

        found = (configfiles.read_ours if ours else configfiles.read_desync)(path, self._warn)
        if mode & (stat.S_IRGRP | stat.S_IROTH) and found.has_secrets():
            self._warn(
                f"{show_path(path)} has secrets in it, and others can read it "
                f"(mode {stat.S_IMODE(mode):04o}); chmod 600 it"
            )
        return found

    def _wanted(self, path: bytes) -> bool:
        """Whether somebody named this very file."""
        return path == os.fsencode(self._environ.get("PYCASYNC_CONFIG", ""))

    def _of_environment(self, where: str) -> Fields:
        found: Fields = {}
        if where.partition("://")[0] in _OBJECTS:
            for variables in _KEYS:
                access, secret, token = (self._environ.get(name) or None for name in variables)
                if access or secret:
                    found |= {"access_key": access, "secret_key": secret, "session_token": token}
                    break
            if region := self._environ.get("S3_REGION"):
                found["region"] = region
        return found


def _our_path(environ: Mapping[str, str]) -> bytes | None:
    if named := environ.get("PYCASYNC_CONFIG"):
        return os.fsencode(named)
    home = environ.get("XDG_CONFIG_HOME", "")
    if not home.startswith("/"):  # the XDG specification has relative ones ignored
        if not environ.get("HOME"):
            return None
        home = os.path.join(environ["HOME"], ".config")
    return os.fsencode(os.path.join(home, "pycasync", "config.toml"))


def _desync_path(environ: Mapping[str, str]) -> bytes | None:
    home = environ.get("HOME")
    return os.fsencode(os.path.join(home, ".config", "desync", "config.json")) if home else None


def _line_of(file: ConfigFile | None, table: str, key: str) -> str:
    return "" if file is None else f"{show_path(file.path)}: line {file.lines.get((table, key), 1)}"


def _of_desync(file: ConfigFile, where: str) -> Iterator[tuple[str, Fields]]:
    scheme, mark, rest = where.partition("://")
    if mark and scheme in _OBJECTS:
        host = re.split(r"[/?;]", rest.rpartition("@")[2] if "@" in rest.partition("/")[0] else rest)[0]
        pattern = f"{scheme.removeprefix('s3+')}://{host}"
        yield pattern, file.s3.get(pattern, {})
    for section in (file.registries, file.stores):
        patterns = [pattern for pattern in section if _matches(pattern, where)]
        if len(patterns) > 1:
            raise UsageError(
                f"{show_path(file.path)}: more than one key matches {shown(where)}: "
                + ", ".join(map(shown, patterns))
            )
        if patterns:
            yield patterns[0], section[patterns[0]]


def _of_ours(file: ConfigFile, where: str) -> Iterator[tuple[str, Fields]]:
    """The table with the longest key that matches."""
    if found := [key for key in file.stores if _matches(key, where)]:
        yield (longest := max(found, key=len)), file.stores[longest]


def _matches(pattern: str, where: str) -> bool:
    """Whether a key is about a location: of an URL (a slash at the end is nothing), or of a path (made absolute)."""
    if re.match(_URL, where):
        return _is_like(pattern.removesuffix("/"), where.removesuffix("/"))
    if re.match(_URL, pattern):
        return False
    return _is_like(os.path.abspath(os.path.expanduser(pattern)), os.path.abspath(where))


def _is_like(pattern: str, text: str) -> bool:
    """Go's `path.Match`; a pattern that is malformed matches nothing."""
    if pattern == text:
        return True
    parts = []
    at = 0
    while at < len(pattern):
        match = re.match(_WORD, pattern[at:])
        if match is None:
            return False
        word = match[0]
        if match[1]:  # a class; what is escaped in it stands for itself
            parts.append(re.sub(r"\\(.)", lambda escaped: re.escape(escaped[1]), word))
        else:
            parts.append(_SIGNS.get(word) or re.escape(word.removeprefix("\\")))
        at += match.end()
    try:
        return re.fullmatch("".join(parts), text) is not None
    except re.error:
        return False


_WORD = r"(\[\^?(?:\\.|[^\]\\\[])+\])|\\.|[^\[\\]"
_SIGNS = {"*": "[^/]*", "?": "[^/]"}


def _check_encryption(fields: Fields, where: str) -> None:
    """As desync: what is half said might be taken for encrypted, and is not.

    :raises UsageError: a key or algorithm is said, but not that there is encryption
    """
    if not fields.get("encryption") and (fields.get("encryption_key") or fields.get("encryption_algorithm")):
        raise UsageError(
            f"{shown(where)}: an encryption key or algorithm is configured, but not encryption = true"
        )
