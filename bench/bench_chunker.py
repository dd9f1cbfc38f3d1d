"""MB/s of the cut finder, compiled and in Python, beside the digests that every chunk goes through afterwards.

python bench/bench_chunker.py [MIB]
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import CasyncError
from casync_compat.ids import Digest


def rate(work: Callable[[], object], size: int, rounds: int = 5) -> float:
    """Megabytes (10**6) a second, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return size / best / 1e6


def cut_rate(sizes: ChunkSizes, data: bytes, *, native: bool) -> str:
    """The rate as text, or why there is none."""
    try:
        chunker = Chunker(sizes, native=native)
    except CasyncError:
        return "missing"
    return f"{rate(lambda: chunker.split(data), len(data), 5 if native else 1):.1f}"


def digest_rate(digest: Digest, data: bytes, piece: int) -> float:
    """Megabytes a second over pieces of that many bytes."""
    view = memoryview(data)
    pieces = [view[at : at + piece] for at in range(0, len(data), piece)]
    return rate(lambda: [digest.of(piece) for piece in pieces], len(data), 3)


def main(mib: int) -> None:
    data = random.Random(1).randbytes(mib << 20)
    few = data[: 4 << 20]  # enough for the Python kernel, which needs a second for them
    print("MB/s                     kernel   python")
    for text in ("auto", "1:65536:262144", "4096", "64K:64K:64K"):
        sizes = ChunkSizes.parse(text)
        fast, slow = cut_rate(sizes, data, native=True), cut_rate(sizes, few, native=False)
        print(f"cuts {text:16} {fast:>10} {slow:>8}")
    for digest in Digest:
        for piece in (4096, 65536):
            print(f"{digest.value:12} {piece:8} {digest_rate(digest, data, piece):10.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
