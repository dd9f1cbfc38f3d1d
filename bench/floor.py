"""What the machine itself takes for the same bytes, with no archive around them, on all processors.

Making: read, cut, hash, compress. Extracting: read the chunk files, decompress, hash, write one file. The same
functions as pycasync's, called from a loop of a few lines.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from casync_compat.chunker import Chunker
from casync_compat.compression import Compression, compress, decompress
from casync_compat.ids import Digest
from casync_compat.index import Index

PIECE = 4 << 20


def _timed(work: Callable[[], None], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begin = time.monotonic()
        work()
        times.append(time.monotonic() - begin)
    return statistics.median(times)


def make(path: Path, rounds: int, jobs: int) -> float:
    """Seconds to read, cut, hash and compress a file."""

    def store(piece: bytes, cuts: list[tuple[int, int]]) -> None:
        view = memoryview(piece)
        for first, last in cuts:
            Digest.SHA512_256.of(view[first:last])
            compress(Compression.ZSTD, view[first:last])

    def work() -> None:
        chunker = Chunker()
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(jobs) as pool, open(path, "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                pending.append(pool.submit(store, piece, chunker.split(piece)))
                while len(pending) > 2 * jobs:
                    pending.pop(0).result()
            for future in pending:
                future.result()

    return _timed(work, rounds)


def extract(index_path: Path, store: Path, target: Path, rounds: int, jobs: int) -> float:
    """Seconds to read, decompress and hash the chunks of an index and write them to a file."""
    index = Index.parse(index_path.read_bytes(), os.fsencode(index_path))
    chunks = list(index)

    def restore(fd: int, some: list[int]) -> None:
        for number in some:
            chunk = chunks[number]
            name = str(chunk.id)
            with open(store / name[:4] / f"{name}.cacnk", "rb", buffering=0) as file:
                raw = decompress(file.read(), chunk.size)
            assert Digest.SHA512_256.of(raw) == chunk.id
            os.pwrite(fd, raw, chunk.start)

    def work() -> None:
        target.unlink(missing_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT, 0o600)
        step = 8
        with ThreadPoolExecutor(jobs) as pool:
            numbers = range(len(chunks))
            runs = [list(numbers[at : at + step]) for at in range(0, len(chunks), step)]
            for _ in pool.map(lambda some: restore(fd, some), runs):
                pass
        os.close(fd)

    return _timed(work, rounds)
