"""Numbers at which types turn over, as every argument of every native function and as every field of a node.

A native function and its Python twin give the same, or both say that they cannot; nothing wraps around, and nothing is
read or written where it should not be.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import applying
import pytest
from applying import FLAGS, Item, Pieces, apply, archive, d, f, link
from archives import OneByOne

from casync_compat import lines
from casync_compat.chunker import kernel
from casync_compat.errors import CasyncError
from casync_compat.fs import identity, names, system
from casync_compat.fs.names import list_names
from catar import filling, goodbye
from catar.decoder import Decoder
from catar.errors import FormatError
from catar.filling import Owners
from catar.flags import DEFAULT
from catar.goodbye import HASH_KEY
from catar.layouts import FILE_ROW
from catar.records import END, Node
from catar.walker import Walker

try:
    from casync_compat.chunker import _kernel
    from casync_compat.fs import _identity, _names, _system
    from catar import _filling, _goodbye
except ImportError:
    pytest.skip("nothing native is compiled", allow_module_level=True)

LIMITS = (
    *(0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64),
    *(-1, -(1 << 31), -(1 << 31) - 1, -(1 << 63), -(1 << 63) - 1),
)
CLEAN = (OverflowError, ValueError, TypeError, OSError, struct.error)


class Bits(int):
    """A set of flags, which is no number."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A descriptor of a directory with two files, a link and a directory."""
    at = tmp_path_factory.mktemp("limits")
    (at / "a").write_bytes(b"content")
    (at / "b").write_bytes(b"")
    (at / "c").symlink_to("target")
    (at / "d").mkdir()
    fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


Call = tuple[Callable[..., Any], Callable[..., Any], list[Any]]


def calls(fd: int) -> dict[str, Call]:
    """A right call of each native function that has a twin with the same arguments."""
    listing = list_names(fd)
    device = os.fstat(fd).st_dev
    gaps = b"".join(n.to_bytes(8, "little") for n in (os.getuid(), os.getgid(), 0))
    room = Owners.HEAD + 1
    row = FILE_ROW.writer("mode", "uid", "gid", "mtime", "size", "place")(
        stat.S_IFREG | 0o644, 3, 4, 5, 6, room
    )
    run: list[Any] = [fd, listing, 0, 9, Bits(0), device, Bits(0), b"", bytearray(4096), Owners.HEAD, gaps]
    owners = [(3, 4, 3, 4, b"")]
    fill: list[Any] = [bytearray(512), 0, 0, b"a\0", row, DEFAULT, 1, owners, False, b"", HASH_KEY]
    return {
        "scan": (_kernel.scan, kernel.scan, [bytes(range(256)) * 3, 0, 0, 768, 64, 256, 200]),
        "identities": (_identity.identities, identity._identities_python, [fd, b"a\0b\0"]),
        "list_names": (_names.list_names, names.list_names, [fd]),
        "read_files": (_system.read_files, system.read_files, [fd, [b"a", b"b"], Bits(0), bytearray(64)]),
        "read_run": (_system.read_run, system.read_run, run),
        "open_directory": (_system.open_directory, system.open_directory, [fd, b"d", Bits(0)]),
        "fill": (_filling.fill, filling.fill, fill),
    }


CALLS = ("scan", "identities", "list_names", "read_files", "read_run", "open_directory", "fill")


def outcome(function: Callable[..., Any], arguments: list[Any]) -> object:
    """What it gives, and leaves in the buffers that it was given; descriptors are closed and count as one another."""
    given = [bytearray(a) if isinstance(a, bytearray) else a for a in arguments]
    with suppress(OSError, OverflowError, TypeError):
        os.lseek(arguments[0], 0, os.SEEK_SET)  # a directory that was read stays at its end
    try:
        result = function(*given)
    except CLEAN:
        return "it cannot"
    return _without_descriptors(result), [bytes(a) for a in given if isinstance(a, bytearray)]


def _without_descriptors(result: Any) -> Any:
    if isinstance(result, tuple) and len(result) == 15:
        if result[0] >= 0:
            os.close(result[0])
        return (result[0] >= 0, *result[1:])
    if isinstance(result, (list, tuple)):
        return [_without_descriptors(item) for item in result]
    return result


