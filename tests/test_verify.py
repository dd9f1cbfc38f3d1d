"""Checking stores and indexes: every planted defect is found, nothing else is, and what can be mended is."""

from __future__ import annotations

import errno
import json
import lzma
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from casync_compat.cli import main
from casync_compat.errors import FileError
from casync_compat.ids import ChunkId, Digest
from casync_compat.index import Index
from casync_compat.store.chunkfiles import ChunkFile
from casync_compat.store.local import LocalStore
from casync_compat.verbs.verify import Defect, Repair, verify_chunks, verify_store

NUMBERS = random.Random(9)


def path_of(store: LocalStore, id: ChunkId, suffix: str = ".cacnk") -> Path:
    return Path(os.fsdecode(store.path)) / str(id)[:4] / f"{id}{suffix}"


def filled(at: Path, count: int, digest: Digest = Digest.SHA512_256) -> tuple[LocalStore, list[ChunkId]]:
    """A store with chunks of several sizes."""
    store = LocalStore(os.fsencode(at))
    ids = []
    for number in range(count):
        data = NUMBERS.randbytes(200) * (1 + number % 5) + b"%d" % number
        ids.append(digest.of(data))
        store.put(ids[-1], data)
    return store, ids


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def emptied(path: Path) -> str:
    overwrite(path, b"")
    return "empty"


def cut(path: Path) -> str:
    overwrite(path, path.read_bytes()[: NUMBERS.randrange(1, path.stat().st_size - 1)])
    return "corrupt"


def cut_by_a_byte(path: Path) -> str:
    overwrite(path, path.read_bytes()[:-1])
    return "corrupt"


def longer(path: Path) -> str:
    overwrite(path, path.read_bytes() + b"\0")
    return "corrupt"


def no_frame(path: Path) -> str:
    overwrite(path, NUMBERS.randbytes(100))
    return "corrupt"


def zeros(path: Path) -> str:
    overwrite(path, bytes(path.stat().st_size))
    return "corrupt"


def another_chunk(path: Path) -> str:
    overwrite(path, zstandard.compress(b"another"))
    return "wrong-id"


def one_bit(path: Path) -> str:
    raw = bytearray(zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes()))
    raw[NUMBERS.randrange(len(raw))] ^= 1 << NUMBERS.randrange(8)
    overwrite(path, zstandard.compress(bytes(raw)))
    return "wrong-id"


def empty_inside(path: Path) -> str:
    overwrite(path, zstandard.compress(b""))
    return "corrupt"


def bomb(path: Path) -> str:
    overwrite(path, zstandard.compress(bytes(200 << 20), 1))
    return "corrupt"


def bad_xz(path: Path) -> str:
    overwrite(path, lzma.compress(b"x" * 100)[:-4])
    return "corrupt"


def bad_gzip(path: Path) -> str:
    packer = zlib.compressobj(wbits=31)
    overwrite(path, (packer.compress(b"x" * 100) + packer.flush())[:-2])
    return "corrupt"


def plain_but_other(path: Path) -> str:
    path.unlink()
    path.with_suffix("").write_bytes(b"plain")
    return "wrong-id"


def second_form(path: Path) -> str:
    path.with_suffix("").write_bytes(b"damaged, beside a good one")
    return "wrong-id"


def elsewhere(path: Path) -> str:
    other = path.parent.parent / f"{(int(path.name[:4], 16) + 1) % 65536:04x}"
    other.mkdir(exist_ok=True)
    path.rename(other / path.name)
    return "misplaced"


DEFECTS: list[Callable[[Path], str]] = [
    *(emptied, cut, cut_by_a_byte, longer, no_frame, zeros, another_chunk, one_bit),
    *(empty_inside, bad_xz, bad_gzip, plain_but_other, second_form, elsewhere),
]


