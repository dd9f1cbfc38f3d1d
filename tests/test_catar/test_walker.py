"""A walk gives the same nodes whether their contents are read or passed over."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Archived, archives, directory, encode, file

from catar.decoder import Decoder
from catar.errors import FormatError
from catar.records import DirectoryEnd, Node
from catar.runs import Run, run_paths
from catar.walker import Known, TreeStream, Walker

from .feeding import fixture
from .samples import EVERYTHING


class Stream:
    """A byte source over memory that counts what was skipped; may give pieces of random size."""

    def __init__(self, data: bytes, piece: int | None = None, seed: int = 0) -> None:
        self.data = data
        self.at = 0
        self.skipped = 0
        self._piece = piece
        self._rng = random.Random(seed)

    def read(self) -> bytes:
        size = self._piece or self._rng.randint(1, 200)
        data = self.data[self.at : self.at + size]
        self.at += len(data)
        return data

    def skip(self, count: int) -> None:
        assert count > 0
        self.at += count
        self.skipped += count


def walk(
    stream: Stream, wanted: Callable[[Node], bool], **options: object
) -> list[tuple[bytes, object, bytes | None]]:
    """All steps as (path, node or end, contents if wanted)."""
    walker = Walker(stream, **options)  # type: ignore[arg-type]
    out: list[tuple[bytes, object, bytes | None]] = []
    for step in walker:
        data = None
        if isinstance(step, Node) and wanted(step):
            data = b"".join(walker.payload())
        out.append((walker.path, step, data))
    return out


class Stopping(Stream):
    """Gives no more at a time than up to the next of some offsets."""

    def __init__(self, data: bytes, stops: list[int], seed: int) -> None:
        super().__init__(data, None, seed)
        self._stops = stops

    def read(self) -> bytes:
        begin = self.at
        data = super().read()
        stop = min((stop for stop in self._stops if stop > begin), default=len(self.data))
        self.at = min(self.at, stop)
        return data[: self.at - begin]


def rows(walker: Walker) -> list[tuple[bytes, bool]]:
    """Paths of all nodes as `runs` gives them, and whether contents are as large as they ought to be."""
    found: list[tuple[bytes, bool]] = []
    for step in walker.runs():
        if isinstance(step, Run):
            found += [(path, True) for path in run_paths(step, walker.path)]
        elif isinstance(step, Node):
            taken = sum(map(len, walker.payload()))
            found.append((walker.path, taken == step.size))
    return found


@given(archives(), st.booleans(), st.integers(0, 1 << 32), st.data())
@settings(max_examples=60)
def test_known_directories(archived: Archived, native: bool, seed: int, draw: st.DataObject) -> None:
    """They are passed over with all that is in them, where somebody agrees; everything else comes as ever."""
    starts: list[int] = []
    known: list[Known] = []
    walker = Walker(Stream(archived.data))
    paths = []
    for step in walker:
        if isinstance(step, DirectoryEnd):
            start, before = starts.pop(), paths.index(walker.path)
            known.append(Known(start, step.end, walker.path, len(paths) - before))
        else:
            assert isinstance(step, Node)
            paths.append(walker.path)
            if step.is_dir:
                starts.append(step.start)
    known = [each for each in known if each.path and draw.draw(st.booleans())]
    known.sort(key=lambda each: each.start)
    top = [each for each in known if not any(other.start < each.start < other.end for other in known)]
    refused = {each.path for each in top if draw.draw(st.integers(0, 3)) == 0}
    asked: list[bytes] = []

    def passes(each: Known) -> bool:
        asked.append(each.path)
        return each.path not in refused

    walker = Walker(Stopping(archived.data, [each.start for each in top], seed), Decoder(native=native))
    walker.pass_over(top, passes)
    found = rows(walker)
    assert asked == [each.path for each in top]
    gone = [each.path for each in top if each.path not in refused]
    assert found == [
        (path, True)
        for path in paths
        if not any(path == each or path.startswith(each + b"/") for each in gone)
    ]


def test_a_known_directory_of_another_place() -> None:
    """Under another path, or twice in a directory, it is not passed over, or an error."""
    data = encode(directory(b"", directory(b"a", file(b"f", b"x")), directory(b"b", file(b"f", b"x")))).data
    (first, second) = (
        step for step in Walker(Stream(data)) if isinstance(step, Node) and step.is_dir and step.name
    )
    end = next(step.end for step in Walker(Stream(data)) if isinstance(step, DirectoryEnd))

    def walked(*known: Known) -> list[tuple[bytes, bool]]:
        walker = Walker(Stopping(data, [first.start, second.start], 0), Decoder(native=False))
        walker.pass_over(known, lambda each: True)
        return rows(walker)

    everything = [(b"", True), (b"a", True), (b"a/f", True), (b"b", True), (b"b/f", True)]
    assert walked(Known(first.start, end, b"x/a", 2)) == everything
    assert walked(Known(first.start, end, b"a", 2)) == [everything[0], *everything[3:]]
    with pytest.raises(FormatError, match="occurs twice"):
        walked(Known(first.start, end, b"a", 2), Known(second.start, len(data), b"a", 2))


@given(archives())
@settings(max_examples=35)
def test_paths_and_contents(archived: Archived) -> None:
    """Every node comes with its path and, if asked for, its contents; directories end after their children."""
    steps = walk(Stream(archived.data), lambda node: True)
    assert [(path, step, data) for path, step, data in steps if isinstance(step, Node)] == [
        (path, item.node, item.data) for path, item in archived.top.walk()
    ]
    open_: list[bytes] = []
    for path, step, _ in steps:
        if isinstance(step, DirectoryEnd):
            assert open_.pop() == path
        elif isinstance(step, Node) and step.is_dir:
            open_.append(path)
    assert open_ == []


@given(archives())
@settings(max_examples=35)
def test_skipping_changes_nothing(archived: Archived) -> None:
    """Nodes and offsets are the same when contents are passed over, in whatever pieces the archive arrives."""
    read = walk(Stream(archived.data, 1 << 20), lambda node: True)
    for seed, wanted in (
        (1, lambda node: False),
        (2, lambda node: len(node.name) % 2 == 0),
        (3, lambda node: True),
    ):
        passed = walk(Stream(archived.data, None, seed), wanted)
        assert [step[:2] for step in passed] == [step[:2] for step in read]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_contents_taken_in_part(taken: int) -> None:
    """Contents may be left after any piece; the walk goes on behind them."""
    archived = encode(directory(b"", file(b"a", b"x" * 1000), file(b"b", b"y")))
    walker = Walker(Stream(archived.data, 100))
    seen = []
    for step in walker:
        if isinstance(step, Node):
            seen.append(step.name)
            for _, _ in zip(range(taken), walker.payload(), strict=False):
                pass
    assert seen == [b"", b"a", b"b"]


def test_large_contents_are_not_read() -> None:
    """What is passed over is skipped in the source."""
    stream = Stream(encode(directory(b"", file(b"a", bytes(100_000)))).data, 500)
    walk(stream, lambda node: False)
    assert stream.skipped > 99_000


def test_nothing_to_read() -> None:
    """Directories, links and empty files have no contents."""
    walker = Walker(Stream(EVERYTHING.data))
    for step in walker:
        if isinstance(step, Node) and not step.size:
            assert list(walker.payload()) == []


def test_flags() -> None:
    """The flag word is known once the first node was read."""
    walker = Walker(Stream(EVERYTHING.data))
    assert walker.feature_flags == 0
    next(iter(walker))
    assert walker.feature_flags == EVERYTHING.flags


def test_top() -> None:
    """Paths start at the top's, where it has one."""
    data = encode(directory(b"", directory(b"d", file(b"x")), file(b"e"))).data
    paths = [path for path, _, _ in walk(Stream(data), lambda node: False, top=b"some/where")]
    assert paths == [
        b"some/where",
        b"some/where/d",
        b"some/where/d/x",
        b"some/where/d",
        b"some/where/e",
        b"some/where",
    ]