def variants(arguments: list[Any]) -> Iterator[list[Any]]:
    """The arguments with one number in them replaced, numbers in tuples and in rows of 64-bit numbers too."""
    for i, value in enumerate(arguments):
        if isinstance(value, int) and not isinstance(value, Bits):
            for limit in LIMITS:
                yield [*arguments[:i], bool(limit) if isinstance(value, bool) else limit, *arguments[i + 1 :]]
        elif isinstance(value, list):
            for item in variants_of_items(value):
                yield [*arguments[:i], item, *arguments[i + 1 :]]
        elif isinstance(value, bytes) and value and not len(value) % 8 and len(value) < 64:
            for at in range(0, len(value), 8):
                for limit in LIMITS:
                    if 0 <= limit < 1 << 64:
                        changed = value[:at] + limit.to_bytes(8, "little") + value[at + 8 :]
                        yield [*arguments[:i], changed, *arguments[i + 1 :]]


def variants_of_items(items: list[Any]) -> Iterator[list[Any]]:
    for i, item in enumerate(items):
        if isinstance(item, tuple):
            for changed in variants(list(item)):
                yield [*items[:i], tuple(changed), *items[i + 1 :]]


@pytest.mark.parametrize("name", CALLS)
def test_arguments(directory: int, name: str) -> None:
    """One argument after the other takes each limit: both twins give the same, or both cannot."""
    native, python, arguments = calls(directory)[name]
    assert outcome(native, arguments) == outcome(python, arguments) != "it cannot"
    different = []
    for changed in variants(arguments):
        one, other = outcome(native, changed), outcome(python, changed)
        if one != other:
            number = next(n for n, (a, b) in enumerate(zip(arguments, changed, strict=True)) if a != b)
            different.append(
                f"argument {number} is {changed[number]!r}: {str(one)[-150:]}, not {str(other)[-150:]}"
            )
    assert not different, "\n".join(different[:9])


@pytest.mark.parametrize("offset", [500, *(limit for limit in LIMITS if limit < 1 << 64)])
def test_a_lookup_table(offset: int) -> None:
    """The table of a directory whose record would stand anywhere, by both."""
    starts, hashes = array("Q", [64, 200, 300]), array("Q", [0, (1 << 64) - 1, 1 << 63])
    table = goodbye.ChildTable(0)
    table.add_run(starts.tobytes(), hashes.tobytes(), b"c")
    assert outcome(_goodbye.goodbye_items, [offset, starts, hashes]) == outcome(table._items, [offset, 3])


UNSIGNED = [limit for limit in LIMITS if 0 <= limit < 1 << 64]
FIELDS = [(field, value) for field in ("uid", "gid", "mtime") for value in UNSIGNED]


def tree_with(field: str, value: int) -> Item:
    """Ordinary nodes, all with this value."""
    return d(
        b"", f(b"a", b"text", **{field: value}), d(b"b", **{field: value}), link(b"c", b"a", **{field: value})
    )


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_fields_of_nodes_read(field: str, value: int) -> None:
    """Nodes come out of an archive with the value, or are refused, in runs and one by one; listings show the same."""
    data = archive(tree_with(field, 123456789), FLAGS)
    data = data.replace((123456789).to_bytes(8, "little"), value.to_bytes(8, "little"))
    seen = []
    for native in (True, False):
        decoder = Decoder(native=native)
        decoder.receive(data)
        decoder.receive(b"")
        nodes = []
        try:
            while (event := decoder.next_event()) is not END:
                nodes.append(event)
        except FormatError as error:
            nodes.append(str(error))
        seen.append(nodes)
    assert seen[0] == seen[1]
    if not any(isinstance(event, str) for event in seen[0]):
        assert {getattr(node, field) for node in seen[0][1:] if isinstance(node, Node)} == {value}
        for form in (lines.list_lines, lines.mtree_lines):
            assert b"".join(form(Walker(Pieces(data)))) == b"".join(form(OneByOne(data)))


@pytest.mark.root
@pytest.mark.parametrize(("field", "value"), [(f, v) for f, v in FIELDS if f == "mtime" or v < (1 << 32) - 1])
def test_fields_of_nodes_written(tmp_path: Path, field: str, value: int) -> None:
    """What is extracted, and what is said of it, is the same in runs and one by one."""
    seen = []
    for runs in (True, False):
        applying.in_runs = runs
        target = tmp_path / str(runs)
        try:
            said: object = apply(target, tree_with(field, value), feature_flags=FLAGS)
        except CasyncError as error:
            said = str(error)
        finally:
            applying.in_runs = False
        found = {}
        for path in sorted(target.rglob("*")):
            st = path.lstat()
            found[path.name] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns if field == "mtime" else 0)
        seen.append((str(said).replace(str(target), ""), found))
    assert seen[0] == seen[1]
