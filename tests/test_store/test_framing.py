"""A chunk file that is empty, cut or not a chunk is found out by a few bytes of it, and replaced."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from casync_compat.compression import Compression, compress
from casync_compat.ids import Digest
from casync_compat.store.framing import HEAD, looks_whole
from casync_compat.store.local import LocalStore

D = Digest.SHA512_256
ALL = list(Compression)


def some(size: int) -> bytes:
    """Content of which half can be compressed."""
    return random.Random(size).randbytes(size // 2) + bytes(range(256)) * (size // 512) + bytes(size % 2)


SIZES = [1, 100, 1024, 65536, 131072, 131073, 400_000]


def stored(kind: Compression, raw: bytes) -> bytes:
    return raw if kind is Compression.NONE else compress(kind, raw)


def whole(frame: bytes, size: int | None, packed: bool) -> tuple[bool | None, int]:
    """The answer, and how many bytes it took."""
    read = 0

    def take(offset: int, count: int) -> bytes:
        nonlocal read
        part = frame[offset : offset + count]
        read += len(part)
        return part

    return looks_whole(take(0, HEAD), take, len(frame), size, packed=packed), read


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.value)
@pytest.mark.parametrize("size", SIZES)
def test_good_files_are_whole_by_few_bytes(kind: Compression, size: int) -> None:
    """All that we write looks whole, whether its size is known or not, and hardly anything of it is read."""
    raw = some(max(size, 2))[:size] if size > 1 else b"x"
    frame = stored(kind, raw)
    packed = kind is not Compression.NONE
    for known in (len(raw), None):
        good, read = whole(frame, known, packed)
        assert good or (good is None and known is None and kind in (Compression.GZIP, Compression.NONE))
        assert read <= 160


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("size", [1, 200, 300, 70_000, 300_000])
def test_frames_of_others_are_whole(declared: bool, checksum: bool, size: int) -> None:
    """zstd with declared sizes, as desync writes it, and with checksums."""
    import zstandard

    raw = random.Random(size).randbytes(size)
    frame = zstandard.ZstdCompressor(write_content_size=declared, write_checksum=checksum).compress(raw)
    assert whole(frame, size, True)[0]
    assert not whole(frame[:-1], size, True)[0]
    assert not whole(frame + b"\0", size, True)[0]


DEFECTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda frame: b"",
    "one byte": lambda frame: frame[:1],
    "half": lambda frame: frame[: len(frame) // 2],
    "a block short": lambda frame: frame[: max(1, len(frame) - 4096)],
    "last byte gone": lambda frame: frame[:-1],
    "last eight gone": lambda frame: frame[:-8],
    "longer": lambda frame: frame + b"\0" * 7,
    "twice": lambda frame: frame + frame,
}
PACKED_DEFECTS: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda frame: bytes(len(frame)),
    "text": lambda frame: b"<html>404</html>" * (len(frame) // 16),
    "magic only": lambda frame: frame[:6] + bytes(len(frame) - 6),
}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.value)
@pytest.mark.parametrize("defect", [*DEFECTS, *PACKED_DEFECTS])
@pytest.mark.parametrize("size", [20_000, 300_000])
def test_put_replaces_what_is_damaged(tmp_path: Path, kind: Compression, defect: str, size: int) -> None:
    """The chunk is new, the store gives it again, and a second put finds it there."""
    if kind is Compression.NONE and defect in PACKED_DEFECTS:
        pytest.skip("of the right size: only its id tells")
    if kind is Compression.GZIP and defect == "twice":
        pytest.skip("a trailer says nothing of what is before its member")
    raw = some(size)
    store = LocalStore(tmp_path / "x.castr", compression=kind)
    id = D.of(raw)
    assert store.put(id, raw).new
    [path] = [path for path in (tmp_path / "x.castr").rglob("*") if path.is_file()]
    good = path.read_bytes()
    os.chmod(path, 0o644)
    path.write_bytes((DEFECTS | PACKED_DEFECTS)[defect](good))
    assert not store.keep(id)
    assert store.put(id, raw).new
    assert path.read_bytes() == good
    assert store.get(id, D, size) == raw
    assert not store.put(id, raw).new
    assert store.keep(id)


@pytest.mark.parametrize("defect", [b"", b"half a chunk"])
def test_a_damaged_form_does_not_stay_beside_the_good_one(tmp_path: Path, defect: bytes) -> None:
    """casync reads the plain form first: a damaged one goes when the compressed one is written."""
    raw = some(5000)
    id = D.of(raw)
    store = LocalStore(tmp_path / "x.castr")
    plain = tmp_path / "x.castr" / str(id)[:4] / str(id)
    plain.parent.mkdir(parents=True)
    plain.write_bytes(defect)
    assert store.put(id, raw).new
    assert [path.name for path in plain.parent.iterdir()] == [f"{id}.cacnk"]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.value)
def test_verify_reused_finds_damage_inside(tmp_path: Path, kind: Compression) -> None:
    """Another chunk of the same size and form in its place is replaced when reused chunks are read."""
    raw, other = some(30_000), some(30_000)[::-1]
    id = D.of(raw)
    store = LocalStore(tmp_path / "x.castr", compression=kind)
    store.put(id, raw)
    [path] = [path for path in (tmp_path / "x.castr").rglob("*") if path.is_file()]
    os.chmod(path, 0o644)
    path.write_bytes(stored(kind, other))
    store.verify_reused = True
    assert not store.keep(id)
    assert store.put(id, raw).new
    assert store.get(id, D, len(raw)) == raw
    assert store.keep(id)
    assert not store.put(id, raw).new
