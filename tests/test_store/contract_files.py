"""What every place of files promises, as tests. A place's own test derives from `FilesContract`, or from
`SwapContract` if it can write on a condition (`Can.SWAP`), and provides `files`.

What a place cannot do otherwise (`Files.can`) is skipped, and it must say so by `UsageError`.
"""

from __future__ import annotations

import re
import threading
import time

import pytest

from casync_compat.errors import UsageError
from casync_compat.store.files import ONLY_HERE, Can, FileChanged, FileDamaged, Files, Listed

NAMES: tuple[bytes, ...] = (b"a", b"ab/c.x", b"ab/c", b"ab.y", b"b/c/d", b"0123/45")
LIMIT = 1 << 20


class FilesContract:
    """Reading and writing whole files, and whatever else the place says that it can do."""

    names = NAMES
    """Names that the place can hold."""

    date_step = 0.02
    """Seconds after which a date differs: longer than the clock of a file system stands still."""

    def need(self, files: Files, what: Can) -> None:
        """Go on only if the place can do this."""
        if what not in files.can:
            pytest.skip(f"this place cannot {what}")

    def content(self, n: int) -> bytes:
        """What file number `n` holds; a place that takes only certain contents has its own."""
        return b"%d:" % n * 100

    def test_returns_what_was_written(self, files: Files) -> None:
        """Each name has its own content, whatever kind of buffer it came in."""
        self.need(files, Can.WRITE)
        for n, name in enumerate(self.names):
            files.write(name, memoryview(bytearray(self.content(n))))
        for n, name in enumerate(self.names):
            assert files.read(name, LIMIT) == self.content(n)
            status = files.stat(name)
            assert status is not None
            assert status.size == len(self.content(n))

    def test_missing(self, files: Files) -> None:
        """What was never written is None, in an empty place or not, and no part of another name counts."""
        for _ in range(2):
            for name in (b"never", b"ab", b"never/never"):
                assert files.read(name, LIMIT) is None
                assert files.stat(name) is None
            if Can.WRITE in files.can:
                assert files.remove(b"never") == 0
                files.write(self.names[1], self.content(0))

    def test_limit(self, files: Files) -> None:
        """One byte over the limit is refused, and the place is named."""
        self.need(files, Can.WRITE)
        content = self.content(1)
        files.write(self.names[0], content)
        assert files.read(self.names[0], len(content)) == content
        with pytest.raises(FileDamaged) as caught:
            files.read(self.names[0], len(content) - 1)
        assert files.name in str(caught.value)

    def test_replaced(self, files: Files) -> None:
        """The last one who writes wins, and the version tells."""
        self.need(files, Can.WRITE)
        name = self.names[0]
        first = files.write(name, self.content(1))
        before = files.stat(name)
        second = files.write(name, self.content(2))
        after = files.stat(name)
        assert files.read(name, LIMIT) == self.content(2)
        assert before is not None
        assert after is not None
        if first is not None:
            assert (before.version, after.version) == (first, second)
            assert first != second

    def test_sync_any_time(self, files: Files) -> None:
        """sync is fine before the first write, after it, and twice; the place can be used when it was closed."""
        self.need(files, Can.WRITE)
        files.sync()
        files.write(self.names[0], self.content(1))
        files.sync(others=True)
        files.close()
        files.sync()
        assert files.read(self.names[0], LIMIT) == self.content(1)

    def test_remove(self, files: Files) -> None:
        """A removed file is gone and frees its size; the others stay."""
        self.need(files, Can.WRITE)
        for n, name in enumerate(self.names):
            files.write(name, self.content(n))
        assert files.remove(self.names[1]) == len(self.content(1))
        assert files.stat(self.names[1]) is None
        assert files.remove(self.names[1]) == 0
        assert files.read(self.names[2], LIMIT) == self.content(2)
        files.write(self.names[1], self.content(3))
        assert files.read(self.names[1], LIMIT) == self.content(3)

    def test_remove_many(self, files: Files) -> None:
        """Files that are removed together are gone, also if their sizes are unknown or some are not there."""
        self.need(files, Can.WRITE)
        for n, name in enumerate(self.names):
            files.write(name, self.content(n))
        first, second, third, *others = self.names
        sizes = [len(self.content(n)) for n in range(3)]
        gone = [Listed(first, sizes[0]), Listed(second), Listed(b"never"), Listed(third)]
        assert files.remove_many(gone) == sum(sizes)
        assert [files.stat(name) for name in (first, second, third)] == [None] * 3
        assert all(files.stat_many(others))
        assert files.remove_many([]) == 0

    def test_ranges(self, files: Files) -> None:
        """A part is what the whole has there, less at the end, nothing behind it."""
        self.need(files, Can.WRITE)
        content = self.content(1)
        files.write(self.names[0], content)
        for offset, size in [(0, 1), (0, len(content)), (7, 20), (len(content) - 1, 5), (len(content), 5)]:
            assert files.read_range(self.names[0], offset, size) == content[offset : offset + size]
        assert files.read_range(b"never", 0, 1) is None
        parts = [(0, len(content)), (7, 20), (len(content) - 1, 1)]
        found = files.begin_ranges([(self.names[0], *part) for part in parts] + [(b"never", 0, 1)])()
        assert found == [content[offset : offset + size] for offset, size in parts] + [None]

    def test_begun(self, files: Files) -> None:
        """Who begins a file has its beginning and the rest, in parts or as a stream; who wants all of it has that."""
        self.need(files, Can.WRITE)
        content = self.content(1)
        files.write(self.names[0], content)
        assert files.open_file(b"never") is None
        assert files.open_file(b"never", 10) is None
        whole = files.open_file(self.names[0])
        assert whole is not None
        assert whole.rest is not None
        assert whole.size in (None, len(content))
        assert whole.head + b"".join(whole.rest) == content
        for head in (7, len(content), len(content) + 9):
            begun = files.open_file(self.names[0], head)
            assert begun is not None
            if begun.rest is not None:
                assert begun.head + b"".join(begun.rest) == content
                continue
            assert (begun.size, begun.head) == (len(content), content[:head])
            for offset, size in [(0, 3), (9, 30), (len(content) - 2, 2), (len(content) - 2, 20)]:
                part = files.read_part(self.names[0], offset, size, begun.status)
                assert part == content[offset : offset + size]

    def test_begun_and_changed(self, files: Files) -> None:
        """Parts of two contents are never mixed: of another size or of the same, or where there is none any more."""
        self.need(files, Can.WRITE)
        for other in (self.content(22), self.content(2)):
            files.write(self.names[0], self.content(1))
            begun = files.open_file(self.names[0], 7)
            assert begun is not None
            time.sleep(self.date_step)
            files.write(self.names[0], other)
            if begun.rest is None:
                with pytest.raises(FileChanged, match="changed"):
                    files.read_part(self.names[0], 9, 10, begun.status)
                files.remove(self.names[0])
                with pytest.raises(FileChanged):
                    files.read_part(self.names[0], 9, 10, begun.status)

    def test_list(self, files: Files) -> None:
        """Every file is listed once, in ascending order, with what is known of it."""
        self.need(files, Can.WRITE | Can.LIST)
        assert list(files.list()) == []
        for n, name in enumerate(self.names):
            files.write(name, self.content(n))
        listed = list(files.list())
        assert [file.name for file in listed] == sorted(self.names)
        for file in listed:
            assert file.size in (None, len(self.content(self.names.index(file.name))))
        assert [file.name for file in files.list(details=False)] == sorted(self.names)

    def test_list_in_part(self, files: Files) -> None:
        """By the beginning of the name, and by directory."""
        self.need(files, Can.WRITE | Can.LIST)
        for n, name in enumerate(self.names):
            files.write(name, self.content(n))
        prefix = self.names[1][:2]
        under = re.compile(rb"[a-b]{1,2}")
        assert [file.name for file in files.list(prefix)] == sorted(
            name for name in self.names if name.startswith(prefix)
        )
        assert [file.name for file in files.list(under=under)] == sorted(
            name for name in self.names if under.fullmatch(name.rpartition(b"/")[0])
        )
        assert [file.name for file in files.list(under=ONLY_HERE)] == sorted(
            name for name in self.names if b"/" not in name
        )

    def test_listing_what_is_not_there(self, files: Files) -> None:
        """No file begins with the name of none, nor of one that is a file, as if that were a directory."""
        self.need(files, Can.WRITE | Can.LIST)
        files.write(self.names[0], self.content(0))
        assert list(files.list(b"never/")) == []
        assert list(files.list(self.names[0] + b"/")) == []

    def test_dates(self, files: Files) -> None:
        """A file written now has a date of now."""
        self.need(files, Can.WRITE | Can.DATES)
        start = time.time_ns() - 60_000_000_000
        files.write(self.names[0], self.content(1))
        status = files.stat(self.names[0])
        assert status is not None
        assert status.modified is not None
        assert start < status.modified < time.time_ns() + 60_000_000_000

    def test_says_what_it_cannot(self, files: Files) -> None:
        """What a place cannot do is asked wrongly, and nothing else."""
        if Can.WRITE not in files.can:
            with pytest.raises(UsageError):
                files.write(self.names[0], self.content(1))
        elif Can.SWAP not in files.can:
            with pytest.raises(UsageError):
                files.write(self.names[0], self.content(1), if_absent=True)
        if Can.LIST not in files.can:
            with pytest.raises(UsageError):
                list(files.list())


