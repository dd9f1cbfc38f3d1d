"""Two makes, a collection and an extract at once on one store in S3, each a program; one of them may be killed.

`PYCASYNC_TEST_CLOUD_RACES` says how often; ten times where it is not set.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from interop.clouds import Bucket, seaweed  # noqa: F401 - a fixture
from interop.tools import PYCASYNC, Tool

from casync_compat.ids import Digest
from casync_compat.index import MAX_INDEX_SIZE, Index
from casync_compat.locations import Settings, open_store
from casync_compat.locations.remote import open_files

RUNS = int(os.environ.get("PYCASYNC_TEST_CLOUD_RACES", "10"))
BLOCK = 200_000

pytestmark = pytest.mark.timeout(300)


def content(*blocks: int) -> bytes:
    """Several chunks of noise for each number, mostly the same wherever that number comes."""
    return b"".join(random.Random(number).randbytes(BLOCK) for number in blocks)


@dataclass(frozen=True)
class Blobs:
    """Blobs that have chunks in common, each with a local index and store.

    :ivar directory: `NAME` is a blob, `NAME.caibx` its index, `NAME.castr` its store
    """

    directory: Path

    def index(self, name: str) -> Index:
        return Index.load(os.fsencode(self.directory / f"{name}.caibx"))


@pytest.fixture(scope="module")
def blobs(pycasync: Tool, tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    """What is there, what nobody needs any more, and what two makes bring: of either they need something."""
    at = tmp_path_factory.mktemp("blobs")
    for name, blocks in {
        "old": (1, 2, 3),
        "gone": (4, 5, 6, 7),
        "first": (1, 4, 5, 8, 9),
        "second": (6, 5, 3, 9),
    }.items():
        (at / name).write_bytes(content(*blocks))
        pycasync("make", "--store", at / f"{name}.castr", at / f"{name}.caibx", at / name)
    return Blobs(at)


def prepare(bucket: Bucket, blobs: Blobs, prefix: str, pycasync: Tool, layout: str) -> None:
    """Put "old" there, and the chunks of "gone" without its index."""
    run = pycasync.given(**bucket.environ)
    chunks = f"--store={prefix}/default.castr"
    run("make", f"--layout={layout}", chunks, blobs.directory / "thrown-away.caibx", blobs.directory / "gone")
    run("make", chunks, f"{prefix}/old.caibx", blobs.directory / "old")


def whole(bucket: Bucket, prefix: str, name: str) -> bool:
    """Whether an index is there; and if so, every chunk of it must be."""
    settings = Settings(environ=bucket.environ)
    found = open_files(prefix, settings).read(f"{name}.caibx".encode(), MAX_INDEX_SIZE)
    if found is None:
        return False
    store = open_store(f"{prefix}/default.castr", settings)
    for chunk in Index.parse(found, name.encode()):
        store.get(chunk.id, Digest.SHA512_256, chunk.size)
    return True


def start(bucket: Bucket, *argv: str | Path) -> subprocess.Popen[bytes]:
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONSAFEPATH": "1", **bucket.environ}
    return subprocess.Popen(
        [*PYCASYNC, *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environ,
    )


def end_all(running: Sequence[subprocess.Popen[bytes]]) -> list[tuple[int, bytes]]:
    """Their exit statuses, and what they said."""
    ends = []
    for process in running:
        _, said = process.communicate(timeout=120)
        assert b"Traceback" not in said, said.decode()
        ends.append((process.returncode, said))
    return ends


@pytest.mark.parametrize("seed", range(RUNS))
def test_at_once(seed: int, seaweed: Bucket, blobs: Blobs, pycasync: Tool, tmp_path: Path) -> None:  # noqa: F811
    """Whoever is told that he has succeeded has lost nothing, and what was there before is as it was."""
    chance = random.Random(seed)
    prefix = seaweed.locator(f"race-{uuid.uuid4().hex}")
    prepare(seaweed, blobs, prefix, pycasync, ("objects", "packs")[seed % 2])
    kills = seed % 4 >= 2
    chunks, wait = f"--store={prefix}/default.castr", f"--wait={5 if kills else 60}"
    jobs: list[list[str | Path]] = [
        ["make", wait, chunks, f"{prefix}/first.caibx", blobs.directory / "first"],
        ["make", wait, chunks, f"{prefix}/second.caibx", blobs.directory / "second"],
        ["gc", wait, chunks, f"{prefix}/old.caibx"],
        ["extract", chunks, f"{prefix}/old.caibx", tmp_path / "old"],
    ]
    order = chance.sample(range(4), 4)
    running: dict[int, subprocess.Popen[bytes]] = {}
    for number in order:
        if number == 2:  # whoever collects names what there is
            jobs[2] += [
                f"{prefix}/{name}.caibx" for name in ("first", "second") if whole(seaweed, prefix, name)
            ]
        running[number] = start(seaweed, *jobs[number])
        time.sleep(chance.random() * 0.3)
    killed = chance.randrange(4) if kills else None
    if killed is not None:
        time.sleep(chance.random() * 0.8)
        running[killed].kill()
    ends = end_all([running[number] for number in range(4)])

    for number, (status, said) in enumerate(ends):
        if killed is None:
            assert status == 0, said.decode()
        elif number != killed:  # whoever died may hold the others up, longer than these wait
            assert status == 0 or b"is in use by" in said, said.decode()
    assert whole(seaweed, prefix, "old")
    for number, name in enumerate(("first", "second")):
        there = whole(seaweed, prefix, name)
        assert there or ends[number][0] != 0
    if ends[3][0] == 0:
        assert (tmp_path / "old").read_bytes() == (blobs.directory / "old").read_bytes()
