"""Which images run on which platform. Pure values, no IO.

    >>> there = [Platform("linux", "arm", "v7"), Platform("linux", "arm64"), Platform("linux", "amd64")]
    >>> runnable(Platform("linux", "aarch64"), there)
    [1, 0]

The rules are those of containerd's `platforms` package (`Normalize` and `Only`), which docker and Kubernetes go by: one
platform has several names, and a processor runs what is made for those before it, best first. Beyond them, what is
asked for may have the kernel's names, and is always found under its very own name. What this does not do: versions of
an operating system, which count on Windows only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from casync_compat.oci.spec.descriptor import Platform

__all__ = ["kernel_named", "normalized", "runnable"]

_ARCHITECTURES = {
    "i386": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
}
_KERNELS = {"i486": "386", "i586": "386", "i686": "386", "loongarch64": "loong64"}
"""What `uname -m` says and no image does."""
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"},
}
_ARM64 = {8: 9, 9: 7}
"""The last minor version of each major one that is known."""


def normalized(platform: Platform) -> Platform:
    """The one name of a platform that has several: `linux/arm64` for `linux/aarch64` and `linux/arm64/v8`."""
    os, name, variant = platform.os.lower(), platform.architecture.lower(), platform.variant.lower()
    architecture = _ARCHITECTURES.get(name, name)
    if name in ("i386", "armhf", "armel"):
        variant = {"i386": "", "armhf": "v7", "armel": "v6"}[name]
    else:
        variant = _VARIANTS.get(architecture, {}).get(variant, variant)
    # Who names no system means this one.
    return Platform("darwin" if os == "macos" else os or "linux", architecture, variant, platform.other)


def kernel_named(platform: Platform) -> Platform:
    """A platform whose architecture may have the name that the kernel gives it."""
    name = platform.architecture.lower()
    return replace(platform, architecture=_KERNELS[name]) if name in _KERNELS else platform


def runnable(wanted: Platform, there: Sequence[Platform | None]) -> list[int]:
    """The numbers of those images that run on a platform, best first; of equals, the first.

    :param there: for what each image is made; None where nobody says, and these are not among them
    """
    ranks = {
        (one.os, one.architecture, one.variant): rank
        for rank, one in reversed([*enumerate(_acceptable(wanted))])
    }
    found = []
    for number, platform in enumerate(there):
        if platform is None or platform.other.get("os.features"):
            continue
        own = normalized(platform)
        rank = ranks.get((own.os, own.architecture, own.variant))
        if rank is not None:
            found.append((rank, number))
    return [number for _, number in sorted(found)]


def _acceptable(wanted: Platform) -> list[Platform]:
    """What runs on a platform, as normalized names, best first."""
    own = normalized(kernel_named(wanted))
    variants = [own.variant]
    below: list[Platform] = []
    number = _number(own.variant)
    if own.architecture == "amd64":
        variants += [f"v{n}" for n in range(number - 1, 0, -1)]
        below = [Platform(own.os, "386")]
    elif own.architecture == "arm":
        variants += [f"v{n}" for n in range(number - 1, 4, -1)]
    elif own.architecture == "arm64":
        lower = _lower_arm64(own.variant)
        variants += lower
        if lower or not own.variant:
            below = [Platform(own.os, "arm", f"v{n}") for n in range(8, 4, -1)]
    return [normalized(Platform(own.os, own.architecture, variant)) for variant in variants] + below


def _number(variant: str) -> int:
    text = variant.removeprefix("v")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def _lower_arm64(variant: str) -> list[str]:
    """The versions of arm64 below this one. 9.N has what 8.(N+5) has, and no more is known of later ones."""
    major_text, dot, minor_text = variant.removeprefix("v").partition(".")
    major, minor = _number(major_text), _number(minor_text)
    known = f"v{major}.{minor}" if dot else f"v{major}"
    if variant != known or minor > _ARM64.get(major, -1):
        return []
    out = [f"v{major}.{n}" for n in range(minor - 1, -1, -1)]
    if major == 9:
        out += [f"v8.{n}" for n in range(min(minor + 5, _ARM64[8]), -1, -1)]
    return out
