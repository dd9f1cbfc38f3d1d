"""Measures pycasync beside desync and casync over a network: nginx on loopback, with TLS, and behind latency.

    python bench/network.py --report bench/reports/network      # 1.4 GB in 18,000 chunks: 45 minutes, 4 GiB
    python bench/network.py --only loopback --rounds 5
    python bench/network.py --only "200 ms" --peers 256 --keep --report bench/reports/network

The blob is extracted from a store that nginx serves, and compared before any time counts. desync is run with its
default of ten requests at a time and with more. The network with latency is two namespaces joined by `wan.c`; it wants
root. Through ssh, casync serves both itself and pycasync. Most of the time goes into desync with its default of ten
requests at 200 ms: `--peers` leaves such out, and `--keep` leaves other jobs in the report as they were.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import inputs
from measure import Job, Sample, file_digest, measure, remove, run
from run import table
from sshd import sshd
from wan import Wan, wan

PORT, TLS_PORT = 18080, 18443
PEAK_MIB = 200
PART = 128 << 20
"""Bytes of the blob that are fetched through ssh, where casync takes a minute for a gigabyte."""


@dataclass(frozen=True)
class Target:
    """One line of the table.

    :ivar job: name of a job
    :ivar peers: tools that pycasync is compared with: the fastest of them counts
    :ivar ratio: their time over pycasync's, at least
    """

    job: str
    peers: tuple[str, ...]
    ratio: float


def desync_with(jobs: int) -> str:
    """What a run of desync with so many requests at a time is called."""
    return f"desync -n {jobs}"


LOOPBACK = tuple(map(desync_with, (10, 32)))
FAR = tuple(map(desync_with, (10, 32, 100, 256)))

TARGETS = [
    Target("loopback, HTTP", LOOPBACK, 1.7),
    Target("loopback, HTTPS", LOOPBACK, 2.5),
    Target("50 ms", FAR[:1], 5.0),
    Target("50 ms", FAR, 1.0),
    Target("200 ms", FAR[:1], 5.0),
    Target("200 ms", FAR, 1.0),
    Target("packs, 200 ms", ("objects",), 1.4),
    Target("SSH", ("casync",), 1.0),
]

ORDER = ["loopback, HTTP", "loopback, HTTPS", "50 ms", "200 ms", "packs, 200 ms", "SSH"]
"""Of the jobs in a report."""


@contextmanager
def nginx(home: Path, root: Path, address: str, prefix: tuple[str, ...] = ()) -> Iterator[None]:
    """An nginx over a directory, plain on one port and with TLS and HTTP/2 on another."""
    remove(home)
    home.mkdir()
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    request += ["-days", "2", "-subj", "/CN=bench", "-addext", f"subjectAltName=IP:{address}"]
    request += ["-keyout", str(home / "key.pem"), "-out", str(home / "cert.pem")]
    subprocess.run(request, check=True, capture_output=True)
    (home / "conf").write_text(
        f"""daemon off; pid {home}/pid; error_log {home}/log; worker_processes 1; user root;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi; root {root}; keepalive_requests 100000; sendfile on;
  server {{ listen {address}:{PORT}; }}
  ssl_certificate {home}/cert.pem; ssl_certificate_key {home}/key.pem;
  server {{ listen {address}:{TLS_PORT} ssl http2; }}
}}
"""
    )
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if program is None:
        raise SystemExit("nginx is not installed")
    server = subprocess.Popen([*prefix, program, "-c", str(home / "conf")])
    try:
        time.sleep(1)
        if server.poll() is not None:
            raise SystemExit(f"nginx does not start: {(home / 'log').read_text()}")
        yield
    finally:
        server.terminate()
        server.wait()


class Bench:
    """The jobs over one blob."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.root = self.work / "root"
        self.root.mkdir(exist_ok=True)
        tree = inputs.tree(self.work / "tree", options.files)
        self.blob = inputs.blob(self.work / "blob", tree, options.blob << 20)
        self.index = self.root / "blob.caibx"
        self.store = self.root / "blobs.castr"
        if not self.index.exists():
            command = [*self.ours, "make", f"--store={self.store}", str(self.index), str(self.blob)]
            run(command, self.work / "time")

    @property
    def ours(self) -> list[str]:
        return list(self.options.pycasync.split())

    def wants(self, peer: str) -> bool:
        """Whether a peer is to be measured: each, unless some are named."""
        named = self.options.peers
        return not named or any(peer.endswith(f" {name}") or peer == name for name in named.split(","))

    def outputs(self, tool: str) -> Path:
        return self.work / f"out-{tool.replace(' ', '')}"

    def fetching(
        self,
        url: str,
        jobs: tuple[str, ...],
        *,
        prefix: tuple[str, ...] = (),
        certificate: Path | None = None,
    ) -> dict[str, list[str]]:
        """Commands that extract the blob from a store at an URL."""
        index, store = f"{url}/blob.caibx", f"{url}/blobs.castr"
        ours = ["env"] + ([f"SSL_CERT_FILE={certificate}"] if certificate else []) + self.ours
        out = str(self.outputs("pycasync"))
        commands = {
            "pycasync": [*prefix, *ours, "extract", "--seed-output=no", f"--store={store}", index, out]
        }
        for name in filter(self.wants, jobs if self.options.desync else ()):
            words = [self.options.desync, "extract", "-n", name.rpartition(" ")[2]]
            words += ["--ca-cert", str(certificate)] if certificate else []
            commands[name] = [*prefix, *words, "-s", store, index, str(self.outputs(name))]
        return commands

    def job(self, name: str, commands: dict[str, list[str]], blob: Path | None = None) -> Job:
        def check() -> str:
            wanted = file_digest(blob or self.blob)
            wrong = [tool for tool in commands if file_digest(self.outputs(tool)) != wanted]
            return f"{', '.join(wrong)} made something else" if wrong else ""

        def clear(tool: str) -> None:
            for each in commands:
                if each == tool:
                    remove(self.outputs(each))

        return Job(name, commands, clear, check)

    def run(self, job: Job) -> Job:
        measure(job, self.options.rounds, self.work / "time")
        for tool in job.commands:
            remove(self.outputs(tool))
        return job

    def jobs(self) -> Iterator[Job]:
        """The jobs that were wanted, each after it was run."""
        wanted = self.options.only
        home = self.work / "nginx"
        if any(wanted in name for name in ("loopback, HTTP", "loopback, HTTPS")):
            with nginx(home, self.root, "127.0.0.1"):
                plain = self.fetching(f"http://127.0.0.1:{PORT}", LOOPBACK)
                secure = self.fetching(
                    f"https://127.0.0.1:{TLS_PORT}", LOOPBACK, certificate=home / "cert.pem"
                )
                for name, commands in (("loopback, HTTP", plain), ("loopback, HTTPS", secure)):
                    if wanted in name:
                        yield self.run(self.job(name, commands))
        for latency in (50, 200):
            if wanted in f"{latency} ms":
                with ExitStack() as stack:
                    line = stack.enter_context(wan(latency, 1000, self.work))
                    stack.enter_context(nginx(home, self.root, line.address, line.far))
                    commands = self.fetching(f"http://{line.address}:{PORT}", FAR, prefix=line.near)
                    yield self.run(self.job(f"{latency} ms", commands))
        if wanted in "packs, 200 ms":
            with ExitStack() as stack:
                line = stack.enter_context(wan(200, 1000, self.work))
                stack.enter_context(nginx(home, self.root, line.address, line.far))
                yield self.run(self.job("packs, 200 ms", self.packs(line, f"http://{line.address}:{PORT}")))
        casync = shutil.which("casync")
        if wanted in "SSH" and casync is not None:
            with sshd(self.work / "sshd") as ssh:
                part = self.part()
                yield self.run(self.job("SSH", self.through(part, ssh, casync), part))

    def part(self) -> Path:
        """The beginning of the blob, for what takes long, made into a store of its own."""
        part = self.work / "part"
        if not (self.root / "part.caibx").exists():
            with open(self.blob, "rb") as blob:
                part.write_bytes(blob.read(PART))
            store = f"--store={self.root / 'part.castr'}"
            run([*self.ours, "make", store, str(self.root / "part.caibx"), str(part)], self.work / "time")
        return part

    def through(self, part: Path, ssh: Path, casync: str) -> dict[str, list[str]]:
        """Commands that extract a part of the blob through ssh from casync, as itself does it."""
        found = ["env", f"CASYNC_SSH_PATH={ssh}", f"CASYNC_REMOTE_PATH={casync}"]
        here = f"127.0.0.1:{self.root / part.name}"
        index, store = f"{here}.caibx", f"--store={here}.castr"
        return {
            tool: [*found, *program, "extract", "--seed-output=no", store, index, str(self.outputs(tool))]
            for tool, program in (("pycasync", self.ours), ("casync", [casync]))
        }

    def packs(self, line: Wan, url: str) -> dict[str, list[str]]:
        """Commands that extract the blob from packs, and from a chunk a file, which is `objects`."""
        packed = self.root / "packed.castr"
        if not packed.exists():
            make = [*self.ours, "make", "--layout=packs", f"--store={packed}"]
            run([*make, str(self.root / "packed.caibx"), str(self.blob)], self.work / "time")
        extract = [*line.near, *self.ours, "extract", "--seed-output=no"]
        return {
            tool: [*extract, f"--store={url}/{store}.castr", f"{url}/{index}.caibx", str(self.outputs(tool))]
            for tool, store, index in (("pycasync", "packed", "packed"), ("objects", "blobs", "blob"))
        }


