"""Two versions of one image: what is stored, what an update sends and fetches, as tar+gzip, tar+zstd, desync, pycasync.

    .venv/bin/python bench/images.py --pycasync "$PWD/.venv/bin/pycasync" --report bench/reports/images

The image has one layer, programs, libraries and documentation of this machine; the second version has other contents
in 2 % of the files. For pycasync a registry is started on loopback, and what it was asked for is counted by the
client: requests, and bytes of bodies both ways. Then the first version is exported again, and its image id compared
with the original's.
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
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import inputs
from measure import remove


@dataclass
class Row:
    """One way to keep and move two versions. Sizes in bytes; requests are None where nobody was asked."""

    name: str
    first: int
    update: int
    push_requests: int | None = None
    fetched: int | None = None
    fetch_requests: int | None = None


def output(*command: str | Path) -> str:
    """Run a command; stops the program when it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def size_below(path: Path) -> int:
    """Bytes of all files beneath a directory."""
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names)


@contextmanager
def registry(work: Path) -> Iterator[str]:
    """Debian's docker-registry on loopback. Gives its host and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(work / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "for measurements"},
    }
    (work / "registry.yml").write_text(json.dumps(config))
    environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
    command = ["docker-registry", "serve", str(work / "registry.yml")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def build_layout(layout: Path, tars: list[Path]) -> None:
    """An image for each tar, tagged 1, 2, ..."""
    output("umoci", "init", "--layout", layout)
    for number, tar in enumerate(tars, 1):
        image = f"{layout}:{number}"
        output("umoci", "new", "--image", image)
        stamp = ["--history.created", "2020-01-01T00:00:00Z"]
        output("umoci", "raw", "add-layer", *stamp, "--image", image, tar)
        output("umoci", "config", "--created", "2020-01-01T00:00:00Z", "--no-history", "--image", image)


def as_files(work: Path, name: str, tars: list[Path], command: str) -> Row:
    """Whole layers, compressed: an update is the layer again."""
    sizes = [
        int(subprocess.run(f"{command} < {tar} | wc -c", shell=True, capture_output=True, check=True).stdout)
        for tar in tars
    ]
    return Row(name, sizes[0], sizes[1], fetched=sizes[1])


def by_desync(desync: str, work: Path, tars: list[Path]) -> Row:
    """desync's chunks of the raw tars, in a local store, with the indexes."""
    store = work / "desync.castr"
    store.mkdir()
    sizes = []
    for tar in tars:
        index = work / f"{tar.name}.caibx"
        output(desync, "make", "-s", store, index, tar)
        sizes.append(size_below(store) + index.stat().st_size)
    first_index = (work / f"{tars[0].name}.caibx").stat().st_size
    return Row("desync make, local store", sizes[0], sizes[1] - sizes[0] + first_index)


def by_pycasync(py: list[str], host: str, work: Path, layout: Path, sizes: str) -> Row:
    """Convert both versions into a registry, then fetch both into a store."""
    name = f"docker://{host}/app-{sizes.lower()}"
    options = ["--thin", "--json", f"--chunk-size={sizes}"]
    pushes, pulls = [], []
    local, store = work / f"pulled-{sizes}", work / f"pulled-{sizes}.castr"
    for number in (1, 2):
        made = json.loads(output(*py, "oci", "convert", *options, f"oci:{layout}:{number}", f"{name}:latest"))
        pushes.append(made)
        output(*py, "oci", "push", "--json", f"{name}:latest", f"{name}:{number}")
        pulled = output(
            *py, "oci", "pull", "--json", f"--store={store}", f"{name}:latest", f"oci:{local}:{number}"
        )
        pulls.append(json.loads(pulled))
    back = work / f"back-{sizes}"
    output(*py, "oci", "export", f"{name}:1", f"oci:{back}:1")
    ids = [json.loads(output("skopeo", "inspect", "--raw", f"oci:{at}:1"))["config"] for at in (layout, back)]
    if ids[0] != ids[1]:
        sys.exit(f"the exported image has another image id: {ids}")
    return Row(
        f"pycasync, {sizes} chunks",
        pushes[0]["bytes_sent"],
        pushes[1]["bytes_sent"],
        pushes[1]["requests"],
        pulls[1]["bytes_received"],
        pulls[1]["requests"],
    )


def cat_one(py: list[str], host: str, path: str) -> tuple[str, str]:
    """What `oci cat` of a small file says it took."""
    done = subprocess.run(
        [*py, "oci", "cat", "-v", f"docker://{host}/app-64k:latest", path], capture_output=True, check=True
    )
    return f"{len(done.stdout):,} bytes", done.stderr.decode().strip().splitlines()[-1]


def report(rows: list[Row], facts: dict[str, str]) -> str:
    """The report as Markdown."""
    lines = ["# Two versions of one image", "", *(f"* {key}: {value}" for key, value in facts.items()), ""]
    lines += [
        "| form | first version, MB | update sent, MB | requests | update fetched, MB | requests |",
        "|---|---|---|---|---|---|",
    ]

    def mb(size: int | None) -> str:
        return "" if size is None else f"{size / 1e6:.2f}"

    for row in rows:
        lines.append(
            f"| {row.name} | {mb(row.first)} | {mb(row.update)} | {row.push_requests or ''} | {mb(row.fetched)} "
            f"| {row.fetch_requests or ''} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/pycasync-images"))
    parser.add_argument("--size", type=int, default=400, help="MB of files")
    parser.add_argument("--report", type=Path, default=Path("bench/reports/images"))
    parser.add_argument("--desync", default=".peers/bin/desync")
    parser.add_argument("--pycasync", default=f"{sys.executable} -m casync_compat")
    options = parser.parse_args()
    work, py = options.work, options.pycasync.split()
    remove(work)
    work.mkdir(parents=True)
    first = inputs.root_file_system(work / "tree", options.size * 1_000_000)
    second = inputs.change(first, work / "tree2")
    tars = []
    for number, tree in enumerate((first, second), 1):
        tars.append(work / f"{number}.tar")
        output("tar", "--sort=name", "-cf", tars[-1], "-C", tree, ".")
    layout = work / "images"
    build_layout(layout, tars)
    rows = [as_files(work, "tar+gzip", tars, "gzip -6 -n"), as_files(work, "tar+zstd", tars, "zstd -q -3")]
    if os.path.exists(options.desync):
        rows.append(by_desync(os.path.abspath(options.desync), work, tars))
    with registry(work) as host:
        rows += [by_pycasync(py, host, work, layout, sizes) for sizes in ("64K", "32K", "256K")]
        small = next(p for p in sorted(first.rglob("*")) if p.is_file() and 1000 < p.stat().st_size < 5000)
        taken = cat_one(py, host, str(small.relative_to(first)))
    count = sum(len(names) for _, _, names in os.walk(first))
    facts = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}",
        "image": f"one layer of {count} files, {tars[0].stat().st_size / 1e6:.1f} MB as tar; 2 % of the files changed",
        "oci cat of one small file": f"{taken[0]}: {taken[1]}",
    }
    text = report(rows, facts)
    options.report.with_suffix(".md").write_text(text)
    data = {"facts": facts, "rows": [asdict(row) for row in rows]}
    options.report.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
