"""Measures `pycasync serve` beside desync's chunk-server and nginx, on loopback: random chunks, many connections.

    python bench/serve.py --report bench/reports/serve          # wants wrk and h2load (Debian: wrk, nghttp2-client)

All servers have the same store, of chunks that desync makes, and take turns, round by round. Every chunk is asked for
once before anything counts, but for what is measured as cold: every chunk, once, of a server that has just begun. The
load generator takes processor time, too: on a small machine requests a second say less than the server's own
processor time for each.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from measure import remove

PORT = 18180
CONNECTIONS = 32
IDLE, SLOW = 1000, 64
LUA = """
local paths = {}
for line in io.lines("%s") do paths[#paths + 1] = line end
math.randomseed(os.time())
request = function() return wrk.format("GET", paths[math.random(#paths)]) end
"""
TARGETS = [
    ("HTTP/1.1", "desync", 1.7),
    ("HTTP/2 and TLS", "desync", 1.3),
    ("HTTP/1.1", "nginx", 1 / 1.2),
]
"""Job, peer, and our requests a second over the peer's, at least."""
PEAK_MIB = 150


@dataclass
class Server:
    """One at work.

    :ivar processes: whose processor time counts
    """

    name: str
    plain: int
    secure: int
    processes: list[int]


@dataclass
class Measured:
    """Of one job and server: requests a second, and milliseconds of processor time for each."""

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)


def seconds_of(processes: list[int]) -> float:
    """Processor time that they had."""
    ticks = 0
    for process in processes:
        parts = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(parts[11]) + int(parts[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_for(port: int) -> None:
    """Until somebody listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextmanager
def started(commands: list[list[str]], ports: list[int]) -> Iterator[list[int]]:
    """Servers, until the block ends; their process ids."""
    with ExitStack() as stack:
        processes = []
        for command in commands:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            processes.append(process.pid)
        for port in ports:
            wait_for(port)
        yield processes


class Bench:
    """A store, and the servers over it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        remove(self.work)
        self.work.mkdir(parents=True)
        self.store = self.work / "store"
        self.store.mkdir()
        blob = self.work / "blob.catar"
        tar = ["tar", "-c", "--sort=name", "/usr/lib", "/usr/share"]
        with subprocess.Popen(tar, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source:
            assert source.stdout is not None
            blob.write_bytes(source.stdout.read(options.blob << 20))
            source.kill()
        subprocess.run(
            [options.desync, "make", "-s", self.store, self.work / "blob.caibx", blob],
            check=True,
            capture_output=True,
        )
        self.paths = [f"/{path.parent.name}/{path.name}" for path in self.store.rglob("*.cacnk")]
        (self.work / "paths").write_text("\n".join(self.paths) + "\n")
        (self.work / "random.lua").write_text(LUA % (self.work / "paths"))
        words = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        )
        subprocess.run(
            ["openssl", *words.split(), "-keyout", self.work / "key", "-out", self.work / "cert"],
            check=True,
            capture_output=True,
        )

    @contextmanager
    def pycasync(self) -> Iterator[Server]:
        command = [*self.options.pycasync.split(), "serve", str(self.store), f"--index-dir={self.work}"]
        tls = [f"--cert={self.work}/cert", f"--key={self.work}/key"]
        plain, secure = PORT, PORT + 1
        commands = [
            [*command, f"--listen=127.0.0.1:{plain}"],
            [*command, f"--listen=127.0.0.1:{secure}", *tls],
        ]
        with started(commands, [plain, secure]) as processes:
            yield Server("pycasync", plain, secure, processes)

    @contextmanager
    def desync(self) -> Iterator[Server]:
        command = [self.options.desync, "chunk-server", "-s", str(self.store)]
        tls = ["--cert", f"{self.work}/cert", "--key", f"{self.work}/key"]
        plain, secure = PORT + 2, PORT + 3
        commands = [[*command, "-l", f"127.0.0.1:{plain}"], [*command, "-l", f"127.0.0.1:{secure}", *tls]]
        with started(commands, [plain, secure]) as processes:
            yield Server("desync", plain, secure, processes)

    @contextmanager
    def nginx(self) -> Iterator[Server]:
        plain, secure = PORT + 4, PORT + 5
        at = self.work
        at.chmod(0o755)
        paths = " ".join(f"{each}_temp_path {at}/{each};" for each in ("proxy", "fastcgi", "uwsgi", "scgi"))
        (at / "conf").write_text(
            f"""daemon off; master_process off; pid {at}/pid; error_log {at}/log; user root;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; keepalive_requests 10000000; client_body_temp_path {at}/body; {paths}
  root {self.store}; server {{ listen 127.0.0.1:{plain}; }}
  server {{ listen 127.0.0.1:{secure} ssl http2; ssl_certificate {at}/cert; ssl_certificate_key {at}/key; }} }}
"""
        )
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
        if program is None:
            raise SystemExit("nginx is not installed")
        with started([[program, "-c", str(at / "conf")]], [plain, secure]) as processes:
            yield Server("nginx", plain, secure, processes)

    def _run(self, server: Server, command: list[str], count: str, into: Measured) -> None:
        before = seconds_of(server.processes)
        began = time.monotonic()
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        taken = time.monotonic() - began
        found = re.search(count, out)
        if found is None or "Non-2xx" in out or "Socket errors" in out:
            raise SystemExit(f"{server.name}: {out}")
        into.rates.append(int(found[1]) / taken)
        into.costs.append((seconds_of(server.processes) - before) * 1000 / int(found[1]))

    def warm(self, server: Server) -> None:
        """Ask for every chunk once, of both of its ports."""
        connection = http.client.HTTPConnection("127.0.0.1", server.plain, timeout=60)
        for path in self.paths:
            connection.request("GET", path)
            connection.getresponse().read()
        connection.close()
        self.h2load(server, Measured())

    def wrk(self, server: Server, into: Measured) -> None:
        """HTTP/1.1, random chunks."""
        words = f"wrk -t1 -c{CONNECTIONS} -d{self.options.seconds}s -s {self.work}/random.lua".split()
        self._run(server, [*words, f"http://127.0.0.1:{server.plain}"], r"([0-9]+) requests in", into)

    def h2load(self, server: Server, into: Measured) -> None:
        """HTTP/2 over TLS, chunks in turn."""
        urls = self.work / f"urls-{server.name}"
        if not urls.exists():
            urls.write_text("".join(f"https://127.0.0.1:{server.secure}{path}\n" for path in self.paths))
        words = f"h2load -t1 -c4 -m32 -n{self.options.requests} -i {urls}".split()
        self._run(server, words, r", ([0-9]+) succeeded", into)

    def cold(self, start: Callable[[], AbstractContextManager[Server]], into: Measured) -> None:
        """HTTP/1.1, every chunk once, of a server that nobody has asked yet."""
        with start() as server:
            urls = self.work / f"cold-{server.name}"
            urls.write_text("".join(f"http://127.0.0.1:{server.plain}{path}\n" for path in self.paths))
            # On one connection: each client of h2load's begins with the first of them.
            words = f"h2load --h1 -t1 -c1 -n{len(self.paths)} -i {urls}".split()
            self._run(server, words, r", ([0-9]+) succeeded", into)

    @contextmanager
    def crowd(self, server: Server) -> Iterator[None]:
        """Connections that ask nothing, and clients that hardly read what they asked for."""
        with ExitStack() as stack:
            address = "127.0.0.1", server.plain
            for _ in range(IDLE):
                stack.enter_context(socket.create_connection(address, 20))
            for _ in range(SLOW):
                client = stack.enter_context(socket.create_connection(address, 20))
                client.sendall(b"GET /blob.catar HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(3)  # until the system's buffers are full
            yield


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-serve"))
    parser.add_argument("--blob", type=int, default=300, help="MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--report", type=Path, default=Path("bench/reports/latest"))
    parser.add_argument("--desync", default=".peers/bin/desync")
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    options = parser.parse_args()
    options.desync = os.path.abspath(options.desync)
    options.load = os.getloadavg()[0]
    bench = Bench(options)
    jobs: dict[str, dict[str, Measured]] = {}
    starts = bench.pycasync, bench.desync, bench.nginx
    cold = jobs["HTTP/1.1, cold"] = {}
    for _ in range(options.rounds):
        for start in starts:
            bench.cold(start, cold.setdefault(start.__name__, Measured()))
    with ExitStack() as stack:
        servers = [stack.enter_context(start()) for start in starts]
        for server in servers:
            bench.warm(server)
        for _ in range(options.rounds):
            for server in servers:
                bench.wrk(server, jobs.setdefault("HTTP/1.1", {}).setdefault(server.name, Measured()))
                bench.h2load(
                    server, jobs.setdefault("HTTP/2 and TLS", {}).setdefault(server.name, Measured())
                )
            with bench.crowd(servers[0]):
                bench.wrk(servers[0], jobs.setdefault("in a crowd", {}).setdefault("pycasync", Measured()))
        peak = max(
            int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[0])
            for process in servers[0].processes
        )
    text = report(options, jobs, peak / 1024, len(bench.paths))
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.with_suffix(".md").write_text(text)
    found = {job: {name: asdict(one) for name, one in each.items()} for job, each in jobs.items()}
    whole = {"chunks": len(bench.paths), "peak_mib": round(peak / 1024, 1), "jobs": found}
    options.report.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")
    print(text)
    remove(bench.work)


def report(
    options: argparse.Namespace, jobs: dict[str, dict[str, Measured]], peak: float, chunks: int
) -> str:
    """As Markdown."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    cores = len(os.sched_getaffinity(0))
    lines = [
        "# Serving",
        "",
        f"* date: {time.strftime('%Y-%m-%d')}, commit {commit.strip()}",
        f"* machine: {cores} processors, {platform.machine()}, Linux {platform.release()}, Python "
        f"{platform.python_version()}; the load generator runs on the same",
        f"* load before it began: {options.load:.2f}; what else runs takes of the requests a second, and less of the "
        "processor time",
        f"* store: {chunks} chunks of {options.blob} MiB of a tar of /usr/lib and /usr/share; {options.rounds} rounds",
        f"* HTTP/1.1: wrk, {CONNECTIONS} connections, random chunks; HTTP/2 and TLS: h2load, 4 connections, 32 streams",
        "* cold: h2load --h1, one connection, every chunk once, of a server that has just begun",
        f"* in a crowd: the same as HTTP/1.1 beside {IDLE} idle connections and {SLOW} clients that do not read",
        "",
        "| target | requests a second, over the peer's | processor time of a request, the peer's over ours | |",
        "|---|---|---|---|",
    ]
    for job, peer, ratio in TARGETS:
        ours, theirs = jobs[job]["pycasync"], jobs[job][peer]
        rate = statistics.median(ours.rates) / statistics.median(theirs.rates)
        cost = statistics.median(theirs.costs) / statistics.median(ours.costs)
        met = "met" if rate >= ratio else "**not met**"
        lines.append(f"| {job}, {peer}: ≥ {ratio:.2f} | {rate:.2f} | {cost:.2f} | {met} |")
    crowd = statistics.median(jobs["in a crowd"]["pycasync"].rates)
    alone = statistics.median(jobs["HTTP/1.1"]["pycasync"].rates)
    lines.append(f"| in a crowd, of alone | {crowd / alone:.2f} | | |")
    met = "met" if peak < PEAK_MIB else "**not met**"
    lines.append(f"| peak memory < {PEAK_MIB} MiB | {peak:.0f} MiB | | {met} |")
    lines += ["", "| job | server | requests a second | processor time of one, ms |", "|---|---|---|---|"]
    for job, measured in jobs.items():
        for name, found in measured.items():
            rate, cost = statistics.median(found.rates), statistics.median(found.costs)
            lines.append(f"| {job} | {name} | {rate:.0f} | {cost:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
