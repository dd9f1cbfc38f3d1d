"""Measures pycasync beside casync and desync, on the same inputs, alternating in one run.

    python bench/run.py --work /dev/shm/bench --rounds 3 --report bench/reports/today

Results are checked before any time counts: archives and indexes byte for byte, chunk stores by their names, extracted
trees by a digest. Times are medians; CPU seconds are user and system together. Ratios are what to read: these machines
are shared. Only public tools are used (`/usr/bin/time`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import inputs

ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8", "TZ": "UTC"}


@dataclass
class Sample:
    wall: float
    cpu: float
    peak_kib: int


@dataclass
class Job:
    """One thing to do, by several tools.

    :ivar commands: tool -> command line
    :ivar before: run before each command, not timed, with the tool's name
    :ivar check: called with all tools' names after the first round; returns "" or what differs
    """

    name: str
    commands: dict[str, list[str]]
    before: Callable[[str], None] = lambda tool: None
    check: Callable[[], str] = lambda: ""
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    verdict: str = ""


def run(command: list[str], log: Path) -> Sample:
    timed = ["/usr/bin/time", "-o", str(log), "-f", "%e %U %S %M", *command]
    done = subprocess.run(timed, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode()}")
    wall, user, system, peak = log.read_text().split()
    return Sample(float(wall), float(user) + float(system), int(peak))


def remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def store_names(path: Path) -> list[str]:
    return sorted(name for _, _, names in os.walk(path) for name in names)


def tree_digest(casync: str, path: Path) -> str:
    done = subprocess.run([casync, "digest", str(path)], env=ENVIRONMENT, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode()


class Bench:
    """The jobs over one set of inputs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.work: Path = options.work
        self.casync, self.desync = options.casync, options.desync
        self.py = options.pycasync.split()
        self.options = options
        work = self.work
        work.mkdir(parents=True, exist_ok=True)
        self.tree = inputs.tree(work / "tree", options.files)
        self.tree2 = inputs.change(self.tree, work / "tree2")
        self.blob = inputs.blob(work / "blob", self.tree, options.blob << 20)
        self.image = inputs.image(work / "image", options.image << 20)

    def at(self, tool: str, name: str) -> Path:
        return self.work / f"{tool}-{name}"

    def both(self, *arguments: str, name: str, suffix: str) -> dict[str, list[str]]:
        """The same command for pycasync and casync; {} stands for the tool's own output."""
        out = {}
        for tool, start in (("pycasync", self.py), ("casync", [self.casync])):
            target = str(self.at(tool, name + suffix))
            out[tool] = [
                *start,
                *(
                    a.replace("{}", target)
                    .replace("{s}", str(self.at(tool, "store")))
                    .replace("{b}", str(self.at(tool, "blobs")))
                    for a in arguments
                ),
            ]
        return out

    def jobs(self) -> list[Job]:
        return [*self._make_jobs(), *self._blob_jobs(), *self._read_jobs(), *self._extract_jobs()]

    def _same_files(self, name: str, stores: str = "") -> Callable[[], str]:
        def check() -> str:
            ours, theirs = self.at("pycasync", name), self.at("casync", name)
            if file_digest(ours) != file_digest(theirs):
                return f"{name} differs"
            if stores and store_names(self.at("pycasync", stores)) != store_names(self.at("casync", stores)):
                return "chunk stores differ"
            return ""

        return check

    def _drop(self, *names: str) -> Callable[[str], None]:
        return lambda tool: remove(*(self.at(tool, name) for name in names))

    def _make_jobs(self) -> list[Job]:
        make = self.both("make", "--store={s}", "{}", str(self.tree), name="tree", suffix=".caidx")
        again = self.both("make", "--store={s}", "{}", str(self.tree), name="again", suffix=".caidx")
        changed = self.both("make", "--store={s}", "{}", str(self.tree2), name="changed", suffix=".caidx")
        catar = self.both("make", "{}", str(self.tree), name="tree", suffix=".catar")
        tar = ["sh", "-c", f"tar -c -C {self.tree} . | zstd -q -3 -T0 -f -o {self.at('tar', 'zst')}"]
        return [
            Job(
                "make tree, empty store",
                {**make, "tar+zstd": tar},
                self._drop("store", "tree.caidx"),
                self._same_files("tree.caidx", stores="store"),
            ),
            Job(
                "make tree, all chunks present",
                again,
                self._drop("again.caidx"),
                self._same_files("again.caidx"),
            ),
            Job(
                "make tree, 2 % changed",
                changed,
                self._drop("changed.caidx"),
                self._same_files("changed.caidx"),
            ),
            Job("make catar", catar, self._drop("tree.catar"), self._same_files("tree.catar")),
        ]

    def _blob_jobs(self) -> list[Job]:
        make = self.both("make", "--store={b}", "{}", str(self.blob), name="blob", suffix=".caibx")
        index = self.both("make", "--store={b}", "{}", str(self.blob), name="blob2", suffix=".caibx")
        image = self.both("make", "--store={b}", "{}", str(self.image), name="image", suffix=".caibx")
        index = {"pycasync, no stream digest": [*index["pycasync"], "--stream-digest=no"]}
        if self.desync:
            store = self.at("desync", "blobs")
            make["desync"] = [
                self.desync,
                "make",
                "-s",
                str(store),
                str(self.at("desync", "blob.caibx")),
                str(self.blob),
            ]
            index["desync, store full"] = make["desync"]

        def fresh(tool: str) -> None:
            remove(self.at(tool, "blobs"), self.at(tool, "blob.caibx"))
            if tool == "desync":
                self.at(tool, "blobs").mkdir()

        return [
            Job("make blob, empty store", make, fresh, self._same_files("blob.caibx", stores="blobs")),
            Job("make blob, all chunks present", index),
            Job("make image with holes", image, self._drop("image.caibx"), self._same_files("image.caibx")),
        ]

    def _read_jobs(self) -> list[Job]:
        catar = str(self.at("casync", "tree.catar"))
        index = str(self.at("casync", "tree.caidx"))
        jobs = []
        for verb in ("list", "mtree", "digest"):
            commands = {"pycasync": [*self.py, verb, catar], "casync": [self.casync, verb, catar]}
            jobs.append(Job(f"{verb} catar", commands, check=self._same_output(commands)))
        commands = self.both("digest", "--store={s}", index, name="", suffix="")
        jobs.append(Job("digest caidx", commands, check=self._same_output(commands)))
        return jobs

    def _same_output(self, commands: dict[str, list[str]]) -> Callable[[], str]:
        def check() -> str:
            results = {
                hashlib.sha256(
                    subprocess.run(c, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True).stdout
                ).hexdigest()
                for c in commands.values()
            }
            return "" if len(results) == 1 else "outputs differ"

        return check

    def _extract_jobs(self) -> list[Job]:
        tree = self.both(
            "extract",
            "--store={s}",
            "--seed-output=no",
            str(self.at("casync", "tree.caidx")),
            "{}",
            name="out",
            suffix="",
        )
        blob = self.both(
            "extract",
            "--store={b}",
            "--seed-output=no",
            str(self.at("casync", "blob.caibx")),
            "{}",
            name="out.blob",
            suffix="",
        )
        if self.desync:
            blob["desync"] = [
                self.desync,
                "extract",
                "-s",
                str(self.at("casync", "blobs")),
                str(self.at("casync", "blob.caibx")),
                str(self.at("desync", "out.blob")),
            ]

        def same_trees() -> str:
            digests = {tree_digest(self.casync, self.at(tool, "out")) for tool in ("pycasync", "casync")}
            return "" if len(digests) == 1 else "extracted trees differ"

        return [
            Job("extract tree", tree, self._drop("out"), same_trees),
            Job("extract blob", blob, self._drop("out.blob"), self._same_files("out.blob")),
        ]

    def prepare_reading(self) -> None:
        """Fill the stores that the reading jobs need, whatever jobs ran before."""
        for tool, start in (("pycasync", self.py), ("casync", [self.casync])):
            for name, store, source in (
                ("tree.caidx", "store", self.tree),
                ("blob.caibx", "blobs", self.blob),
            ):
                target = self.at(tool, name)
                remove(target)
                run(
                    [*start, "make", f"--store={self.at(tool, store)}", str(target), str(source)],
                    self.work / "time",
                )


