"""Which images run on which platform. Pure values, no IO.

    >>> [str(one) for one in acceptable(Platform("linux", "aarch64"))][:2]
    ['linux/arm64', 'linux/arm/v8']

The rules are those of containerd's `platforms` package (`Normalize` and `Only`), which docker and Kubernetes go by: one
platform has several names, and a processor runs what is made for those before it, best first. What this does not do:
versions and features of an operating system.
"""

from __future__ import annotations

from casync_compat.oci.spec.descriptor import Platform

__all__ = ["acceptable", "normalized"]

_ARCHITECTURES = {
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "loongarch64": "loong64",
}
_FIRST = {"amd64": ("1", "v1"), "arm64": ("8", "v8", "8.0", "v8.0")}
"""Variants that say no more than the architecture does."""


def normalized(platform: Platform) -> Platform:
    """The one name of a platform that has several: `linux/arm64` for `linux/aarch64` and `linux/arm64/v8`."""
    os, name, variant = platform.os.lower(), platform.architecture.lower(), platform.variant.lower()
    architecture = _ARCHITECTURES.get(name, name)
    if architecture == "386" or variant in _FIRST.get(architecture, ()):
        variant = ""
    elif name in ("armhf", "armel"):
        variant = "v7" if name == "armhf" else "v6"
    elif architecture == "arm":
        variant = variant or "v7"
    if architecture in ("arm", "arm64", "amd64") and variant[:1].isdigit():
        variant = f"v{variant}"
    if architecture == "arm64" and variant.endswith(".0"):
        variant = variant[:-2]
    return Platform("darwin" if os == "macos" else os, architecture, variant, platform.other)


def acceptable(platform: Platform) -> list[Platform]:
    """What runs on a platform, as normalized names, best first."""
    own = normalized(platform)
    out = [own]
    number = own.variant.removeprefix("v")
    major = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
    if own.architecture == "amd64":
        out += [Platform(own.os, "amd64", f"v{n}") for n in range(major - 1, 1, -1)]
        if own.variant:
            out.append(Platform(own.os, "amd64"))
        out.append(Platform(own.os, "386"))
    elif own.architecture == "arm":
        out += [Platform(own.os, "arm", f"v{n}") for n in range(major - 1, 4, -1)]
    elif own.architecture == "arm64":
        out += _lower_arm64(own)
        out += [Platform(own.os, "arm", f"v{n}") for n in range(8, 4, -1)]
    return out


def _lower_arm64(own: Platform) -> list[Platform]:
    """The versions of arm64 below this one. 9.N has what 8.(N+5) has, and no more is known of later ones."""
    major, _, minor = own.variant.removeprefix("v").partition(".")
    if not own.variant or not major.isdigit() or not (minor or "0").isdigit() or len(major + minor) > 3:
        return [Platform(own.os, "arm64")] if own.variant else []
    last = int(minor or "0")
    eight = last - 1 if major == "8" else min(last + 5, 9)
    out = []
    if major != "8":
        out += [_arm64(own.os, 9, n) for n in range(last - 1, -1, -1)]
    return out + [_arm64(own.os, 8, n) for n in range(eight, -1, -1)]


def _arm64(os: str, major: int, minor: int) -> Platform:
    return normalized(Platform(os, "arm64", f"v{major}.{minor}" if minor else f"v{major}"))
