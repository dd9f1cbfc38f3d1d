"""The twelfth snapshot of one sparse disk image: BLAKE3 ids, fixed chunks, no stream digest; and casync's defaults.

    python bench/snapshots.py --size 10 --report bench/reports/snapshots     # 10 GiB, of which a tenth is data

Both stores first get the eleven snapshots before, untimed; casync's is filled by pycasync, whose files are the same.
Then each tool makes the twelfth, and extracts it again; what was extracted is compared with the image.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import random
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import inputs
from measure import Job, measure, remove, run

FAST = ["--digest=blake3", "--chunk-size=4M:4M:4M", "--stream-digest=no"]


def modify(image: Path, number: int, size: int) -> None:
    """What happens to a disk between two snapshots: 200 blocks of 16 KiB in its files change, and 8 MiB are new."""
    picker = random.Random(number)
    data = extents(image)
    with open(image, "r+b") as file:
        for _ in range(200):
            start, end = picker.choice(data)
            file.seek(start + picker.randrange(max((end - start - 16384) // 4096, 1)) * 4096)
            file.write(picker.randbytes(16384))
        file.seek(picker.randrange((size >> 20) - 8) << 20)
        file.write(picker.randbytes(8 << 20))


def extents(image: Path) -> list[tuple[int, int]]:
    """Where a sparse file has data."""
    found = []
    with open(image, "rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # no more
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-snapshots"))
    parser.add_argument("--size", type=int, default=10, help="GiB")
    parser.add_argument("--snapshots", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", type=Path, default=Path("bench/reports/snapshots"))
    parser.add_argument("--casync", default=shutil.which("casync"))
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    options = parser.parse_args()
    work, size = options.work, options.size << 30
    remove(work)
    work.mkdir(parents=True)
    image = inputs.image(work / "image", size)
    py, log = options.pycasync.split(), work / "time"
    fast, standard = f"--store={work / 'fast'}", f"--store={work / 'standard'}"
    index = {
        "fast": work / "fast.caibx",
        "standard": work / "standard.caibx",
        "casync": work / "casync.caibx",
    }
    for number in range(1, options.snapshots + 1):
        if number > 1:
            modify(image, number, size)
        if number < options.snapshots:
            run([*py, "make", *FAST, fast, str(index["fast"]), str(image)], log)
            run([*py, "make", standard, str(index["standard"]), str(image)], log)
    out = {name: work / f"{name}.out" for name in index}
    tools = {"pycasync, blake3, fixed": "fast", "casync": "casync", "pycasync": "standard"}
    make = Job(
        f"make snapshot {options.snapshots}",
        {
            "pycasync, blake3, fixed": [*py, "make", *FAST, fast, str(index["fast"]), str(image)],
            "casync": [options.casync, "make", standard, str(index["casync"]), str(image)],
            "pycasync": [*py, "make", standard, str(index["standard"]), str(image)],
        },
        lambda tool: remove(index[tools[tool]]),
        lambda: "" if filecmp.cmp(index["casync"], index["standard"], False) else "indexes differ",
    )
    measure(make, options.rounds, log)
    noseed = "--seed-output=no"
    extract = Job(
        f"extract snapshot {options.snapshots}",
        {
            "pycasync, blake3, fixed": [*py, "extract", fast, noseed, str(index["fast"]), str(out["fast"])],
            "casync": [options.casync, "extract", standard, noseed, str(index["casync"]), str(out["casync"])],
            "pycasync": [*py, "extract", standard, noseed, str(index["standard"]), str(out["standard"])],
        },
        lambda tool: remove(out[tools[tool]]),
        lambda: "" if all(filecmp.cmp(image, path, False) for path in out.values()) else "images differ",
    )
    measure(extract, options.rounds, log)
    targets = {make.name: 35, extract.name: 4.7}
    lines = [
        "# Snapshots of a sparse image",
        "",
        f"* date: {time.strftime('%Y-%m-%d')}",
        f"* machine: {len(os.sched_getaffinity(0))} processors, Linux {platform.release()}, "
        f"Python {platform.python_version()}",
        f"* image: {options.size} GiB, a tenth of it data; {options.snapshots} snapshots, the last is timed",
        f"* rounds: {options.rounds}",
        "",
        "| job | tool | wall s | CPU s | peak MiB | casync's wall time over it | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for job in (make, extract):
        for tool in job.commands:
            ratio = job.median("casync") / job.median(tool)
            target = f"≥ {targets[job.name]}" if "blake3" in tool else ""
            lines.append(
                f"| {job.name} | {tool} | {job.median(tool):.2f} | {job.median(tool, 'cpu'):.2f} "
                f"| {job.median(tool, 'peak_kib') / 1024:.0f} | {ratio:.1f} | {target} |"
            )
    text = "\n".join(lines) + "\n"
    options.report.with_suffix(".md").write_text(text)
    data = {j.name: {t: [asdict(s) for s in v] for t, v in j.samples.items()} for j in (make, extract)}
    options.report.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)
    remove(work)


if __name__ == "__main__":
    main()
