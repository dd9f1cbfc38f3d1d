"""Which images run on which platform is what containerd's `platforms` package says."""

from __future__ import annotations

import json
import subprocess
from itertools import product
from pathlib import Path

import pytest
from interop.tools import peer

from casync_compat.oci.spec.descriptor import Platform
from casync_compat.oci.spec.platforms import runnable

ARCHITECTURES = (
    *(
        "amd64",
        "x86_64",
        "x86-64",
        "AMD64",
        "386",
        "i386",
        "arm",
        "armhf",
        "armel",
        "arm64",
        "aarch64",
        "Aarch64",
    ),
    *("riscv64", "ppc64le", "s390x", "loong64", "wasm"),
)
VARIANTS = (
    *("", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "1", "2", "5", "6", "7", "8", "9"),
    *("8.0", "v8.0", "v8.1", "8.1", "v8.2", "v8.5", "v8.9", "v8.10", "9.0", "v9.0", "v9.1", "v9.7", "v9.8"),
    *("V3", "V7", "V8", "v0", "v3.1", "v5t", "x", "rva20u64"),
)
UNKNOWN = frozenset(VARIANTS) - {
    *("", "v8", "v9", "8", "9", "v8.0", "v8.1", "v8.2", "v8.5", "v8.9", "9.0", "v9.0", "v9.1", "v9.7", "V8"),
}
"""Variants of arm64 that containerd finds nothing for, not even an image that is made for exactly them."""


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of peers/platforms."""
    return peer("platforms", tmp_path_factory)


def test_same_as_containerd(platforms: Path) -> None:
    """What runs on a platform, and in which order of preference: also under other names of either."""
    there = [
        Platform(*one) for one in product(("linux", "Linux", "windows", ""), ARCHITECTURES, VARIANTS)
    ] + [Platform("linux", "amd64", "", {"os.features": ["win32k"]}), Platform("unknown", "unknown")]
    wanted = [
        one
        for one in product(("linux", "macos"), ARCHITECTURES, VARIANTS)
        if not (one[1].lower() in ("arm64", "aarch64") and one[2] in UNKNOWN)
    ]
    manifests = [one.to_json() for one in there]
    questions = "".join(
        json.dumps({"Wanted": "/".join(filter(None, one)), "Manifests": manifests}) + "\n" for one in wanted
    )
    done = subprocess.run([platforms], input=questions.encode(), capture_output=True, check=True, timeout=100)
    theirs = dict(zip(wanted, map(json.loads, done.stdout.splitlines()), strict=True))
    assert theirs == {one: runnable(Platform(*one), there) for one in wanted}
