"""Inputs of the benchmark: a tree of many files, a large blob, a disk image with holes, and second versions of each.

Made from what every Debian machine has (/usr) and a seeded generator, so that two runs on one machine measure the same.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

BLOCK = 1 << 20


def tree(target: Path, files: int) -> Path:
    """A copy of real files from /usr, about `files` of them."""
    if target.exists():
        return target
    target.mkdir(parents=True)
    left = files
    for source in ("/usr/share", "/usr/lib", "/usr/include"):
        if left <= 0 or not os.path.isdir(source):
            continue
        for directory, names, found in os.walk(source):
            names.sort()
            below = target / Path(directory).relative_to("/usr")
            below.mkdir(parents=True, exist_ok=True)
            for name in sorted(found):
                path = os.path.join(directory, name)
                if left > 0 and (os.path.isfile(path) or os.path.islink(path)):
                    shutil.copy2(path, below / name, follow_symlinks=False)
                    left -= 1
            if left <= 0:
                break
    return target


def change(source: Path, target: Path, share: float = 0.02) -> Path:
    """A copy of a tree in which `share` of the files have other contents, with the rest untouched to the nanosecond."""
    if target.exists():
        return target
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
    picker = random.Random(2)
    for directory, _, found in os.walk(target):
        for name in found:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path) and picker.random() < share:
                with open(path, "ab") as file:
                    file.write(picker.randbytes(100))
    return target


def blob(target: Path, source: Path, size: int) -> Path:
    """A tar of `source`, repeated with noise between until it has `size` bytes."""
    if target.exists():
        return target
    with open(target, "wb") as out:
        tar = subprocess.Popen(["tar", "-c", "-C", str(source), "."], stdout=subprocess.PIPE)
        assert tar.stdout is not None
        left = size
        while left and (piece := tar.stdout.read(min(left, BLOCK))):
            out.write(piece)
            left -= len(piece)
        tar.stdout.close()
        tar.wait()
        noise = random.Random(1)
        while left:
            piece = noise.randbytes(min(left, BLOCK))
            out.write(piece)
            left -= len(piece)
    return target


def changed_blob(source: Path, target: Path, share: float = 0.02) -> Path:
    """A copy of a blob with `share` of its 64 KiB blocks overwritten."""
    if target.exists():
        return target
    shutil.copyfile(source, target)
    picker = random.Random(3)
    size = target.stat().st_size
    with open(target, "r+b") as file:
        for _ in range(int(size / 65536 * share)):
            file.seek(picker.randrange(max(size - 65536, 1)))
            file.write(picker.randbytes(4096))
    return target


def image(target: Path, size: int, used: float = 0.1) -> Path:
    """A sparse disk image, of which `used` is data in extents of 1 MiB."""
    if target.exists():
        return target
    picker = random.Random(4)
    with open(target, "wb") as file:
        file.truncate(size)
        for block in sorted(picker.sample(range(size // BLOCK), int(size // BLOCK * used))):
            file.seek(block * BLOCK)
            file.write(picker.randbytes(BLOCK // 2) + bytes(BLOCK // 4) + b"text " * (BLOCK // 20))
    return target


def tiny_files(target: Path, count: int) -> Path:
    """`count` files of a few bytes, a thousand a directory."""
    if target.exists():
        return target
    for number in range(count):
        if number % 1000 == 0:
            directory = target / f"{number // 1000:06}"
            directory.mkdir(parents=True)
        (directory / f"file-{number:07}").write_bytes(b"%d\n" % number)
    return target


def large_files(target: Path, *sources: Path) -> Path:
    """A tree of few large files: copies of `sources`."""
    if target.exists():
        return target
    target.mkdir()
    for source in sources:
        shutil.copyfile(source, target / source.name)
    return target


def root_file_system(target: Path, size: int) -> Path:
    """A tree like that of an image: programs, libraries, settings and documentation of this machine, `size` bytes."""
    if target.exists():
        return target
    shares = {"/etc": 0.02, "/usr/bin": 0.25, "/usr/lib/x86_64-linux-gnu": 0.4, "/usr/share": 0.33}
    for source, share in shares.items():
        left = int(size * share)
        for directory, names, found in os.walk(source):
            names.sort()
            below = target / Path(directory).relative_to("/")
            below.mkdir(parents=True, exist_ok=True)
            for name in sorted(found):
                path = os.path.join(directory, name)
                regular = os.path.isfile(path) and not os.path.islink(path)
                length = os.path.getsize(path) if regular else 0
                if left >= length and (regular or os.path.islink(path)):
                    shutil.copy2(path, below / name, follow_symlinks=False)
                    left -= length
    return target