class SwapContract(FilesContract):
    """The same, of a place that writes on a condition, too."""

    def test_touch(self, files: Files) -> None:
        """A touched file is as it was but for its date; what is not there is not made."""
        files.write(self.names[1], self.content(1))
        before = files.stat(self.names[1])
        time.sleep(self.date_step)
        assert files.touch(self.names[1])
        after = files.stat(self.names[1])
        assert before is not None
        assert after is not None
        assert before.modified is not None
        assert after.modified is not None
        assert after.modified > before.modified
        assert files.read(self.names[1], LIMIT) == self.content(1)
        assert not files.touch(b"never")
        assert files.stat(b"never") is None

    def test_if_absent(self, files: Files) -> None:
        """Only the first is written."""
        files.write(self.names[0], self.content(1), if_absent=True)
        with pytest.raises(FileChanged):
            files.write(self.names[0], self.content(2), if_absent=True)
        assert files.read(self.names[0], LIMIT) == self.content(1)

    def test_if_version(self, files: Files) -> None:
        """Only who has seen the newest version replaces it."""
        name = self.names[0]
        with pytest.raises(FileChanged):
            files.write(name, self.content(0), if_version=files.write(self.names[1], b"x"))
        first = files.write(name, self.content(1))
        second = files.write(name, self.content(2), if_version=first)
        with pytest.raises(FileChanged):
            files.write(name, self.content(3), if_version=first)
        assert files.read(name, LIMIT) == self.content(2)
        files.write(name, self.content(3), if_version=second)
        assert files.read(name, LIMIT) == self.content(3)

    def test_counting_together(self, files: Files) -> None:
        """Eight threads that each add to a number by swaps lose no addition."""
        name = self.names[0]
        files.write(name, b"0")

        def add() -> None:
            for _ in range(5):
                while True:
                    status = files.stat(name)
                    number = int(files.read(name, LIMIT) or b"")
                    assert status is not None
                    try:
                        files.write(name, b"%d" % (number + 1), if_version=status.version)
                    except FileChanged:
                        continue
                    break

        threads = [threading.Thread(target=add) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert files.read(name, LIMIT) == b"40"