def measure(bench: Bench, job: Job) -> None:
    for number in range(bench.options.rounds):
        for tool, command in job.commands.items():
            job.before(tool)
            os.sync()
            job.samples.setdefault(tool, []).append(run(command, bench.work / "time"))
        if number == 0:
            job.verdict = job.check()
            if job.verdict:
                raise SystemExit(f"{job.name}: {job.verdict}")
    print(f"{job.name}: " + ", ".join(f"{t} {median(s):.2f} s" for t, s in job.samples.items()), flush=True)


def median(samples: list[Sample], what: str = "wall") -> float:
    return statistics.median(getattr(sample, what) for sample in samples)


def floor(path: Path, rounds: int, jobs: int) -> float:
    """The same bytes through read, scan, hash and compress on all cores, with no archive around it."""
    from concurrent.futures import ThreadPoolExecutor

    from casync_compat.chunker import Chunker
    from casync_compat.compression import Compression, compress
    from casync_compat.digest import Digest

    chunker, digest = Chunker(), Digest.SHA512_256
    times = []
    for _ in range(rounds):
        begin = time.monotonic()
        with ThreadPoolExecutor(jobs) as pool, open(path, "rb") as file:

            def work(piece: bytes, cuts: list[tuple[int, int]]) -> None:
                view = memoryview(piece)
                for first, last in cuts:
                    digest.of(view[first:last])
                    compress(Compression.ZSTD, view[first:last])

            pending = []
            while piece := file.read(4 << 20):
                pending.append(pool.submit(work, piece, chunker.split(piece)))
                while len(pending) > 2 * jobs:
                    pending.pop(0).result()
            for future in pending:
                future.result()
        times.append(time.monotonic() - begin)
    return statistics.median(times)


