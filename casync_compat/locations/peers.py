"""Locations behind programs: another casync by `HOST:PATH`, `ssh://` or a helper; an SFTP server, by `sftp://`.

casync starts what `CASYNC_SSH_PATH` names for the former, and has `CASYNC_REMOTE_PATH` run at the other end; for a URL
it starts `casync-SCHEME` of the directory `CASYNC_PROTOCOL_PATH` (casync `src/caremote.c`, `ca_remote_start`). So do
we, in the same words. What a remote shell would take for more than a word is quoted, which casync does not do.
"""

from __future__ import annotations

import atexit
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from casync_compat.errors import UsageError
from casync_compat.locations.settings import Settings
from casync_compat.locations.shown import shown
from casync_compat.store.channel import Server
from casync_compat.store.files import Files
from casync_compat.store.peer import Peer, PeerFiles, PeerStore
from casync_compat.store.sftp import SftpFiles

__all__ = ["HelperWay", "SshWay", "index_files", "open_sftp", "open_store"]

_SHELL = re.compile(
    r"s(?:sh|ftp)://(?:(?P<user>[A-Za-z0-9._-]+)@)?(?P<host>[A-Za-z0-9._-]+)(?::(?P<port>\d+))?(?P<path>/.*)?"
)
_PROTOCOLS = "/usr/lib/casync/protocols"
_HOME = re.compile(r"(~[A-Za-z0-9._-]*/)?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class SshWay:
    """A casync through ssh.

    :ivar host: as ssh takes it, with the user in front
    :ivar port: None for the one that ssh knows
    :ivar ssh: the program
    :ivar remote: what is run at the other end
    """

    host: str
    port: int | None = None
    ssh: str = "ssh"
    remote: str = "casync"

    @property
    def name(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def argv(self, verb: str, archive: str, index: str, store: str) -> Sequence[str]:
        """What casync starts, in its order."""
        port = () if self.port is None else ("-p", str(self.port))
        words = (_word(path) for path in (archive, index, store))
        return (self.ssh, *port, self.host, self.remote, verb, "-", *words)


def _word(path: str) -> str:
    """A path as one word of a remote shell, which may be relative to somebody's home."""
    match = _HOME.fullmatch(path)
    assert match is not None
    return (match[1] or "") + (shlex.quote(match[2]) if match[2] else "")


@dataclass(frozen=True, slots=True)
class HelperWay:
    """A helper program for URLs of a scheme."""

    scheme: str
    program: str

    @property
    def name(self) -> str:
        return f"{self.scheme}:"

    def argv(self, verb: str, archive: str, index: str, store: str) -> Sequence[str]:
        """What casync starts.

        :raises UsageError: it can only read
        """
        if verb != "pull":
            raise UsageError(f"what is at {self.scheme}:// can be read, not written")
        return (self.program, verb, "-", archive, index, store)


Way: TypeAlias = SshWay | HelperWay


def _way(where: str, environ: Mapping[str, str]) -> tuple[Way, str]:
    """How a location is reached, and what it is called there.

    :raises UsageError: it is malformed, or nothing leads there
    """
    ssh = environ.get("CASYNC_SSH_PATH") or "ssh"
    remote = environ.get("CASYNC_REMOTE_PATH") or "casync"
    scheme, mark, _ = where.partition("://")
    if mark and scheme == "ssh":
        host, port, path = _parsed(where)
        return SshWay(host, port, ssh, remote), path
    if mark and re.fullmatch("[a-z][a-z0-9+.-]*", scheme):
        directory = environ.get("CASYNC_PROTOCOL_PATH") or _PROTOCOLS
        program = os.path.join(directory, f"casync-{scheme}")
        if not os.access(program, os.X_OK):
            raise UsageError(
                f"{shown(where)}: nothing here can read {scheme}://, and there is no helper program {program}; "
                f"write ./{shown(where)} for a local file of that name"
            )
        return HelperWay(scheme, program), where
    host, _, path = where.partition(":")
    return SshWay(_host(host, where), None, ssh, remote), path


def _parsed(where: str) -> tuple[str, int | None, str]:
    """Host with user, port and path of an URL that ssh leads to.

    :raises UsageError: it is malformed
    """
    from urllib.parse import unquote  # lazily: 4 ms

    match = _SHELL.fullmatch(where)
    scheme = where.partition(":")[0]
    if match is None or (scheme == "ssh" and not match["path"]):
        raise UsageError(
            f"{shown(where)}: write {scheme}://HOST/PATH, with USER@ before the host and :PORT behind it if need be"
        )
    path = unquote(match["path"] or "/", errors="surrogateescape")
    path = "" if path == "/~" else path.removeprefix("/~/")
    host = _host(f"{match['user']}@{match['host']}" if match["user"] else match["host"], where)
    return host, int(match["port"]) if match["port"] else None, path


def open_sftp(where: str, settings: Settings) -> SftpFiles:
    """A directory on an SFTP server; one connection serves all that is opened there.

    :raises UsageError: the location is malformed
    """
    host, port, path = _parsed(where)
    ssh = settings.environ.get("CASYNC_SSH_PATH") or "ssh"
    argv = (ssh, *(() if port is None else ("-p", str(port))), "-s", host, "sftp")
    servers = settings.shared.servers
    if argv not in servers:
        name = host if port is None else f"{host}:{port}"
        servers[argv] = Server(
            argv,
            name,
            on_line=lambda line: settings.warn(f"{name} says: {line}"),
            silence=settings.options(where).timeout,
        )
        atexit.register(servers[argv].close)
    return SftpFiles(servers[argv], os.fsencode(path), shown(where).rstrip("/"))


def _host(host: str, where: str) -> str:
    if host.startswith("-"):  # ssh would take it for an option
        raise UsageError(f"{where}: a host's name does not begin with a dash")
    return host


def _path(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


def _peer(way: Way, settings: Settings, where: str) -> Peer:
    shared = settings.shared
    key = repr(way)
    if key not in shared.peers:
        silence = settings.options(where).timeout
        shared.peers[key] = Peer(
            way, on_line=lambda line: settings.warn(f"{way.name} says: {line}"), silence=silence
        )
        atexit.register(shared.peers[key].close)
    return shared.peers[key]


def open_store(where: str, settings: Settings) -> PeerStore:
    """A chunk store.

    :raises UsageError: the location is malformed, or nothing leads there
    """
    way, path = _way(where, settings.environ)
    name = shown(where).rstrip("/")
    return PeerStore(_peer(way, settings, where), _path(path), name, compression=settings.compression)


def index_files(where: str, store: str | None, settings: Settings) -> tuple[Files, bytes]:
    """The place of files that an index or archive is in, and its name there.

    :param store: the locator of the store that its chunks are likely to be read from
    :raises UsageError: the location is malformed, names a directory, or nothing leads there
    """
    way, path = _way(where, settings.environ)
    whole, after = path, ""
    if isinstance(way, HelperWay):
        path, mark, query = whole.partition("?")
        after = mark + query
    before, slash, name = path.rpartition("/")
    if not name:
        raise UsageError(f"{shown(where)} names a directory, not a file")
    chunks = None
    if store is not None:
        other, chunks = _way(store, settings.environ)
        chunks = _path(chunks) if other == way else None
    peer = _peer(way, settings, where)
    prefix = _path(before + slash) if before + slash else ("./" if name.startswith("-") else "")
    place = shown(where[: len(where) - len(name + after)]).rstrip("/")
    return PeerFiles(peer, place, before=prefix, after=after, store=chunks), os.fsencode(name)
