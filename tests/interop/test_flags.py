"""Seeded random command lines: any order of any options gives the bytes that casync gives.

`PYCASYNC_TEST_FLAG_RUNS` sets how many are tried, `PYCASYNC_TEST_SEED` which.
"""

from __future__ import annotations

import os
import random

import pytest
from grounds import Forest
from interop.tools import Pair

RUNS = int(os.environ.get("PYCASYNC_TEST_FLAG_RUNS", "150"))
SEED = os.environ.get("PYCASYNC_TEST_SEED", "1")

SINGLE = (
    "16bit-uids", "32bit-uids", "user-names", "sec-time", "usec-time", "nsec-time", "2sec-time", "read-only",
    "permissions", "symlinks", "device-nodes", "fifos", "sockets", "flag-hidden", "flag-system", "flag-archive",
    "flag-append", "flag-noatime", "flag-compr", "flag-nocow", "flag-nodump", "flag-dirsync", "flag-immutable",
    "flag-sync", "flag-nocomp", "flag-projinherit", "subvolume", "subvolume-ro", "xattrs", "acl", "selinux", "fcaps",
    "quota-projid",
)  # fmt: skip
COMPOSITE = ("all", "best", "unix", "fat", "chattr", "fat-attrs", "privileged", "fuse")
YES_NO = ("yes", "no", "1", "0", "TRUE", "off", "on", "n", "Y", "f")


def random_options(rng: random.Random) -> list[str]:
    """A command line's options, in an order and in spellings as a user might choose."""
    options = []
    for option, chance, most in (("with", 0.7, 8), ("without", 0.5, 6)):
        if rng.random() < chance:
            for _ in range(rng.randint(1, most)):
                name = rng.choice(COMPOSITE if rng.random() < 0.2 else SINGLE)
                options.append((f"--{option}", name))
    if rng.random() < 0.4:
        options.append(("--digest", rng.choice(("sha256", "sha512-256", "default"))))
    exclusions = [name for name in ("--exclude-nodump", "--exclude-submounts") if rng.random() < 0.3]
    options.extend((name, rng.choice(YES_NO)) for name in exclusions)
    if rng.random() < 0.2:
        options.append(("--uid-shift", rng.choice(("yes", "no", "0", "0x0"))))
    if rng.random() < 0.15:
        options.append(
            ("--uid-range", rng.choice(("65536", "100", "0x10000", "0", "4294967296", "1", "010")))
        )
    rng.shuffle(options)
    words = []
    for name, value in options:
        words += [f"{name}={value}"] if rng.random() < 0.8 else [name, value]
    return words


@pytest.mark.root
@pytest.mark.parametrize("run", range(RUNS))
def test_random_options(pair: Pair, forest: Forest, run: int) -> None:
    """One random command line over a tree with everything in it, as an archive or as an index."""
    rng = random.Random(f"flags {SEED} {run}")
    tree = forest.get("everything", "ext4")
    output = rng.choice(("x.catar", "x.catar", "x.caidx"))
    words = random_options(rng)
    pair.same_make(output, tree, *words) if run % 2 else pair.same_make(output, *words, tree)


@pytest.mark.root
@pytest.mark.parametrize("on", ["btrfs", "xfs", "tmpfs"])
@pytest.mark.parametrize("run", range(RUNS // 30))
def test_random_options_on_other_file_systems(pair: Pair, forest: Forest, on: str, run: int) -> None:
    """Random command lines where the file system keeps other attributes."""
    rng = random.Random(f"flags {SEED} {on} {run}")
    name = {"btrfs": "subvolumes", "xfs": "projects", "tmpfs": "acls"}[on]
    pair.same_make("x.catar", forest.get(name, on), *random_options(rng))


@pytest.mark.root
@pytest.mark.parametrize(
    "words",
    [
        ("--uid-shift=1",),
        ("--uid-shift=100000",),
        ("--uid-shift=65535",),
        ("--uid-shift=-1",),
        ("--uid-range=5000000000",),
        ("--uid-shift=yes", "--uid-range=no"),
        ("--uid-range=70000",),
        ("--with=16bit-uids", "--uid-shift=yes"),
        ("--with=16bit-uids",),
        ("--with=32bit-uids", "--with=acl", "--uid-range=40000"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("tree", ["owners-large", "owners", "acls"])
def test_owners_shifted(pair: Pair, forest: Forest, tree: str, words: tuple[str, ...]) -> None:
    """Shifted and limited ids are casync's, and ids that do not fit are refused by both."""
    pair.same_make("x.catar", forest.get(tree), *words)
