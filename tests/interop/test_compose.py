"""Stores put together: failover groups, chains and one configuration, with desync and casync beside us."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from interop.tools import Pair, Tool
from interop.webservers import Nginx, nginx  # noqa: F401 - a fixture
from trees import content


@pytest.fixture
def at(nginx: Nginx, tmp_path: Path, desync: Tool) -> Path:  # noqa: F811
    """A directory that nginx serves, with a blob that desync cut, and its chunks."""
    directory = nginx.root / tmp_path.name
    directory.mkdir(exist_ok=True)
    (tmp_path / "blob").write_bytes(content(11, 3 << 20))
    (directory / "store").mkdir()
    desync("make", "-s", directory / "store", directory / "b.caibx", tmp_path / "blob")
    return directory


def test_failover_group(at: Path, nginx: Nginx, pair: Pair, desync: Tool, tmp_path: Path) -> None:  # noqa: F811
    """Both read one and the same locator of a group whose first member is down."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))  # and nobody listens
        down = f"http://127.0.0.1:{port.getsockname()[1]}/store"
        group = f"{down}|{nginx.plain}/{at.name}/store"
        desync("extract", "-e", "1", "-s", group, at / "b.caibx", tmp_path / "theirs")
        pair.pycasync("extract", f"--store={group}", at / "b.caibx", tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "blob").read_bytes()


def test_configuration(at: Path, pair: Pair, desync: Tool, tmp_path: Path) -> None:
    """One config.json has both write plain chunks, under the same names, and read each other's."""
    home = tmp_path / "home"
    (home / ".config/desync").mkdir(parents=True)
    options = {str(tmp_path / "plain*"): {"uncompressed": True, "n": 2, "error-retry": 1}}
    (home / ".config/desync/config.json").write_text(json.dumps({"store-options": options}))
    ours, theirs = pair.pycasync.given(HOME=str(home)), desync.given(HOME=str(home))
    (tmp_path / "plain-ours").mkdir()
    (tmp_path / "plain-theirs").mkdir()
    blob = tmp_path / "blob"
    sizes = "16384:65536:262144"
    ours("make", f"--store={tmp_path}/plain-ours", f"--chunk-size={sizes}", tmp_path / "o.caibx", blob)
    theirs("make", "-s", tmp_path / "plain-theirs", tmp_path / "t.caibx", blob)
    names = [sorted(file.name for file in tmp_path.glob(f"plain-{who}/*/*")) for who in ("ours", "theirs")]
    assert all(len(name) == 64 for name in names[0] + names[1])
    theirs("extract", "-s", tmp_path / "plain-ours", tmp_path / "o.caibx", tmp_path / "one")
    ours("extract", f"--store={tmp_path}/plain-theirs", tmp_path / "t.caibx", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == blob.read_bytes()


def test_cache(at: Path, nginx: Nginx, pair: Pair, desync: Tool, tmp_path: Path) -> None:  # noqa: F811
    """One cache for both: what either has fetched the other finds, without the server; casync reads it as a store."""
    there, gone = f"{nginx.plain}/{at.name}/store", f"{nginx.plain}/{at.name}/gone"
    for first in ("ours", "theirs"):
        cache = tmp_path / f"cache-{first}"
        cache.mkdir()
        for who, store in ((first, there), ("ours", gone), ("theirs", gone)):
            out = tmp_path / f"{first}-{who}"
            if who == "ours":
                pair.pycasync("extract", f"--store={store}", f"--chunk-cache={cache}", at / "b.caibx", out)
            else:
                desync("extract", "-s", store, "-c", cache, at / "b.caibx", out)
            assert out.read_bytes() == (tmp_path / "blob").read_bytes()
            out.unlink()
        pair.casync("extract", f"--store={cache}", at / "b.caibx", tmp_path / f"{first}-casync")


KEY = "6368616e676520746869732070617373776f726420746f206120736563726574"


@pytest.mark.parametrize("algorithm", ["xchacha20-poly1305", "aes-256-gcm"])
@pytest.mark.parametrize("plain", [False, True])
def test_encrypted_stores(
    at: Path, pair: Pair, desync: Tool, tmp_path: Path, algorithm: str, plain: bool
) -> None:
    """desync reads what we encrypt, and we what it encrypts, compressed or not, with the same names."""
    home = tmp_path / "home"
    (home / ".config/desync").mkdir(parents=True)
    said = {"encryption": True, "encryption-algorithm": algorithm, "uncompressed": plain}
    options = {"store-options": {str(tmp_path / "*.castr"): said}}
    (home / ".config/desync/config.json").write_text(json.dumps(options))
    ours = pair.pycasync.given(HOME=str(home), DESYNC_ENCRYPTION_KEY=KEY)
    theirs = desync.given(HOME=str(home), DESYNC_ENCRYPTION_KEY=KEY)
    stores = tmp_path / "ours.castr", tmp_path / "theirs.castr"
    for store in stores:
        store.mkdir()
    blob = tmp_path / "blob"
    ours("make", f"--store={stores[0]}", tmp_path / "o.caibx", blob)
    theirs("make", "-s", stores[1], tmp_path / "t.caibx", blob)
    ours("extract", f"--store={stores[1]}", tmp_path / "t.caibx", tmp_path / "one")
    theirs("extract", "-s", stores[0], tmp_path / "o.caibx", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == blob.read_bytes()
    suffixes = [{file.name[64:] for file in store.glob("*/*")} for store in stores]
    assert suffixes[0] == suffixes[1] == {f"{'' if plain else '.cacnk'}.{algorithm}-50d64035"}
    theirs("verify", "-s", stores[0])
    ours("verify", stores[1])
    ours("gc", "--yes", f"--store={stores[1]}", tmp_path / "t.caibx")
    theirs("extract", "-s", stores[1], tmp_path / "t.caibx", tmp_path / "three")
