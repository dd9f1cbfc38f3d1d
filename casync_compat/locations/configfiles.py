"""The two files that say how stores are reached, read: our `config.toml` and desync's `config.json`.

What they say comes out as fields of `StoreOptions`, by the pattern of locators that it is said of. Which file counts
for more, and where they are, is `configuration`'s. What is wrong names the file, the line and the key, and never the
value: it may be a secret.

    >>> read_ours(b"config.toml", lambda text: None).stores
    {'https://example.com/store': {'timeout': 10.0}}
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from casync_compat.chunker.params import parse_size
from casync_compat.errors import FileError, UsageError, show_path
from casync_compat.progress import Warn

__all__ = ["SECRETS", "ConfigFile", "Default", "Fields", "read_desync", "read_key_file", "read_ours"]

Fields: TypeAlias = dict[str, Any]
"""Values by the names of the fields of `StoreOptions`."""

Default: TypeAlias = bool | tuple[str, ...]
"""What an option is: true or false, or its values as they would stand on a command line."""

_MOST = 1 << 20
_LONGEST_SECRET = 64 << 10
SECRETS = frozenset(
    {"authorization", "cookie", "headers", "password", "secret_key", "session_token", "encryption_key"}
)
"""Fields that are for nobody else's eyes."""
_NANOSECONDS = 10**9


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a file says.

    :ivar path: of the file
    :ivar stores: fields by pattern
    :ivar s3: fields by scheme and host of an object store, without `s3+`
    :ivar registries: fields by pattern
    :ivar general: what is said of no store in particular, by key
    :ivar defaults: what options are when a command line does not say, by verb (empty for all) and option without `--`
    :ivar lines: where all that is: the line by the name of the table (a pattern, a verb or nothing) and key or field
    """

    path: bytes
    stores: dict[str, Fields] = field(default_factory=dict)
    s3: dict[str, Fields] = field(default_factory=dict)
    registries: dict[str, Fields] = field(default_factory=dict)
    general: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, dict[str, Default]] = field(default_factory=dict)
    lines: dict[tuple[str, str], int] = field(default_factory=dict)

    def has_secrets(self) -> bool:
        """Whether anything in it is for nobody else's eyes."""
        parts = (*self.stores.values(), *self.s3.values(), *self.registries.values())
        return any(not SECRETS.isdisjoint(fields) for fields in parts)


class _Wrong(Exception):
    """A value is not what its key takes."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong("must be text")
    return value


def _path(value: object) -> str:
    return os.path.expanduser(_text(value))


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("must be true or false")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Wrong("must be a whole number, 0 or more")
    return value


def _jobs(value: object) -> int | None:
    return _count(value) or None


def _seconds(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise _Wrong("must be a number of seconds, 0 or more")
    return float(value)


def _size(value: object) -> int:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except UsageError as error:
            raise _Wrong(f"must be a number of bytes: {error}") from error
    return _count(value)


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Wrong("must be a table")
    return value


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    pairs = tuple((name, _text(text)) for name, text in _table(value).items())
    if any(sign in name + text for name, text in pairs for sign in "\r\n\0"):
        raise _Wrong("must not have line breaks in it")
    return pairs


def _line(value: object) -> str:
    text = _text(value)
    if any(sign in text for sign in "\r\n\0"):
        raise _Wrong("must be one line")
    return text


def _secret_file(value: object) -> str:
    """What a file has in its first line."""
    path = _path(value)
    try:
        with open(path, encoding="utf-8") as file:
            return _line(file.read(_LONGEST_SECRET).rstrip("\n"))
    except (OSError, UnicodeDecodeError, _Wrong) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not one line of text"
        raise _Wrong(f"names a file that has no secret: {show_path(path)}: {why}") from error


def _default(value: object) -> Default:
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, int, float)):
        return (str(value),)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise _Wrong("must be text, a number, true, false or a list of texts")


def _hex_key(value: object) -> str:
    text = _text(value).strip()
    if len(text) != 64 or not text.isascii() or not all(sign in "0123456789abcdefABCDEF" for sign in text):
        raise _Wrong("must be 64 hexadecimal digits (256 bits)")
    return text.lower()


def _key_file(value: object) -> str:
    path = _path(value)
    try:
        return read_key_file(path)
    except (FileError, UsageError) as error:
        raise _Wrong(f"names a file that is no key: {error}") from error


def read_key_file(path: str) -> str:
    """The encryption key in a file: 64 hexadecimal digits.

    :raises FileError: it cannot be read
    :raises UsageError: it has no such key
    """
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return _hex_key(file.read(4096))
    except OSError as error:
        raise FileError(path, "read", error) from error
    except _Wrong as error:
        raise UsageError(f"{show_path(path)}: an encryption key {error}") from error


def _go_time(value: object) -> float | None:
    """desync's time-outs: nanoseconds; 0 leaves it to the program, less than that is none at all."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("must be a whole number of nanoseconds")
    return None if value == 0 else max(0.0, value / _NANOSECONDS)


