"""Encrypted chunks: the contract, names and bytes as desync has them, other forms beside them, and wrong keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nacl import bindings

from casync_compat.cli import main
from casync_compat.compression import Compression, compress
from casync_compat.errors import ChunkCorrupt, ChunkLocked, ChunkMissing, UsageError
from casync_compat.ids import ChunkId
from casync_compat.store.chunks import ChunkStore
from casync_compat.store.cipher import ALGORITHMS, Cipher
from casync_compat.store.encrypted import EncryptedFiles
from casync_compat.store.files import Can, Listed
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore
from casync_compat.store.memory import MemoryFiles, MemoryStore
from casync_compat.streams.seeds import Seeded, SeedSource

from .contract import LIMIT, D, PrunableContract, StoreRig

KEY = "6368616e676520746869732070617373776f726420746f206120736563726574"
OTHER = "746f74616c6c7920646966666572656e74206b65792075736564206865726521"
ALGORITHM = pytest.mark.parametrize("algorithm", ALGORITHMS)


def store_of(files: MemoryFiles, algorithm: str | None = None, key: str = KEY) -> ChunkStore:
    """A store over files in memory that is encrypted."""
    store = ChunkStore(files, name="store")
    store.encrypt(Cipher.of(algorithm, key))
    return store


class TestEncrypted(PrunableContract):
    """The contract, near and far, with either algorithm."""

    @pytest.fixture(params=[(name, near) for name in ALGORITHMS for near in (False, True)])
    def rig(self, request: pytest.FixtureRequest) -> StoreRig:
        files = MemoryFiles()
        files.near = request.param[1]
        store = store_of(files, request.param[0])

        def fill(raw: bytes) -> ChunkId:
            store.put(D.of(raw), raw)
            return D.of(raw)

        def damage(id: ChunkId, raw: bytes) -> None:
            store.files.write(store.forms(id)[1].name, compress(Compression.ZSTD, raw))

        return StoreRig(store, fill, damage, store)


def test_names() -> None:
    """The key's id is the beginning of its SHA-256; these are desync's own examples."""
    assert Cipher.of("aes-256-gcm", KEY).suffix == b".aes-256-gcm-50d64035"
    assert Cipher.of(None, KEY).suffix == b".xchacha20-poly1305-50d64035"
    files = MemoryFiles()
    store_of(files).put(D.of(b"x"), b"x")
    (name,) = (file.name for file in files.list())
    id = D.of(b"x").hex()
    assert name == f"{id[:4]}/{id}.cacnk.xchacha20-poly1305-50d64035".encode()


def test_bytes() -> None:
    """Nonce, then what the algorithm gives, tag included; each time another nonce."""
    files = MemoryFiles()
    store_of(files).put(D.of(b"x" * 100), b"x" * 100)
    (name,) = (file.name for file in files.list())
    stored = files.read(name, LIMIT)
    assert stored is not None
    inside = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
        stored[24:], None, stored[:24], bytes.fromhex(KEY)
    )
    assert inside == compress(Compression.ZSTD, b"x" * 100)
    again = MemoryFiles()
    store_of(again).put(D.of(b"x" * 100), b"x" * 100)
    assert again.read(name, LIMIT) != stored


@ALGORITHM
@pytest.mark.parametrize("near", [False, True])
def test_all_forms_lie_side_by_side(algorithm: str, near: bool) -> None:
    """Plain, zstd, xz, gzip, each encrypted or not: all are read by the one store, one by one and together."""
    files = MemoryFiles()
    files.near = near
    raws = []
    for number, compression in enumerate(Compression):
        for encrypted in (False, True):
            raw = b"%d %d" % (number, encrypted) * 50
            store = ChunkStore(files, compression=compression)
            if encrypted:
                store.encrypt(Cipher.of(algorithm, KEY))
            store.put(D.of(raw), raw)
            raws.append(raw)
    store = store_of(files, algorithm)
    assert store.get_many([(D.of(raw), LIMIT) for raw in raws], D) == raws
    assert [store.get(D.of(raw), D, LIMIT) for raw in raws] == raws
    assert sorted(store.ids()) == sorted(map(D.of, raws))
    assert all(map(store.has, map(D.of, raws)))


@ALGORITHM
def test_damage_is_found(algorithm: str) -> None:
    """One bit, a cut, or nothing at all; and `put` mends it."""
    files = MemoryFiles()
    files.near = True
    store = store_of(files, algorithm)
    store.put(D.of(b"x" * 100), b"x" * 100)
    (name,) = (file.name for file in files.list())
    good = files.read(name, LIMIT)
    assert good is not None
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:20], bytes(100)):
        files.write(name, bad)
        with pytest.raises(ChunkCorrupt, match="50d64035"):
            store.get(D.of(b"x" * 100), D, LIMIT)
        assert store.put(D.of(b"x" * 100), b"x" * 100).new
        assert store.get(D.of(b"x" * 100), D, LIMIT) == b"x" * 100


@pytest.mark.parametrize(
    ("given", "said"), [(OTHER, "the key given is xchacha20-poly1305-"), ("", "no key was given")]
)
def test_a_wrong_key(tmp_path: Path, given: str, said: str) -> None:
    """One line names the key that the store has and the one that was given."""
    store = LocalStore(tmp_path / "s")
    store.encrypt(Cipher.of(None, KEY))
    store.put(D.of(b"x"), b"x")
    other = LocalStore(tmp_path / "s")
    if given:
        other.encrypt(Cipher.of(None, given))
    for call in (other.get, lambda id, digest, limit: other.get_many([(id, limit)], digest)):
        with pytest.raises(ChunkLocked) as caught:
            call(D.of(b"x"), D, LIMIT)
        assert "xchacha20-poly1305-50d64035" in str(caught.value)
        assert said in str(caught.value)


@pytest.mark.parametrize("many", [False, True])
def test_a_wrong_key_of_one_of_several_stores(tmp_path: Path, many: bool) -> None:
    """That a store has the chunk under another key is said, whatever stores and seeds stand before and behind it."""
    store = LocalStore(tmp_path / "s")
    store.encrypt(Cipher.of(None, KEY))
    store.put(D.of(b"x"), b"x")
    several = Layered(MemoryStore("one"), LocalStore(tmp_path / "s"), MemoryStore("two"))
    seeded = Seeded(SeedSource(), several)
    wanted = [(D.of(b"x"), LIMIT)] * (1 + many)
    for source in (several, seeded):
        with pytest.raises(ChunkLocked, match="encrypted with the key xchacha20-poly1305-50d64035"):
            source.get_many(wanted, D)
    with pytest.raises(ChunkMissing, match="the seeds, one, two"):
        Seeded(SeedSource(), Layered(MemoryStore("one"), MemoryStore("two"))).get(D.of(b"x"), D, LIMIT)


@pytest.mark.parametrize(
    ("can", "said"),
    [
        (Can.LIST, "encrypted with the key xchacha20-poly1305-50d64035, but the key given is"),
        (Can.NOTHING, "is missing from far, also encrypted with the key xchacha20-poly1305-"),
    ],
)
def test_a_wrong_key_far_away(can: Can, said: str) -> None:
    """What is far away says so, too, if it can list its files; else which key was tried. It looks once for many."""
    looks: list[bytes] = []

    class Far(MemoryFiles):
        near = False

        def list(
            self, prefix: bytes = b"", *, under: re.Pattern[bytes] | None = None, details: bool = True
        ) -> Iterator[Listed]:
            looks.append(prefix)
            return super().list(prefix, under=under, details=details)

    files = Far("far")
    store = ChunkStore(files)
    store.encrypt(Cipher.of(None, KEY))
    store.put(D.of(b"x"), b"x")
    files.can = Can.WRITE | can
    other = ChunkStore(files)
    other.encrypt(Cipher.of(None, OTHER))
    with pytest.raises(ChunkMissing) as caught:
        other.get_many([(D.of(b"x"), LIMIT)], D)
    assert said in str(caught.value)
    plain = ChunkStore(files)
    looks.clear()
    for n in range(5):
        with pytest.raises(ChunkMissing):
            plain.get(D.of(b"not there %d" % n), D, LIMIT)
    assert len(looks) <= 1


def test_collecting_knows_every_key(tmp_path: Path) -> None:
    """Ids are in the names: who collects garbage needs no key."""
    for key in (KEY, OTHER):
        store = LocalStore(tmp_path / "s")
        store.encrypt(Cipher.of(None, key))
        store.put(D.of(b"x"), b"x")
    plain = LocalStore(tmp_path / "s")
    assert list(plain.ids()) == [D.of(b"x")]
    assert plain.remove(D.of(b"x")) > 0
    assert not list(tmp_path.glob("s/*/*"))


@pytest.mark.parametrize("algorithm", ["rot13", ""])
@pytest.mark.parametrize("key", ["abc", KEY + "00", "x" * 64])
def test_what_is_no_key(algorithm: str, key: str) -> None:
    """Said, and the key is not shown."""
    with pytest.raises(UsageError) as caught:
        Cipher.of(algorithm or None, key)
    assert key not in str(caught.value)
    assert KEY not in repr(Cipher.of(None, KEY))


def test_leases_are_not_encrypted() -> None:
    """What is no chunk passes as it is."""
    files = MemoryFiles()
    EncryptedFiles(files, Cipher.of(None, KEY)).write(b"leases/1", b"x")
    assert files.read(b"leases/1", 9) == b"x"


@pytest.mark.parametrize("said", ["option", "algorithm", "desync", "ours"])
def test_command_line(
    tmp_path: Path, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By option, environment or either configuration: what is written is encrypted, and read again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "blob").write_bytes(b"".join(b"%d bottles\n" % number for number in range(100_000)))
    (tmp_path / "key").write_text(KEY + "\n")
    words: list[str] = []
    if said == "option":
        words = ["--encryption-key-file=key"]
    elif said == "algorithm":
        words = ["--encryption-algorithm=xchacha20-poly1305"]
        monkeypatch.setenv("DESYNC_ENCRYPTION_KEY", KEY)
    elif said == "desync":
        (tmp_path / ".config/desync").mkdir(parents=True)
        options = {"store-options": {str(tmp_path / "s"): {"encryption": True}}}
        (tmp_path / ".config/desync/config.json").write_text(json.dumps(options))
        monkeypatch.setenv("DESYNC_ENCRYPTION_KEY", KEY)
    else:
        (tmp_path / "config.toml").write_text(
            f'[stores."{tmp_path}/*"]\nencryption = true\nencryption-key-file = "{tmp_path}/key"'
        )
        monkeypatch.setenv("PYCASYNC_CONFIG", str(tmp_path / "config.toml"))
    assert main(["make", *words, "--store=s", "b.caibx", "blob"]) == 0
    suffixes = {file.name[64:] for file in tmp_path.glob("s/*/*")}
    assert suffixes == {".cacnk.xchacha20-poly1305-50d64035"}
    assert main(["extract", *words, "--store=s", "b.caibx", "out"]) == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "blob").read_bytes()
    assert main(["verify", *words, "s"]) == 0
    monkeypatch.delenv("PYCASYNC_CONFIG", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    capsys.readouterr()
    assert main(["verify", "s"]) == 1
    assert "xchacha20-poly1305-50d64035" in capsys.readouterr().out
    assert main(["extract", "--store=s", "b.caibx", "out2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no key was given" in line


def test_packs_are_not_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So they are refused: nothing that is meant to be encrypted is written plain."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "blob").write_bytes(b"x" * 1000)
    words = ["make", "--encryption-key-file=key", "--store=s"]
    assert main([*words, "--layout=packs", "b.caibx", "blob"]) == 1
    assert main(["make", "--layout=packs", "--store=s", "b.caibx", "blob"]) == 0
    assert main([*words, "b.caibx", "blob"]) == 1
