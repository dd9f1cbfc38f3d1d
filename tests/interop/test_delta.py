"""What an update file leaves in a store, casync and desync extract."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare import assert_same, snapshot
from interop.tools import Pair, Tool, better_than_casync
from trees import content


@better_than_casync
@pytest.mark.parametrize("digest", ["sha512-256", "sha256"])
def test_peers_extract_what_was_applied(pair: Pair, desync: Tool, digest: str) -> None:
    """A tree and a blob, in two versions: the first is there, the second comes as an update."""
    old = content(300_000, seed=1)
    new = old[:100_000] + content(50_000, seed=2) + old[100_000:]
    for version, data in (("v1", old), ("v2", new)):
        (pair.base / version).mkdir()
        (pair.base / version / "file").write_bytes(data)
        (pair.base / f"{version}.raw").write_bytes(data)
    here, there = pair.ours, pair.base / "there"
    there.mkdir()
    store, to = f"--store={here / 's.castr'}", f"--store={there / 's.castr'}"
    for kind, name in (("caidx", "{}"), ("caibx", "{}.raw")):
        for version in ("v1", "v2"):
            source = pair.base / name.format(version)
            pair.pycasync("make", f"--digest={digest}", store, here / f"{version}.{kind}", source)
        pair.pycasync("make", f"--digest={digest}", to, there / f"v1.{kind}", pair.base / name.format("v1"))
        patch = pair.base / f"{kind}.patch"
        pair.pycasync("delta", store, here / f"v1.{kind}", here / f"v2.{kind}", "-o", patch)
        pair.pycasync("apply", to, patch, there / f"v2.{kind}")
    for extract, out in ((pair.casync, "casync"), (pair.pycasync, "ours")):
        extract("extract", to, there / "v2.caidx", pair.base / out)
        assert_same(snapshot(pair.base / out), snapshot(pair.base / "v2"))
        extract("extract", to, there / "v2.caibx", pair.base / f"{out}.raw")
        assert (pair.base / f"{out}.raw").read_bytes() == new
    desync("--digest", digest, "extract", "-s", there / "s.castr", there / "v2.caibx", pair.base / "d.raw")
    assert Path(pair.base / "d.raw").read_bytes() == new
    desync("--digest", digest, "verify", "-s", there / "s.castr")