def _go_interval(value: object) -> float:
    return _go_time(value) or 0.0


def _go_tries(value: object) -> int:
    """desync counts the first try, too."""
    return max(0, _count(value) - 1)


def _go_text(value: object) -> str | None:
    return _line(value) or None


def _go_key(value: object) -> str | None:
    return _hex_key(value) if value != "" else None


def _dropped(value: object) -> None:
    """What desync has, and is not for us: `skip-verify`. Nothing is trusted here."""


class _Key(NamedTuple):
    """:ivar field: of `StoreOptions`; empty for what is dropped"""

    field: str
    read: Callable[[Any], Any]


_OURS: Mapping[str, _Key] = {
    "jobs": _Key("jobs", _jobs),
    "timeout": _Key("timeout", _seconds),
    "retries": _Key("retries", _count),
    "retry-interval": _Key("retry_interval", _seconds),
    "ca-cert": _Key("ca_cert", _path),
    "client-cert": _Key("client_cert", _path),
    "client-key": _Key("client_key", _path),
    "trust-insecure": _Key("trust_insecure", _bool),
    "authorization": _Key("authorization", _line),
    "authorization-file": _Key("authorization", _secret_file),
    "cookie": _Key("cookie", _line),
    "headers": _Key("headers", _headers),
    "username": _Key("username", _line),
    "password": _Key("password", _line),
    "password-file": _Key("password", _secret_file),
    "access-key": _Key("access_key", _line),
    "secret-key": _Key("secret_key", _line),
    "secret-key-file": _Key("secret_key", _secret_file),
    "session-token": _Key("session_token", _line),
    "region": _Key("region", _line),
    "credentials-file": _Key("credentials_file", _path),
    "profile": _Key("profile", _line),
    "uncompressed": _Key("uncompressed", _bool),
    "encryption": _Key("encryption", _bool),
    "encryption-algorithm": _Key("encryption_algorithm", _line),
    "encryption-key": _Key("encryption_key", _hex_key),
    "encryption-key-file": _Key("encryption_key", _key_file),
}
"""What a table of ours may have."""

_DESYNC_STORE: Mapping[str, _Key] = {
    "n": _Key("jobs", _jobs),
    "client-cert": _Key("client_cert", _go_text),
    "client-key": _Key("client_key", _go_text),
    "ca-cert": _Key("ca_cert", _go_text),
    "trust-insecure": _Key("trust_insecure", _bool),
    "http-auth": _Key("authorization", _go_text),
    "http-cookie": _Key("cookie", _go_text),
    "timeout": _Key("timeout", _go_time),
    "error-retry": _Key("retries", _go_tries),
    "error-retry-base-interval": _Key("retry_interval", _go_interval),
    "skip-verify": _Key("", _dropped),
    "uncompressed": _Key("uncompressed", _bool),
    "encryption": _Key("encryption", _bool),
    "encryption-algorithm": _Key("encryption_algorithm", _go_text),
    "encryption-key": _Key("encryption_key", _go_key),
}
_DESYNC_S3: Mapping[str, _Key] = {
    "access-key": _Key("access_key", _go_text),
    "secret-key": _Key("secret_key", _go_text),
    "aws-credentials-file": _Key("credentials_file", _go_text),
    "aws-profile": _Key("profile", _go_text),
    "aws-region": _Key("region", _go_text),
}
_DESYNC_REGISTRY: Mapping[str, _Key] = {
    "username": _Key("username", _go_text),
    "secret": _Key("password", _go_text),
}
_GENERAL: Mapping[str, Callable[[object], Any]] = {"chunk-cache": _path, "chunk-cache-size": _size}
"""What our file may say beside tables of stores."""


