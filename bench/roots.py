"""Measures roots of containers: a further image of 50,000 inodes, by the kernel and by those that write them.

    python bench/roots.py --work /var/tmp/roots --prepare                     # 3 minutes, 4 GiB
    python bench/roots.py --work /var/tmp/roots --report bench/reports/roots  # as root, 2 minutes

Images of one layer each; in each but the first one package of fifty is another. What a node has of those before it may
use. Every way begins with the image in a layout on the same disk, and ends with a root that runc takes. All of them are
compared before any time counts. It wants root, Linux 6.5, umoci and docker-registry.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

from images import build_layout, registry
from measure import Sample, output_digest, run

PACKAGES, FILES, DIRECTORIES = 50, 980, 19
ROUNDS = 3
LARGE = 1 << 30
_TRAFFIC = re.compile(rb"(\d+) requests, .* sent, ([\d.]+ \S+) received")


WAYS = {
    "kernel": "`oci mount --using=kernel`, what came before in the store",
    "again": "the same once more",
    "hardlink": "`oci checkout --link=hardlink`, what came before in the store",
    "unpack": "`oci unpack`",
    "umoci": "`umoci unpack`",
}


def write_tar(path: Path, changed: int) -> None:
    """A layer of 50,000 inodes: packages with directories of files, of which one is new."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def directory(name: str) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1_600_000_000
            tar.addfile(info)

        directory("usr")
        directory("usr/lib")
        for package in range(PACKAGES):
            rng = random.Random(package + 1000 * changed * (package == changed))
            top = f"usr/lib/package-{package:02}"
            directory(top)
            for number in range(DIRECTORIES):
                directory(f"{top}/{number:02}")
            for number in range(FILES):
                data = rng.randbytes(rng.randrange(4000)) + b"text " * rng.randrange(400)
                info = tarfile.TarInfo(f"{top}/{number % DIRECTORIES:02}/file-{number:04}")
                info.size, info.mode, info.mtime = len(data), 0o644, 1_600_000_000 + number
                tar.addfile(info, io.BytesIO(data))


def listing(root: Path) -> str:
    """A digest of names, modes, sizes and times."""
    fields = "%p %y %m %T@ %U %G"
    what = f'\\( -type d -printf "{fields}\\n" -o -printf "{fields} %s\\n" \\)'
    command = f'cd "$1" && find . -mindepth 1 {what} | sort'
    return output_digest(["sh", "-c", command, "sh", str(root)])


def unmount(at: Path) -> None:
    """Take a mount away, if there is one, and its directory."""
    subprocess.run(["umount", at], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(at, ignore_errors=True)


def prepare(ours: str, work: Path) -> None:
    """Layouts with the images, plain and converted, and stores with the first of them."""
    work.mkdir(parents=True)
    tars = [work / f"{number}.tar" for number in range(ROUNDS + 1)]
    for number, tar in enumerate(tars):
        write_tar(tar, number)
    build_layout(work / "layout", tars)
    for number in range(1, ROUNDS + 2):
        plain, converted = (f"oci:{work}/layout:{tag}{number}" for tag in ("", "c"))
        output_digest([ours, "oci", "convert", "--thin", "--no-progress", plain, converted])
    for tool in ("kernel", "hardlink"):
        output_digest(command_of(tool, ours, work, 1))
        unmount(work / tool)
    with tarfile.open(work / "large.tar", "w") as tar:
        rng = random.Random(3)
        for number in range(256):
            info = tarfile.TarInfo(f"data/{number:03}")
            info.size = LARGE // 256
            tar.addfile(info, io.BytesIO(rng.randbytes(info.size)))
        info = tarfile.TarInfo("data/small")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"small"))
    build_layout(work / "large", [work / "large.tar"])
    output_digest(
        [ours, "oci", "convert", "--thin", "--no-progress", f"oci:{work}/large:1", f"oci:{work}/large:c1"]
    )