def test_is_a_tree_stream() -> None:
    """A walker is what consumers of trees take."""
    stream: TreeStream = Walker(Stream(EVERYTHING.data))
    assert stream.path == b""


@pytest.mark.parametrize("read", [True, False], ids=["read", "skipped"])
def test_truncated(read: bool) -> None:
    """A truncated archive is an error, also where the missing bytes would have been skipped."""
    data = EVERYTHING.data
    for size in range(0, len(data), 11):
        with pytest.raises(FormatError, match="truncated"):
            walk(Stream(data[:size]), lambda node: read)


def test_truncated_single_file() -> None:
    """So is a single file whose contents are read."""
    single = encode(file(b"", b"contents"), any_top=True)
    with pytest.raises(FormatError, match="truncated"):
        walk(Stream(single.data[:-1]), lambda node: True, decoder=Decoder(any_top=True))
    for wanted in (lambda node: True, lambda node: False):
        steps = walk(Stream(single.data), wanted, decoder=Decoder(any_top=True))
        assert [step.offset for _, step, _ in steps] == [0]


def test_real_archive() -> None:
    """Over an archive of casync's."""
    steps = walk(Stream(fixture("sort-order")), lambda node: True)
    assert [path for path, _, _ in steps] == [
        b"",
        b"B",
        b"a",
        b"a-b",
        b"a.b",
        b"b",
        b"dir",
        b"dir/f",
        b"dir",
        b"",
    ]
    assert [data for _, step, data in steps if isinstance(step, Node) and step.is_regular] == [
        b"B",
        b"a",
        b"a-b",
        b"a.b",
        b"b",
        b"deep",
    ]