class _Reading:
    """A file that is being read: its text, to say in which line what is."""

    def __init__(self, path: bytes, warn: Warn) -> None:
        self.path = path
        self.warn = warn
        self.lines: dict[tuple[str, str], int] = {}
        try:
            with open(path, "rb") as file:
                content = file.read(_MOST + 1)
        except OSError as error:
            raise FileError(path, "read", error) from error
        if len(content) > _MOST:
            raise UsageError(f"{show_path(path)}: has more than {_MOST} bytes; it cannot be a configuration")
        try:
            self.text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise UsageError(f"{show_path(path)}: line {line}: not UTF-8") from error

    def at(self, *words: str) -> str:
        """The file, and the line with the last of these words."""
        return f"{show_path(self.path)}: line {self.line(*words)}"

    def line(self, *words: str) -> int:
        """The line with the last of these words, each looked for behind the one before."""
        place = 0
        for word in words:
            found = re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])").search(self.text, place)
            place = place if found is None else found.start()
        return self.text.count("\n", 0, place) + 1

    def table(self, value: object, keys: Mapping[str, _Key], *names: str) -> Fields:
        """The fields that a table sets."""
        found: Fields = {}
        for key, content in self.checked(_table, value, *names).items():
            row = keys.get(key)
            if row is None:
                self.warn(f"{self.at(*names, key)}: unknown key {key!r}{_meant(key, keys)}")
                continue
            read = self.checked(row.read, content, *names, key)
            if row.field:
                found[row.field] = read
                self.lines[names[-1], row.field] = self.line(*names, key)
        return found

    def defaults(self, value: object) -> dict[str, dict[str, Default]]:
        """What options are by default: of all verbs, and in a table with the name of a verb, `oci push` say, of it."""
        found: dict[str, dict[str, Default]] = {}
        for key, content in self.checked(_table, value, "defaults").items():
            verb, options = (key, content) if isinstance(content, dict) else ("", {key: content})
            for option, said in options.items():
                names = filter(None, ("defaults", verb, option))
                found.setdefault(verb, {})[option] = self.checked(_default, said, *names)
                self.lines[verb, option] = self.line(*filter(None, ("defaults", verb, option)))
        return found

    def checked(self, read: Callable[[Any], Any], value: object, *names: str) -> Any:
        """What a value says. :raises UsageError: it is not what its key takes"""
        try:
            return read(value)
        except _Wrong as error:
            raise UsageError(f"{self.at(*names)}: {names[-1]} {error}") from error


def _meant(key: str, keys: Iterable[str]) -> str:
    """A question for the name that was meant, if one is near."""
    from difflib import get_close_matches  # lazily: a file of which all is known needs none

    near = get_close_matches(key, keys, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _where_it_is(error: ValueError, text: str) -> str:
    """What is wrong with a text that is not TOML, led by its line."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
    if found is None:
        return f"not TOML: {error}"
    if found[2] is None:
        return f"line {text.rstrip().count(chr(10)) + 1}: not TOML: {found[1]}"
    return f"line {found[2]}: not TOML: {found[1]}, at column {found[3]}"


def read_ours(path: bytes, warn: Warn) -> ConfigFile:
    """Read `config.toml`.

    :param warn: told of each key that is not known
    :raises FileError: it cannot be read
    :raises UsageError: it is malformed
    """
    import tomllib  # lazily, as is what reads desync's: most runs have neither file

    reading = _Reading(path, warn)
    found = ConfigFile(path)
    try:
        content = tomllib.loads(reading.text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{show_path(path)}: {_where_it_is(error, reading.text)}") from error
    except RecursionError as error:
        raise UsageError(f"{show_path(path)}: not TOML: nested too deeply") from error
    for key, value in content.items():
        if key == "stores":
            for pattern, table in reading.checked(_table, value, key).items():
                found.stores[pattern] = reading.table(table, _OURS, pattern)
        elif key == "defaults":
            found.defaults.update(reading.defaults(value))
        elif key in _GENERAL:
            found.general[key] = reading.checked(_GENERAL[key], value, key)
            reading.lines["", key] = reading.line(key)
        else:
            what = "table" if isinstance(value, dict) else "key"
            warn(f"{reading.at(key)}: unknown {what} {key!r}{_meant(key, ('stores', 'defaults', *_GENERAL))}")
    found.lines.update(reading.lines)
    return found


def read_desync(path: bytes, warn: Warn) -> ConfigFile:
    """Read desync's `config.json`. Parameters and errors as for `read_ours`."""
    import json

    reading = _Reading(path, warn)
    found = ConfigFile(path)
    try:
        content = json.loads(reading.text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{show_path(path)}: line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise UsageError(f"{show_path(path)}: not JSON: nested too deeply") from error
    if not isinstance(content, dict):
        raise UsageError(f"{show_path(path)}: line 1: not a JSON object")
    sections: dict[str, tuple[dict[str, Fields], Mapping[str, _Key]]] = {
        "store-options": (found.stores, _DESYNC_STORE),
        "s3-credentials": (found.s3, _DESYNC_S3),
        "oci-credentials": (found.registries, _DESYNC_REGISTRY),
    }
    for key, value in content.items():
        if key not in sections:
            warn(f"{reading.at(key)}: unknown key {key!r}{_meant(key, sections)}")
            continue
        section, keys = sections[key]
        for pattern, table in reading.checked(_table, value or {}, key).items():
            # desync writes null for a section that is empty, and what it does not say is as it would be without
            fields = reading.table(table, keys, key, pattern)
            section[pattern] = {name: said for name, said in fields.items() if said is not None}
    found.lines.update(reading.lines)
    return found
