"""Locations where another casync is: what is started for them, in casync's own words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casync_compat.errors import UsageError
from casync_compat.locations import Settings, in_peer, is_remote, name_of
from casync_compat.locations.peers import HelperWay, SshWay, index_files, open_store
from casync_compat.store.peer import PeerFiles, PeerStore


def store_argv(where: str, **environ: str) -> tuple[str, ...]:
    """What is started to read chunks."""
    settings = Settings(environ=environ)
    store = open_store(where, settings)
    (peer,) = settings.shared.peers.values()
    return tuple(peer.way.argv("pull", "-", "-", store.path))


SSH = [
    ("host:/srv/x.castr", "ssh host casync pull - - - /srv/x.castr"),
    ("me@host.example.org:rel/x.castr", "ssh me@host.example.org casync pull - - - rel/x.castr"),
    ("ssh://host/srv/x.castr", "ssh host casync pull - - - /srv/x.castr"),
    ("ssh://me@host:2222/srv/x.castr", "ssh -p 2222 me@host casync pull - - - /srv/x.castr"),
    ("ssh://host/~/x.castr", "ssh host casync pull - - - x.castr"),
    ("ssh://host/a%20b", "ssh host casync pull - - - '/a b'"),
    ("host:a b", "ssh host casync pull - - - 'a b'"),
    ("host:/x;reboot", "ssh host casync pull - - - '/x;reboot'"),
    ("host:/$(reboot)'", "ssh host casync pull - - - '/$(reboot)'\"'\"''"),
    ("host:~/x", "ssh host casync pull - - - ~/x"),
    ("host:~me/a b", "ssh host casync pull - - - ~me/'a b'"),
    ("host:-x", "ssh host casync pull - - - ./-x"),
    ("host:-", "ssh host casync pull - - - ./-"),
]


@pytest.mark.parametrize(("where", "command"), SSH)
def test_what_ssh_is_told(where: str, command: str) -> None:
    """ssh is started as casync starts it; what a shell would take for more than a path is quoted."""
    assert " ".join(store_argv(where)) == command


def test_programs_by_environment() -> None:
    """The variables that casync has say which programs are run here and there."""
    found = store_argv("h:/x", CASYNC_SSH_PATH="/opt/my ssh", CASYNC_REMOTE_PATH="sudo casync")
    assert found == ("/opt/my ssh", "h", "sudo casync", "pull", "-", "-", "-", "/x")


@pytest.mark.parametrize(
    "where", ["-oProxyCommand:x", "-F:x", "ssh://-F/x", "ssh://host", "ssh://host:port/x", "ssh:///x"]
)
def test_what_ssh_is_not_told(where: str) -> None:
    """Nothing becomes an option of ssh, and half a location is refused."""
    with pytest.raises(UsageError):
        open_store(where, Settings())


def test_helpers(tmp_path: Path) -> None:
    """URLs of other schemes go to a helper program, whole; one that is not there is named."""
    helper = tmp_path / "casync-foo"
    settings = Settings(environ={"CASYNC_PROTOCOL_PATH": str(tmp_path)})
    with pytest.raises(UsageError, match=str(helper)):
        open_store("foo://host/x.castr", settings)
    helper.write_text("#!/bin/sh\n")
    helper.chmod(0o755)
    assert open_store("foo://host/x.castr", settings).path == "foo://host/x.castr"
    files, name = index_files("foo://host/a/x.caidx?q=1", None, settings)
    assert (files.name, name) == ("foo://host/a", b"x.caidx")
    (peer,) = settings.shared.peers.values()
    assert peer.way.argv("pull", "-", "foo://host/a/x.caidx?q=1", "-")[1:] == (
        *("pull", "-", "-", "foo://host/a/x.caidx?q=1", "-"),
    )
    with pytest.raises(UsageError, match="can be read, not written"):
        HelperWay("foo", str(helper)).argv("push", "-", "-", "-")


def test_one_peer_for_one_place() -> None:
    """An index and its store are read through one connection; a store elsewhere has its own."""
    settings = Settings()
    files, name = index_files("h:/a/x.caidx", "h:/a/default.castr", settings)
    assert (files.name, name) == ("h:/a", b"x.caidx")
    open_store("h:/b", settings)
    assert len(settings.shared.peers) == 1
    open_store("other:/b", settings)
    open_store("ssh://h:22/b", settings)
    assert set(map(str, (peer.way.name for peer in settings.shared.peers.values()))) == {"h", "other", "h:22"}


def test_which_locations_these_are() -> None:
    """Everything that is neither local nor known otherwise; paths never are."""
    for where in ("h:/x", "ssh://h/x", "foo://h/x"):
        assert in_peer(where)
        assert is_remote(where)
    for other in (
        "/x",
        "./h:x",
        "http://h/x",
        "oci+https://h/x",
        b"h:/x",
        Path("h:/x"),
        "file:///x",
        "",
        None,
    ):
        assert not in_peer(other)
    assert name_of("h:/a/x.caidx") == b"h:/a/x.caidx"
    assert name_of("foo://h/x.caidx?y") == b"foo://h/x.caidx"


def test_a_name_is_needed() -> None:
    """A directory is no index."""
    with pytest.raises(UsageError, match="names a directory"):
        index_files("h:/a/", None, Settings())


def test_nothing_is_started_before_it_is_needed() -> None:
    """Opening a location costs nothing."""
    settings = Settings(environ={"CASYNC_SSH_PATH": os.devnull})
    assert isinstance(open_store("h:/x", settings), PeerStore)
    assert isinstance(index_files("h:/x.caidx", "h:/x", settings)[0], PeerFiles)
    assert SshWay("h").name == "h"
