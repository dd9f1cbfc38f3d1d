"""Writes `corpus/`: small inputs for each target, well-formed and broken, from what the tests know how to make.

    python tests/fuzz/make_corpus.py

Archives are not among them: `tests/fixtures/catar` is their corpus. Files called `found-…` are not written here, they
are what fuzzing found, and stay.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trees
from test_index import BLOB, EMPTY, TREE
from test_oci import rawtar
from test_oci.test_layers import convert
from test_oci.test_packindex import GOOD as PACK_INDEX
from test_oci.test_recipe import COPY, LITERAL, ZEROS, forge
from test_oci.test_wrapper import CONFIG, wrapper

from casync_compat.ids import ChunkId
from casync_compat.oci.spec.packindex import PackRow, pack_table

HERE = Path(__file__).resolve().parent
IMAGE_CONFIG = (
    b'{"architecture":"amd64","os":"linux","config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":'
    b'["sha256:'
    + b"0" * 64
    + b'","sha256:'
    + b"1" * 64
    + b'"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}'
)
DESCRIPTOR = (
    b'{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:'
    + b"2" * 64
    + b'","size":7}'
)
IMAGE_INDEX = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":'
    b'"application/vnd.oci.image.manifest.v1+json","digest":"sha256:'
    + b"3"
    * 64
    + b'","size":300,"platform":'
    b'{"os":"linux","architecture":"arm64","variant":"v8"},"annotations":{"a":"b"}}]}'
)


def tars() -> dict[str, bytes]:
    """A tar in each dialect."""
    parts = [(0, b"front"), (9000, b"back")]
    return {
        "ustar": rawtar.directory(b"d/")
        + rawtar.file(b"d/a", b"text")
        + rawtar.symlink(b"d/l", b"a")
        + rawtar.hard_link(b"d/h", b"d/a")
        + rawtar.END,
        "pax": rawtar.pax([(b"path", b"p" * 120), (b"mtime", b"1.25"), rawtar.xattr(b"user.a", b"\0")])
        + rawtar.file(b"short", b"x" * 600)
        + rawtar.pax([(b"comment", b"c")], b"g")
        + rawtar.END,
        "gnu-long": rawtar.gnu_long(b"n" * 150) + rawtar.file(b"n", b"1") + rawtar.gnu_long(b"k" * 150, b"K")
        + rawtar.symlink(b"s", b"k") + rawtar.END,
        "sparse-old": rawtar.sparse_old(b"s", 10_000, parts) + rawtar.END,
        "sparse-00": rawtar.sparse_00(b"s", 10_000, parts) + rawtar.END,
        "sparse-01": rawtar.sparse_01(b"s", 10_000, parts) + rawtar.END,
        "sparse-10": rawtar.sparse_10(b"s", 10_000, parts) + rawtar.END,
        "whiteouts": rawtar.file(b"d/.wh.a") + rawtar.file(b"d/.wh..wh..opq") + rawtar.END,
        "zeros": bytes(1024),
        "no-end": rawtar.file(b"a", b"b"),
    }  # fmt: skip


def recipes() -> dict[str, bytes]:
    """Recipes that are forged for the catar of `test_recipe`, and one of a real layer."""
    return {
        "layer": convert(tars()["ustar"]).recipe,
        "three-kinds": forge([(LITERAL, 3), (COPY, 5), (ZEROS, 100), (COPY, 9)], [7, -3], b"abc"),
        "zeros": forge([(ZEROS, 70_000)], []),
        "copies": forge([(COPY, 10)] * 20, [1] * 20),
        "copy-past-the-end": forge([(COPY, 5)], [1 << 20]),
        "empty-splice": forge([(ZEROS, 5), (ZEROS, 0)], []),
    }


def corpus() -> dict[str, dict[str, bytes]]:
    """All inputs by target and name."""
    rows = [PackRow(ChunkId(bytes([n]) * 32), n, 10 * n) for n in (1, 2, 3)]
    return {
        "index": {"blob": BLOB, "tree": TREE, "empty": EMPTY},
        "cuts": {
            "fixed": (64).to_bytes(2, "little") * 3 + bytes(range(256)) * 3,
            "usual": b"\x40\0\x80\0\0\x01" + b"".join(bytes([n * n & 255] * 40) for n in range(80)),
            "zeros": b"\x40\0\x80\0\0\x01" + bytes(3000),
        },
        "tar": tars(),
        "recipe": recipes(),
        "manifest": {
            "wrapper.json": wrapper().manifest.raw,
            "wrapper-config.json": CONFIG.to_bytes(),
            "image-config.json": IMAGE_CONFIG,
            "image-index.json": IMAGE_INDEX,
            "image-manifest.json": b'{"schemaVersion":2,"config":' + DESCRIPTOR + b',"layers":[' + DESCRIPTOR + b"]}",
            "schema-1.json": b'{"schemaVersion":1,"fsLayers":[]}',
        },
        "packindex": {"three-chunks": PACK_INDEX, "pack-table": pack_table(rows), "short": PACK_INDEX[:40]},
        "caexclude": {
            **{(name or "top").replace("/", "-"): rules for name, rules in trees.CAEXCLUDE.items()},
            "dot-dot": b"fine\na/../b\n",
            "brackets": b"[!]-a]\n[[:alpha:]x\n[a-\n\\[\n[=a=]\n[.-.]*\n",
        },
    }  # fmt: skip


def main() -> None:
    """Write them; files that are no longer made are removed."""
    for target, files in corpus().items():
        at = HERE / "corpus" / target
        at.mkdir(parents=True, exist_ok=True)
        for path in at.iterdir():
            if not path.name.startswith("found-"):
                path.unlink()
        for name, data in files.items():
            (at / name).write_bytes(data)


if __name__ == "__main__":
    main()