def earlier(report: Path, jobs: list[Job]) -> list[Job]:
    """Jobs of a report that is there, but for those that were run now."""
    if not report.exists():
        return []
    data = json.loads(report.read_text())["jobs"]
    run_now = {job.name for job in jobs}
    return [
        Job(
            name,
            {tool: [] for tool in samples},
            samples={tool: [Sample(**one) for one in some] for tool, some in samples.items()},
        )
        for name, samples in data.items()
        if name not in run_now
    ]


def target_lines(jobs: list[Job]) -> list[str]:
    """The table of targets, for those jobs that were run."""
    by_name = {job.name: job for job in jobs}
    lines = ["| job | against | target | measured | |", "|---|---|---|---|---|"]
    for target in TARGETS:
        job = by_name.get(target.job)
        peers = [peer for peer in target.peers if job and peer in job.samples]
        if job is None or not peers:
            continue
        best = min(peers, key=job.median)
        ratio = job.median(best) / job.median("pycasync")
        met = "met" if ratio >= target.ratio else "**not met**"
        against = best if len(target.peers) == 1 else f"the best of {len(peers)}: {best}"
        lines.append(f"| {target.job} | {against} | ≥ {target.ratio} | {ratio:.2f} | {met} |")
    if jobs:
        peak = max(sample.peak_kib for job in jobs for sample in job.samples["pycasync"]) / 1024
        met = "met" if peak < PEAK_MIB else "**not met**"
        lines.append(f"| peak memory | | < {PEAK_MIB} MiB | {peak:.0f} MiB | {met} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-network"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--blob", type=int, default=1335, help="MiB")
    parser.add_argument("--report", type=Path, default=Path("bench/reports/latest"))
    parser.add_argument("--desync", default=".peers/bin/desync")
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    parser.add_argument("--only", default="", help="only jobs whose name has this in it")
    parser.add_argument("--peers", default="", help="only these runs of desync, by their requests: 32,256")
    parser.add_argument("--keep", action="store_true", help="leave other jobs in the report as they were")
    options = parser.parse_args()
    options.desync = os.path.abspath(options.desync) if os.path.exists(options.desync) else None
    bench = Bench(options)
    jobs = list(bench.jobs())
    kept = earlier(options.report.with_suffix(".json"), jobs) if options.keep else []
    measured = ", ".join(job.name for job in jobs)
    jobs = sorted([*jobs, *kept], key=lambda job: ORDER.index(job.name))
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    chunks = sum(len(names) for _, _, names in os.walk(bench.store))
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.strip(),
        "machine": f"{cores} processors, {system}",
        "work directory": f"{bench.work}",
        "inputs": f"blob of {bench.blob.stat().st_size >> 20} MiB, {chunks} chunks",
        "rounds": "; ".join(f"{len(next(iter(job.samples.values())))} of {job.name}" for job in jobs),
    }
    if kept and measured:
        facts["measured"] = f"{measured}; the others as they were"
    text = "\n".join(
        [
            *("# Over a network", "", *(f"* {key}: {value}" for key, value in facts.items()), ""),
            *("## Targets", "", "Measured: the peer's wall time over pycasync's, medians.", ""),
            *(*target_lines(jobs), "", "## All", ""),
            *("Medians; ratio: that tool's wall time over pycasync's.", "", *table(jobs), ""),
        ]
    )
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