def command_of(tool: str, ours: str, work: Path, image: int) -> list[str]:
    """What makes a root at `work / tool`."""
    name, root = f"oci:{work}/layout:c{image}", str(work / tool)
    mount = [
        ours,
        "oci",
        "mount",
        "--using=kernel",
        "--no-progress",
        f"--file-store={work}/of-kernel",
        name,
        root,
    ]
    share = ["--link=hardlink", "--no-progress", f"--file-store={work}/of-hardlink"]
    return {
        "kernel": mount,
        "again": mount,
        "hardlink": [ours, "oci", "checkout", *share, name, root],
        "unpack": [ours, "oci", "unpack", "--no-progress", name, root],
        "umoci": ["umoci", "unpack", "--image", f"{work}/layout:{image}", root],
    }[tool]


def measure_roots(ours: str, work: Path) -> dict[str, list[Sample]]:
    """A root of another image in each round, by each tool."""
    samples: dict[str, list[Sample]] = {tool: [] for tool in WAYS}
    for image in range(2, ROUNDS + 2):
        digests = {}
        for tool in WAYS:
            root = work / tool
            os.sync()
            samples[tool].append(run(command_of(tool, ours, work, image), work / "log"))
            digests[tool] = listing(root / "rootfs" if tool in ("unpack", "umoci") else root)
            unmount(root)
        if len(set(digests.values())) != 1:
            raise SystemExit(f"the roots of image {image} differ: {digests}")
        print(image, {tool: found[-1].wall for tool, found in samples.items()}, flush=True)
    return samples


def first_byte(ours: str, work: Path) -> dict[str, object]:
    """One small file of an image of a GiB in a registry, by a mount: seconds until it is read, requests, bytes."""
    with registry(work) as host:
        name = f"docker://{host}/bench/large:1"
        output_digest([ours, "oci", "push", "--insecure", "--no-progress", f"oci:{work}/large:c1", name])
        begin = time.monotonic()
        command = [ours, "oci", "mount", "--using=fuse", "-v", "--insecure", name, str(work / "mounted")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert (work / "mounted/data/small").read_bytes() == b"small"
            seconds = time.monotonic() - begin
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    found = _TRAFFIC.search(said)
    assert found is not None, said
    return {"seconds": seconds, "requests": int(found[1]), "received": found[2].decode()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pycasync", default=".venv/bin/pycasync")
    parser.add_argument("--work", type=Path, required=True, help="directory for all that is measured")
    parser.add_argument("--prepare", action="store_true", help="make it, and measure nothing")
    parser.add_argument("--report", type=Path, help="write PATH.json and PATH.md; the directory goes then")
    options = parser.parse_args()
    ours, work = os.path.abspath(options.pycasync), options.work.resolve()
    if options.prepare:
        prepare(ours, work)
        return
    samples = measure_roots(ours, work)
    report(options.report, samples, first_byte(ours, work))
    if options.report is not None:
        shutil.rmtree(work)


def report(path: Path | None, samples: dict[str, list[Sample]], lazily: dict[str, object]) -> None:
    """Print what was measured, and write it down."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    best = {tool: min(found, key=lambda sample: sample.wall) for tool, found in samples.items()}
    inodes = PACKAGES * (FILES + DIRECTORIES + 1) + 2
    lines = [
        "# Roots of containers, beside umoci",
        "",
        f"Commit {commit or 'unknown'}, {platform.machine()}, {os.cpu_count()} processors, Linux {platform.release()}, "
        f"the best of {ROUNDS} rounds, since making inodes varies fourfold. Each round has another image of {inodes} "
        "inodes, of which a fiftieth is new.",
        "",
        "| way | wall, s | processor, s | umoci's time over it |",
        "|---|---|---|---|",
    ]
    for tool, text in WAYS.items():
        wall, cpu = best[tool].wall, best[tool].cpu
        lines.append(f"| {text} | {wall:.2f} | {cpu:.2f} | {best['umoci'].wall / wall:.2f} |")
    lines += [
        "",
        f"One small file of an image of 1 GiB in a registry here, from `oci mount` by FUSE to its bytes: "
        f"{lazily['seconds']:.2f} s, {lazily['requests']} requests, {lazily['received']} received.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if path is not None:
        path.with_suffix(".md").write_text(text)
        rows = {tool: [[s.wall, s.cpu, s.peak_kib] for s in found] for tool, found in samples.items()}
        path.with_suffix(".json").write_text(
            json.dumps({"roots": rows, "first_byte": lazily}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
