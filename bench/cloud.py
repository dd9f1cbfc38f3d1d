"""Measures pycasync beside desync over S3: a blob made into a bucket of SeaweedFS on loopback, and extracted from it.

    python bench/cloud.py --report bench/reports/cloud          # 20,000 chunks: 10 minutes, 6 GiB

Every store that was made is verified against its index, and every blob compared, before any time counts. The service
runs on the same processors, so that what it takes counts for all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import inputs
import measure as measuring
from measure import Job, file_digest, measure, remove

KEY, SECRET, REGION = "pycasync", "secret", "us-east-1"
BUCKET = "bucket"
PEAK_MIB = 200

TARGETS = [
    ("make into S3", "pycasync", "desync", 1.5),
    ("make into S3", "pycasync, packs", "pycasync", 5.0),
    ("extract from S3", "pycasync", "desync", 1.0),
]
"""A job, who is measured, whom he is compared with, and how often he is to be done in that one's time."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


@contextmanager
def seaweed(home: Path) -> Iterator[str]:
    """SeaweedFS with one bucket; the URL of its S3 service."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise SystemExit("SeaweedFS is not installed; .ci/setup installs it")
    remove(home)
    (home / "data").mkdir(parents=True)
    identity = {
        "name": KEY,
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = [
        f"{name}{kind}" for name in ("s3", "master", "volume", "filer") for kind in (".port", ".port.grpc")
    ]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        *(program, "server", f"-dir={home / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"),
        *(f"-s3.config={home / 's3.json'}", "-s3.port.lance=0", "-s3.port.iceberg=0"),
        *("-master.volumeSizeLimitMB=1024", *(f"-{name}={port}" for name, port in ports.items())),
    ]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    with open(home / "log", "wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home)
    try:
        make_bucket(f"{url}/{BUCKET}", server)
        yield url
    finally:
        server.kill()
        server.wait()


def make_bucket(url: str, server: subprocess.Popen[bytes]) -> None:
    """Ask for a bucket until it is there."""
    import pycurl

    for _ in range(300):
        handle = pycurl.Curl()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.CUSTOMREQUEST, "PUT")
        handle.setopt(pycurl.AWS_SIGV4, f"aws:amz:{REGION}:s3")
        handle.setopt(pycurl.USERPWD, f"{KEY}:{SECRET}")
        handle.setopt(pycurl.NOPROXY, "*")
        handle.setopt(pycurl.WRITEFUNCTION, lambda data: None)
        try:
            handle.perform()
            if handle.getinfo(pycurl.RESPONSE_CODE) == 200:
                return
        except pycurl.error:
            pass
        finally:
            handle.close()
        if server.poll() is not None:
            raise SystemExit("SeaweedFS does not start")
        time.sleep(0.1)
    raise SystemExit(f"{url} cannot be made")


class Bench:
    """The jobs over one bucket. Each run of a tool that makes has a prefix of its own, since an empty store counts."""

    def __init__(self, options: argparse.Namespace, url: str) -> None:
        self.options, self.url = options, url
        self.work: Path = options.work
        self.pycasync: list[str] = options.pycasync.split()
        self.blob = inputs.blob(self.work / "blob", self.tree(), options.blob << 20)
        self.runs = 0
        self.stores: dict[str, str] = {}

    def tree(self) -> Path:
        return inputs.tree(self.work / "tree", self.options.files)

    def index(self, tool: str) -> Path:
        return self.work / f"{tool.replace(', ', '-')}.caibx"

    def making(self, tool: str) -> list[str]:
        self.runs += 1
        prefix = f"{BUCKET}/run{self.runs}/default.castr"
        if tool == "desync":
            self.stores[tool] = f"s3+{self.url}/{prefix}?lookup=path"
            return [
                self.options.desync,
                "make",
                "-s",
                self.stores[tool],
                str(self.index(tool)),
                str(self.blob),
            ]
        self.stores[tool] = f"s3://{prefix}"
        layout = "packs" if "packs" in tool else "objects"
        store = [f"--layout={layout}", f"--store={self.stores[tool]}"]
        return [*self.pycasync, "make", "--stream-digest=no", *store, str(self.index(tool)), str(self.blob)]

    def extracting(self, tool: str) -> list[str]:
        index, out = str(self.index(tool)), str(self.work / "out")
        if tool == "desync":
            return [self.options.desync, "extract", "-s", self.stores[tool], index, out]
        return [*self.pycasync, "extract", f"--store={self.stores[tool]}", index, out]

    def jobs(self) -> list[Job]:
        tools = ["pycasync", "pycasync, packs", *(["desync"] if self.options.desync else [])]
        make = {tool: self.making(tool) for tool in tools}

        def anew(tool: str) -> None:
            make[tool][:] = self.making(tool)

        def whole() -> str:
            for tool in tools:
                store = self.stores[tool]
                verify = [*self.pycasync, "verify", f"--store={store}", str(self.index(tool))]
                if "packs" not in tool and subprocess.run(verify, env=measuring.ENVIRONMENT).returncode:
                    return f"the store of {tool} is not whole"
            return ""

        extract: dict[str, list[str]] = {tool: [] for tool in tools}

        def empty(tool: str) -> None:
            if (self.work / "out").exists() and file_digest(self.work / "out") != file_digest(self.blob):
                raise SystemExit("an extracted blob differs")
            remove(self.work / "out")
            extract[tool][:] = self.extracting(tool)

        return [Job("make into S3", make, anew, whole), Job("extract from S3", extract, empty)]


def report(jobs: list[Job], facts: dict[str, str]) -> str:
    """The report as Markdown."""
    by_name = {job.name: job for job in jobs}
    lines = ["# Over S3", "", *(f"* {key}: {value}" for key, value in facts.items()), ""]
    lines += ["| job | who | against | target | measured | |", "|---|---|---|---|---|---|"]
    for name, who, against, ratio in TARGETS:
        job = by_name.get(name)
        if job is not None and against in job.samples:
            found = job.median(against) / job.median(who)
            lines.append(
                f"| {name} | {who} | {against} | {ratio} | {found:.2f} | {'yes' if found >= ratio else 'no'} |"
            )
    for job in jobs:
        for tool in job.samples:
            peak = job.median(tool, "peak_kib") / 1024
            if tool.startswith("pycasync"):
                met = "yes" if peak < PEAK_MIB else "no"
                lines.append(f"| {job.name} | {tool} | memory | < {PEAK_MIB} MiB | {peak:.0f} | {met} |")
    lines += ["", "| job | tool | wall s | CPU s | peak MiB |", "|---|---|---|---|---|"]
    for job in jobs:
        for tool in job.samples:
            wall, cpu, peak = (job.median(tool, what) for what in ("wall", "cpu", "peak_kib"))
            lines.append(f"| {job.name} | {tool} | {wall:.2f} | {cpu:.2f} | {peak / 1024:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-cloud"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--blob", type=int, default=1335, help="MiB")
    parser.add_argument("--report", type=Path, default=Path("bench/reports/latest"))
    parser.add_argument("--desync", default=".peers/bin/desync")
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    parser.add_argument("--only", default="", help="only jobs whose name has this in it; extract needs make")
    options = parser.parse_args()
    options.desync = os.path.abspath(options.desync) if os.path.exists(options.desync) else None
    options.work.mkdir(parents=True, exist_ok=True)
    with seaweed(options.work / "seaweed") as url:
        measuring.ENVIRONMENT.update(
            AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_REGION=REGION, AWS_ENDPOINT_URL=url,
            S3_ACCESS_KEY=KEY, S3_SECRET_KEY=SECRET, S3_REGION=REGION,
        )  # fmt: skip
        bench = Bench(options, url)
        jobs = [job for job in bench.jobs() if options.only in job.name]
        for job in jobs:
            measure(job, options.rounds, bench.work / "time")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    system = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.strip(),
        "machine": f"{len(os.sched_getaffinity(0))} processors, {system}",
        "input": f"a blob of {options.blob} MiB",
        "rounds": str(options.rounds),
    }
    text = report(jobs, facts)
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.with_suffix(".md").write_text(text)
    samples = {
        job.name: {tool: [asdict(one) for one in some] for tool, some in job.samples.items()} for job in jobs
    }
    options.report.with_suffix(".json").write_text(
        json.dumps({"facts": facts, "jobs": samples}, indent=1) + "\n"
    )
    print(text)


if __name__ == "__main__":
    main()