def test_every_defect_is_found(tmp_path: Path) -> None:
    """Hundreds of defects of many kinds among good chunks are all told, each by its file, and no good chunk is."""
    store, ids = filled(tmp_path / "s.castr", 600)
    (tmp_path / "s.castr" / "README").write_text("not a chunk")
    planted = {}
    for number, id in enumerate(NUMBERS.sample(ids, 300)):
        planted[id] = DEFECTS[number % len(DEFECTS)](path_of(store, id))
    bombed = ids[next(n for n, id in enumerate(ids) if id not in planted)]
    planted[bombed] = bomb(path_of(store, bombed))
    told: list[Defect] = []
    result = verify_store(store, on_defect=told.append)
    assert {defect.id: defect.kind for defect in told} == planted
    assert result.defects == len(told) == 301
    for defect in told:
        assert defect.where.startswith(store.name)
        assert str(defect.id) in defect.where


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_this_process_lacks_is_no_defect(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where descriptors or memory run out nothing was checked, and nothing is said of the store."""
    store, _ = filled(tmp_path / "s", 3)

    def refuse(*_: object) -> None:
        raise FileError(b"x", "open", OSError(number, os.strerror(number)))

    monkeypatch.setattr(store, "content", refuse)
    defects: list[Defect] = []
    with pytest.raises(FileError, match=os.strerror(number)):
        verify_store(store, on_defect=defects.append)
    assert defects == []


def test_nothing_else_is_found(tmp_path: Path) -> None:
    """Chunks of all digests, compressions and forms are good, side by side."""
    store, _ = filled(tmp_path / "s.castr", 40)
    for digest in Digest:
        filled(tmp_path / "s.castr", 10, digest)
    data = b"in another form" * 20
    for packed in (lzma.compress(data, format=lzma.FORMAT_XZ), zstandard.compress(data)):
        id = Digest.SHA256.of(data)
        path_of(store, id).parent.mkdir(exist_ok=True)
        path_of(store, id).write_bytes(packed)
        path_of(store, id, "").write_bytes(data)
    result = verify_store(store)
    assert (result.defects, result.chunks) == (0, 40 + 30 + 2)


@pytest.mark.parametrize("damage", [*DEFECTS, bomb])
def test_repair(tmp_path: Path, damage: Callable[[Path], str]) -> None:
    """Whatever happened to a chunk, a good copy from elsewhere takes its place, and all is well after."""
    store, ids = filled(tmp_path / "s.castr", 3)
    backup = LocalStore(os.fsencode(tmp_path / "backup.castr"))
    raw = store.get(ids[1], Digest.SHA512_256, 1 << 20)
    backup.put(ids[1], raw)
    damage(path_of(store, ids[1]))
    told: list[Defect] = []
    result = verify_store(store, repair=Repair(backup), on_defect=told.append)
    assert (result.repaired, [defect.mended for defect in told]) == (1, ["repaired"])
    assert verify_store(store).defects == 0
    assert store.get(ids[1], Digest.SHA512_256, 1 << 20) == raw


def test_what_was_mended_meanwhile_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that puts a good file in the place of a damaged one does not lose it to a check that read the old one."""
    store, ids = filled(tmp_path / "s.castr", 3)
    good = path_of(store, ids[1]).read_bytes()
    emptied(path_of(store, ids[1]))
    content = store.content

    def replaced(file: ChunkFile, limit: int) -> bytes | None:
        try:
            return content(file, limit)
        finally:
            if file.id == ids[1]:
                (tmp_path / "new").write_bytes(good)
                (tmp_path / "new").rename(path_of(store, ids[1]))

    monkeypatch.setattr(store, "content", replaced)
    result = verify_store(store, repair=Repair(remove=True), jobs=1)
    assert (result.defects, result.removed) == (0, 0)
    assert path_of(store, ids[1]).read_bytes() == good


def test_only_the_damaged_is_removed(tmp_path: Path) -> None:
    """Without a good copy a damaged file goes when asked, and only then; the good form beside it stays."""
    store, ids = filled(tmp_path / "s.castr", 5)
    emptied(path_of(store, ids[0]))
    second_form(path_of(store, ids[1]))
    assert verify_store(store).removed == 0
    assert verify_store(store, repair=Repair(remove=True)).removed == 2
    assert not path_of(store, ids[0]).exists()
    assert all(store.has(id) for id in ids[1:])
    assert verify_store(store).defects == 0


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    status = main(list(map(str, words)))
    return status, capsys.readouterr().out.splitlines()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A directory and its index beside a store; the tests run there."""
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    for number in range(20):
        (root / "sub" / f"file{number}").write_bytes(NUMBERS.randbytes(30_000))
    monkeypatch.chdir(tmp_path)
    assert main(["make", "tree.caidx", "tree"]) == 0
    assert main(["make", "blob.caibx", "tree/sub/file1"]) == 0
    capsys.readouterr()
    return root


def test_index_against_its_store(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing and damaged chunks of an index are told with status 1, and chunks of others are not looked at."""
    assert run(capsys, "verify", "tree.caidx")[0] == 0
    index = Index.load(b"tree.caidx")
    missing, damaged = index[1].id, index[2].id
    store = LocalStore(b"default.castr")
    path_of(store, missing).unlink()
    one_bit(path_of(store, damaged))
    status, lines = run(capsys, "verify", "tree.caidx", "--json")
    assert status == 1
    *defects, summary = map(json.loads, lines)
    assert {(row["chunk"], row["kind"]) for row in defects} == {
        (str(missing), "missing"),
        (str(damaged), "wrong-id"),
    }
    assert summary["defects"] == 2
    assert run(capsys, "verify", "blob.caibx")[0] == 0


def test_index_and_store_are_mended(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing chunks come from the other store, too."""
    index = Index.load(b"tree.caidx")
    good, bad = LocalStore(b"default.castr"), LocalStore(b"bad.castr")
    for number, chunk in enumerate(index):
        if number != 3:
            bad.put(chunk.id, good.get(chunk.id, Digest.SHA512_256, chunk.size))
    told: list[Defect] = []
    verify_chunks(index, bad, repair=Repair(good), on_defect=told.append)
    assert [(defect.kind, defect.mended) for defect in told] == [("missing", "repaired")]
    assert run(capsys, "verify", "tree.caidx", "--store=bad.castr")[0] == 0


def test_directory_and_file_against_an_index(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What an index was made from is as it was; one changed byte is told, with the place."""
    assert run(capsys, "verify", "tree.caidx", "tree")[0] == 0
    assert run(capsys, "verify", "blob.caibx", "tree/sub/file1")[0] == 0
    file = tree / "sub" / "file1"
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[77] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))
    status, lines = run(capsys, "verify", "tree.caidx", "tree")
    assert status == 1
    assert "sub/file" in lines[0]
    assert run(capsys, "verify", "blob.caibx", "tree/sub/file1")[0] == 1
    file.write_bytes(b"short")
    assert run(capsys, "verify", "blob.caibx", "tree/sub/file1")[0] == 1


@pytest.mark.parametrize(
    "words",
    [
        ["nothing.castr"],
        ["nothing.caidx"],
        ["default.castr", "tree"],
        ["blob.caibx", "tree"],
        ["tree.caidx", "nothing"],
        ["tree.caidx", "tree", "--remove"],
        ["tree.caidx", "--what=archive"],
    ],
)
def test_wrong_words(tree: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be checked is said in one line, and nothing is called good."""
    assert main(["verify", *words]) != 0
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
