"""Measures pycasync beside casync, desync, borg and tar+zstd: the same inputs, alternating in one run.

    python bench/run.py --report bench/reports/speed            # 50,000 files, 512 MiB blob: 15 minutes, 5 GiB
    python bench/run.py --only extract --rounds 5               # jobs whose name has this in it
    python bench/run.py --million                               # also one million tiny files

Results are checked before any time counts: archives and indexes byte for byte, chunk stores by their names, extracted
trees by a digest. Times are medians; CPU seconds are user and system together. Ratios are what to read: machines are
shared. Tools that are not installed are left out, and the report shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import floor
import inputs
import targets
from measure import Job, file_digest, measure, output_digest, remove, run, store_names


class Bench:
    """The jobs over one set of inputs.

    Each tool has files of its own in the work directory, named after it; `{}`, `{s}`, `{b}` and `{c}` in a command
    stand for its output, its store of trees, its store of blobs and its cache.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.work: Path = options.work
        self.options = options
        self.starts = {"pycasync": options.pycasync.split(), "casync": [options.casync]}
        self.desync, self.borg = options.desync, options.borg
        self.work.mkdir(parents=True, exist_ok=True)
        self.tree = inputs.tree(self.work / "tree", options.files)
        self.tree2 = inputs.change(self.tree, self.work / "tree2")
        self.blob = inputs.blob(self.work / "blob", self.tree, options.blob << 20)
        self.blob2 = inputs.changed_blob(self.blob, self.work / "blob2")
        self.image = inputs.image(self.work / "image", options.image << 20)
        self.large = inputs.large_files(self.work / "large", self.blob, self.blob2)
        self.small = self.work / "small"
        self.small.mkdir(exist_ok=True)
        for number in range(10):
            (self.small / f"{number}").write_text("x" * number)
        if options.million:
            self.tiny = inputs.tiny_files(self.work / "tiny", 1_000_000)

    def at(self, tool: str, name: str) -> Path:
        return self.work / f"{tool}-{name}"

    def command(self, tool: str, name: str, *arguments: str) -> list[str]:
        """A command line of pycasync or casync."""
        out = list(self.starts[tool])
        for argument in arguments:
            for sign, own in (("{}", name), ("{s}", "store"), ("{b}", "blobs"), ("{c}", "cache")):
                argument = argument.replace(sign, str(self.at(tool, own)))
            out.append(argument)
        return out

    def both(self, name: str, *arguments: str) -> dict[str, list[str]]:
        """The same command for pycasync and casync."""
        return {tool: self.command(tool, name, *arguments) for tool in self.starts}

    def drop(self, *names: str) -> Callable[[str], None]:
        return lambda tool: remove(*(self.at(tool, name) for name in names))

    def same_files(self, name: str, stores: str = "") -> Callable[[], str]:
        def check() -> str:
            if file_digest(self.at("pycasync", name)) != file_digest(self.at("casync", name)):
                return f"{name} differs"
            if stores and store_names(self.at("pycasync", stores)) != store_names(self.at("casync", stores)):
                return "chunk stores differ"
            return ""

        return check

    def jobs(self) -> list[Job]:
        return [
            *self.start_jobs(),
            *self.make_jobs(),
            *self.blob_jobs(),
            *self.read_jobs(),
            *self.extract_jobs(),
            *(self.million_jobs() if self.options.million else []),
        ]

    def start_jobs(self) -> list[Job]:
        version = {tool: [*start, "--version"] for tool, start in self.starts.items()}
        archive = str(self.at("casync", "small.catar"))
        return [
            Job("pycasync --version", version, repeat=10),
            Job("list a small archive", self.both("", "list", archive), repeat=10),
        ]

    def make_jobs(self) -> list[Job]:
        tree, tree2 = str(self.tree), str(self.tree2)
        make = self.both("tree.caidx", "make", "--store={s}", "{}", tree)
        again = self.both("again.caidx", "make", "--store={s}", "{}", tree)
        changed = self.both("changed.caidx", "make", "--store={s}", "{}", tree2)
        cached = {
            "pycasync": self.command(
                "pycasync", "cached.caidx", "make", "--cache={c}", "--store={s}", "{}", tree
            ),
            "casync": self.command("casync", "cached.caidx", "make", "--store={s}", "{}", tree),
            "casync --cache": self.command(
                "casync", "cached2.caidx", "make", "--cache={c}", "--store={s}", "{}", tree
            ),
        }
        one = self.command("pycasync", "tree.caidx", "make", "--jobs=1", "--store={s}", "{}", tree)
        large = self.both("large.caidx", "make", "--store={b}", "{}", str(self.large))

        def fresh(tool: str) -> None:
            self.drop("store", "tree.caidx")(tool.split()[0])
            if tool == "borg":
                remove(self.at("borg", "repo"))
                subprocess.run([self.borg, "init", "-e", "none", str(self.at("borg", "repo"))], check=True)
            if tool == "desync":
                self.at("desync", "store").mkdir()

        peers: dict[str, list[str]] = {"pycasync --jobs=1": one}
        if self.desync:
            store, index = str(self.at("desync", "store")), str(self.at("desync", "tree.caidx"))
            peers["desync"] = [self.desync, "tar", "-i", "-s", store, index, tree]
        if self.borg:
            peers["borg"] = [self.borg, "create", "-C", "zstd,3", f"{self.at('borg', 'repo')}::tree", tree]
        peers["tar+zstd"] = ["sh", "-c", f"tar -c -C {tree} . | zstd -q -3 -T0 -f -o {self.at('tar', 'zst')}"]
        return [
            Job("make tree, empty store", {**make, **peers}, fresh, self.same_files("tree.caidx", "store")),
            Job(
                "make tree, all chunks present",
                again,
                self.drop("again.caidx"),
                self.same_files("again.caidx"),
            ),
            Job(
                "make tree, 2 % changed",
                changed,
                self.drop("changed.caidx"),
                self.same_files("changed.caidx"),
            ),
            Job("make tree, cache, nothing changed", cached, check=self.same_files("cached.caidx")),
            Job(
                "make catar",
                self.both("tree.catar", "make", "{}", tree),
                self.drop("tree.catar"),
                self.same_files("tree.catar"),
            ),
            Job(
                "make few large files, empty store",
                large,
                self.drop("blobs", "large.caidx"),
                self.same_files("large.caidx", "blobs"),
            ),
        ]

    def blob_jobs(self) -> list[Job]:
        blob = str(self.blob)
        make = self.both("blob.caibx", "make", "--store={b}", "{}", blob)
        make["pycasync, no stream digest"] = self.command(
            "pycasync", "blob3.caibx", "make", "--stream-digest=no", "--store={b}", "{}", blob
        )
        index = {
            "pycasync, no stream digest": self.command(
                "pycasync", "blob4.caibx", "make", "--stream-digest=no", "--store={b}", "{}", blob
            )
        }
        if self.desync:
            own = str(self.at("desync", "blob.caibx"))
            make["desync"] = [self.desync, "make", "-s", str(self.at("desync", "blobs")), own, blob]
            index["desync"] = [self.desync, "make", own, blob]

        def fresh(tool: str) -> None:
            owner = tool.split(",")[0]
            remove(self.at(owner, "blobs"))
            if owner == "desync":
                self.at("desync", "blobs").mkdir()

        return [
            Job("make blob, empty store", make, fresh, self.same_files("blob.caibx", "blobs")),
            Job("index only, blob", index),
            Job(
                "make blob, 2 % changed",
                self.both("blob2.caibx", "make", "--store={b}", "{}", str(self.blob2)),
                self.drop("blob2.caibx"),
                self.same_files("blob2.caibx"),
            ),
            Job(
                "make image with holes",
                self.both("image.caibx", "make", "--store={b}", "{}", str(self.image)),
                self.drop("image.caibx"),
                self.same_files("image.caibx"),
            ),
        ]

    def same_output(self, commands: dict[str, list[str]]) -> Callable[[], str]:
        return lambda: "" if len({output_digest(c) for c in commands.values()}) == 1 else "outputs differ"

    def read_jobs(self, of: str = "tree", verbs: tuple[str, ...] = ("list", "mtree", "digest")) -> list[Job]:
        catar, index = str(self.at("casync", f"{of}.catar")), str(self.at("casync", f"{of}.caidx"))
        what = "" if of == "tree" else f", {of} files"
        jobs = []
        for verb in verbs:
            commands = self.both("", verb, catar)
            jobs.append(Job(f"{verb} catar{what}", commands, check=self.same_output(commands)))
        if of == "tree":
            commands = self.both("", "digest", "--store={s}", index)
            jobs.append(Job("digest caidx", commands, check=self.same_output(commands)))
        return jobs

    def extract_jobs(self) -> list[Job]:
        index, blob_index = str(self.at("casync", "tree.caidx")), str(self.at("casync", "blob.caibx"))
        tree = self.both("out", "extract", "--store={s}", "--seed-output=no", index, "{}")
        blob = self.both("out.blob", "extract", "--store={b}", "--seed-output=no", blob_index, "{}")
        if self.desync:
            desync = [self.desync, "extract", "-s", str(self.at("casync", "blobs")), blob_index]
            blob["desync"] = [*desync, str(self.at("desync", "out.blob"))]
            out = str(self.at("desync", "out"))
            tree["desync"] = [self.desync, "untar", "-i", "-s", str(self.at("casync", "store")), index, out]
        if self.borg:
            repository = f"{self.at('borg', 'repo')}::tree"
            line = f"cd {self.at('borg', 'out')} && {self.borg} extract {repository}"
            tree["borg"] = ["sh", "-c", line]
        out = str(self.at("tar", "out"))
        tree["tar+zstd"] = ["sh", "-c", f"zstd -q -d -c {self.at('tar', 'zst')} | tar -x -C {out}"]

        def fresh(tool: str) -> None:
            remove(self.at(tool.split("+")[0], "out"))
            if tool not in self.starts:
                self.at(tool.split("+")[0], "out").mkdir()

        def same_trees(name: str) -> Callable[[], str]:
            def check() -> str:
                casync = self.options.casync
                digests = {
                    output_digest([casync, "digest", str(self.at(tool, name))]) for tool in self.starts
                }
                return "" if len(digests) == 1 else "extracted trees differ"

            return check

        current = self.both("current", "extract", "--store={s}", index, "{}")
        catar = str(self.at("casync", "tree.catar"))
        current["pycasync, catar"] = self.command("pycasync", "current", "extract", catar, "{}")
        current["pycasync, digest"] = self.command("pycasync", "current", "digest", "{}")

        def touched(tool: str) -> None:
            if tool in self.starts:
                os.utime(self.at(tool, "current"))

        return [
            Job("extract tree", tree, fresh, same_trees("out")),
            Job("extract over a current tree", current, check=same_trees("current")),
            Job(
                "extract over a tree whose top was touched",
                self.both("current", "extract", "--store={s}", index, "{}"),
                touched,
                same_trees("current"),
            ),
            Job("extract blob", blob, self.drop("out.blob"), self.same_files("out.blob")),
        ]

    def million_jobs(self) -> list[Job]:
        make = self.both("tiny.catar", "make", "{}", str(self.tiny))
        first = Job("make catar, tiny files", make, self.drop("tiny.catar"), self.same_files("tiny.catar"))
        return [first, *self.read_jobs("tiny", ("list", "mtree"))]

    def prepare(self) -> None:
        """What the reading jobs need, whatever jobs are run before them."""
        log = self.work / "time"
        for tool in self.starts:
            for name, arguments in (
                ("tree.caidx", ("make", "--store={s}", "{}", str(self.tree))),
                ("blob.caibx", ("make", "--store={b}", "{}", str(self.blob))),
                ("tree.catar", ("make", "{}", str(self.tree))),
                ("small.catar", ("make", "{}", str(self.small))),
                ("cached.caidx", ("make", "--cache={c}", "--store={s}", "{}", str(self.tree))),
                ("current", ("extract", "--store={s}", str(self.at(tool, "tree.caidx")), "{}")),
            ):
                remove(self.at(tool, name))
                run(self.command(tool, name, *arguments), log)
        if self.borg:
            remove(self.at("borg", "repo"))
            repository = str(self.at("borg", "repo"))
            subprocess.run([self.borg, "init", "-e", "none", repository], check=True)
            run([self.borg, "create", "-C", "zstd,3", f"{repository}::tree", str(self.tree)], log)
        run(["sh", "-c", f"tar -c -C {self.tree} . | zstd -q -3 -T0 -f -o {self.at('tar', 'zst')}"], log)


