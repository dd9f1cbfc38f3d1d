"""Manifests with contents hashed on several threads: the same lines as on one, whatever the archive and the pieces."""

from __future__ import annotations

import stat
from typing import Any, NoReturn

import pytest
from archives import END, Memory, OneByOne, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Archived, archives, flag_words, plain_archives

from casync_compat.lines import MtreeForm, mtree_lines
from casync_compat.verbs.mtree import _Feed, _lines, manifest
from catar import FormatError, Node, RangeSource, Walker
from catar.flags import DEFAULT, NO_REPLAY_LIMIT, FeatureFlags, select

F = FeatureFlags
REG, DIR = stat.S_IFREG, stat.S_IFDIR


def walker(data: bytes, piece: int = 1 << 20) -> Walker:
    return Walker(RangeSource(Memory(data), 0, len(data), piece))


def lines(data: bytes, piece: int = 1 << 20, **options: Any) -> list[bytes]:
    return b"".join(manifest(walker(data, piece), **options)).splitlines()


MASKS = st.sampled_from([NO_REPLAY_LIMIT, 0, int(F.USER_NAMES), int(F.UIDS_32BIT | F.NSEC_TIME), int(F.ACL)])


@given(plain_archives(), MASKS, st.booleans(), st.sampled_from([1 << 20, 200]), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_same_lines(archived: Archived, mask: int, shifted: bool, piece: int, jobs: int) -> None:
    """Trees of ordinary and other nodes, under several masks."""
    expected = b"".join(mtree_lines(OneByOne(archived.data), mask=mask, shifted=shifted)).splitlines()
    assert lines(archived.data, piece, mask=mask, shifted=shifted, jobs=jobs) == expected


@given(flag_words().flatmap(lambda flags: archives(flags, depth=1)))
@settings(max_examples=30, deadline=None)
def test_same_lines_with_any_flags(archived: Archived) -> None:
    """Archives with any feature flags, so with any digest."""
    assert lines(archived.data) == b"".join(mtree_lines(OneByOne(archived.data))).splitlines()


LARGE = bytes(range(256)) * (20 << 10)
"""5 MiB, so that it is fed to the thread that hashes it."""


@pytest.mark.parametrize("features", [DEFAULT, select([int(F.PERMISSIONS | F.SYMLINKS)], digest_bits=0)])
def test_large_files(features: int) -> None:
    """Large files between small ones, in pieces that are smaller than they and larger; with runs and without."""
    small = [(Node(b"%02d" % i, REG | 0o644), b"x" * i) for i in range(20)]
    large = [(Node(name, REG | 0o600), LARGE) for name in (b"20", b"21")]
    data = encode([Node(b"", DIR | 0o755), *small, *large, (Node(b"22", REG | 0o600), b""), END], features)
    expected = b"".join(mtree_lines(OneByOne(data))).splitlines()
    for piece in (64 << 10, 3 << 20, 16 << 20):
        assert lines(data, piece, jobs=2) == expected


@pytest.mark.parametrize("lost", [100, len(LARGE) // 2])
@pytest.mark.parametrize("piece", [64 << 10, 16 << 20])
def test_truncated(lost: int, piece: int) -> None:
    """An archive that ends too soon, within a large file too, is an error, and nobody waits for the rest."""
    data = encode([Node(b"", DIR | 0o755), (Node(b"a", REG | 0o644), LARGE), END])
    with pytest.raises(FormatError, match="truncated"):
        lines(data[:-lost], piece)


def test_reader_who_leaves() -> None:
    """Whoever wants no more lines may stop asking, in the midst of a large file too."""
    steps = [(Node(b"%02d" % i, REG | 0o644), LARGE) for i in range(4)]
    data = encode([Node(b"", DIR | 0o755), *steps, END])
    text = manifest(walker(data, 64 << 10), jobs=1)
    assert next(text).startswith(b". type=dir")
    text.close()


class Broken:
    """Stands in for a form that fails whatever it is asked."""

    def __getattr__(self, name: str) -> NoReturn:
        raise MemoryError


def test_hashing_that_fails() -> None:
    """When a large file cannot be hashed, what is still fed is thrown away, so that the reader is not kept waiting."""
    feed = _Feed()
    for _ in range(10):
        feed.put(memoryview(b"x"))
    feed.end()
    with pytest.raises(MemoryError):
        _lines(Broken(), Node(b"f", REG | 0o644, size=10), b"f", feed)  # type: ignore[arg-type]
    assert list(feed) == []


def test_form_of_a_label() -> None:
    """A form by itself, as the threads use it: digest and line belong together."""
    form = MtreeForm(DEFAULT)
    line = form.line(Node(b"f", REG | 0o644, size=0), b"f", form.digest.of(b""))
    assert line.endswith(b" sha512256digest=%b\n" % form.digest.of(b"").hex().encode())