def markdown(bench: Bench, jobs: list[Job], facts: dict[str, str]) -> str:
    lines = ["# Benchmark", ""]
    lines += [f"* {key}: {value}" for key, value in facts.items()]
    lines += [
        "",
        "Median wall seconds, CPU seconds, peak memory; ratio: that tool's wall time over pycasync's.",
        "",
    ]
    lines += ["| job | tool | wall s | CPU s | peak MiB | ratio |", "|---|---|---|---|---|---|"]
    for job in jobs:
        ours = median(next(iter(job.samples.values())))
        for tool, samples in job.samples.items():
            wall = median(samples)
            ratio = f"{wall / ours:.2f}" if ours else ""
            lines.append(
                f"| {job.name} | {tool} | {wall:.2f} | {median(samples, 'cpu'):.2f} "
                f"| {median(samples, 'peak_kib') / 1024:.0f} | {ratio} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-bench"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--blob", type=int, default=1024, help="MiB")
    parser.add_argument("--image", type=int, default=2048, help="MiB")
    parser.add_argument("--report", type=Path, default=Path("bench/reports/latest"))
    parser.add_argument("--casync", default=shutil.which("casync"))
    parser.add_argument("--desync", default=".peers/bin/desync")
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    parser.add_argument("--only", default="", help="only jobs whose name has this in it")
    options = parser.parse_args()
    options.desync = os.path.abspath(options.desync) if os.path.exists(options.desync) else None
    bench = Bench(options)
    bench.prepare_reading()
    jobs = [job for job in bench.jobs() if options.only in job.name]
    for job in jobs:
        measure(bench, job)
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    bare = floor(bench.blob, options.rounds, cores)
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{cores} processors, {system}",
        "work directory": f"{bench.work}",
        "inputs": f"tree of {options.files} files, blob of {options.blob} MiB, image of {options.image} MiB",
        "rounds": str(options.rounds),
        "floor for the blob": f"{bare:.2f} s (read, scan, hash, compress; no archive)",
    }
    text = markdown(bench, jobs, facts)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.with_suffix(".md").write_text(text)
    data = {
        "facts": facts,
        "jobs": {j.name: {t: [asdict(s) for s in v] for t, v in j.samples.items()} for j in jobs},
    }
    options.report.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