def table(jobs: list[Job]) -> list[str]:
    """Every job and tool."""
    lines = ["| job | tool | wall s | CPU s | peak MiB | ratio |", "|---|---|---|---|---|---|"]
    for job in jobs:
        ours = job.median(next(iter(job.commands)))
        for tool in job.commands:
            wall, cpu, peak = (job.median(tool, what) for what in ("wall", "cpu", "peak_kib"))
            ratio = f"{wall / ours:.2f}" if ours else ""
            lines.append(f"| {job.name} | {tool} | {wall:.2f} | {cpu:.2f} | {peak / 1024:.0f} | {ratio} |")
    return lines


def report(jobs: list[Job], facts: dict[str, str], floors: dict[str, float]) -> str:
    """The report as Markdown."""
    lines = ["# Benchmark", "", *(f"* {key}: {value}" for key, value in facts.items()), ""]
    lines += [
        "## Targets",
        "",
        "Measured: the peer's wall time over pycasync's; CPU: the same of CPU time.",
        "",
    ]
    lines += [*targets.lines(jobs, floors), "", "## All", ""]
    lines += ["Medians; ratio: that tool's wall time over pycasync's.", "", *table(jobs)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-bench"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--blob", type=int, default=512, help="MiB")
    parser.add_argument("--image", type=int, default=2048, help="MiB")
    parser.add_argument("--million", action="store_true", help="also one million tiny files")
    parser.add_argument("--report", type=Path, default=Path("bench/reports/latest"))
    parser.add_argument("--casync", default=shutil.which("casync"))
    parser.add_argument("--desync", default=".peers/bin/desync")
    parser.add_argument("--borg", default=shutil.which("borg"))
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    parser.add_argument("--only", default="", help="only jobs whose name has this in it")
    options = parser.parse_args()
    if not options.casync:
        parser.error("casync is not installed")
    options.desync = os.path.abspath(options.desync) if os.path.exists(options.desync) else None
    bench = Bench(options)
    bench.prepare()
    jobs = [job for job in bench.jobs() if options.only in job.name]
    for job in jobs:
        measure(job, options.rounds, bench.work / "time")
    cores = len(os.sched_getaffinity(0))
    index, store = bench.at("casync", "blob.caibx"), bench.at("casync", "blobs")
    floors = {
        "make blob, empty store": floor.make(bench.blob, options.rounds, cores),
        "extract blob": floor.extract(index, store, bench.work / "floor", options.rounds, cores),
    }
    system = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.strip(),
        "machine": f"{cores} processors, {system}",
        "work directory": f"{bench.work}",
        "inputs": f"tree of {options.files} files, blob of {options.blob} MiB, image of {options.image} MiB",
        "rounds": str(options.rounds),
        "floor for the blob": ", ".join(f"{seconds:.2f} s ({name})" for name, seconds in floors.items()),
    }
    text = report(jobs, facts, floors)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.with_suffix(".md").write_text(text)
    data = {
        "facts": facts,
        "floors": floors,
        "jobs": {j.name: {t: [asdict(s) for s in v] for t, v in j.samples.items()} for j in jobs},
    }
    options.report.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
