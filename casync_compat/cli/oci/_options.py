"""The options of `pycasync oci`: each in one place, and those that several verbs take together.

What they mean is read in `_common` and `_tree`.
"""

from __future__ import annotations

import argparse

from casync_compat.cli._options import RESTORING_STATUS
from casync_compat.cli._types import parse_bytes, parse_duration, parse_jobs

__all__ = [
    "add_copying",
    "add_image",
    "add_jobs",
    "add_json",
    "add_layer_limit",
    "add_login",
    "add_platform",
    "add_progress",
    "add_reading",
    "add_registry",
    "add_restoring",
    "add_rewriting",
    "add_store",
    "add_tree",
    "add_wait",
]


def add_image(parser: argparse.ArgumentParser, name: str, help: str) -> None:
    """An argument that names an image."""
    parser.add_argument(name, metavar=name.upper(), help=help)


def add_registry(parser: argparse.ArgumentParser, *, sides: bool = False) -> None:
    """How registries are reached.

    :param sides: the verb reads from one and writes to another, which may each have a login of its own
    """
    parser.add_argument(
        "--insecure", action="store_true", help="plain HTTP and unverified TLS are good enough for registries"
    )
    _add_login(parser, "", "for registries; without it credential files and helpers are asked")
    parser.add_argument(
        "--password-stdin", action="store_true", help="the password for --creds=USER is on standard input"
    )
    for side, whose in (("src", "for the source alone"), ("dest", "for the target alone")) if sides else ():
        _add_login(parser, f"{side}-", whose)


def _add_login(parser: argparse.ArgumentParser, side: str, whose: str) -> None:
    parser.add_argument(f"--{side}creds", metavar="USER[:PASSWORD]", help=whose)
    parser.add_argument(
        f"--{side}authfile",
        metavar="FILE",
        help="a file of credentials to look into first" + (f", {whose}" if side else ""),
    )
    parser.add_argument(
        f"--{side}tls-verify",
        metavar="true|false",
        choices=("true", "false"),
        help="false is --insecure, as other tools say it" + (f", {whose}" if side else ""),
    )


def add_login(parser: argparse.ArgumentParser) -> None:
    """A registry, and the file that has the login there."""
    parser.add_argument("registry", metavar="REGISTRY", help="HOST[:PORT], as in names of images")
    parser.add_argument(
        "--authfile",
        metavar="FILE",
        help="the file that has the login (default: $REGISTRY_AUTH_FILE, "
        "else $XDG_RUNTIME_DIR/containers/auth.json, else ~/.config/containers/auth.json)",
    )


def add_platform(parser: argparse.ArgumentParser, *, everything: bool = True) -> None:
    """Which images of an index."""
    parser.add_argument(
        "--platform", metavar="OS/ARCH[/VARIANT]", help="which image of several; default: this machine's"
    )
    if everything:
        parser.add_argument("--all", action="store_true", help="the images for all platforms")


def add_store(parser: argparse.ArgumentParser, help: str) -> None:
    """A chunk store, wherever it is."""
    parser.add_argument("--store", metavar="PATH", help=help)


def add_wait(parser: argparse.ArgumentParser) -> None:
    """How long a run that fills a chunk store waits for a collection there."""
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=parse_duration,
        default=60.0,
        help="how long to wait for a gc that is at work in the chunk store (default 60)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """JSON instead of text."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Whether progress is shown."""
    parser.add_argument("--no-progress", action="store_true", help="draw no progress bar")


def add_jobs(parser: argparse.ArgumentParser, default: str = "one a processor") -> None:
    """How many threads."""
    parser.add_argument(
        "-j", "--jobs", metavar="N", type=parse_jobs, help=f"threads to use (default: {default})"
    )


def add_layer_limit(parser: argparse.ArgumentParser) -> None:
    """How large a layer may be, where its tar is read or made."""
    parser.add_argument(
        "--max-layer-size",
        metavar="SIZE",
        type=parse_bytes,
        default="64G",
        help="refuse layers larger than this (default 64G)",
    )


# ---- what several verbs take together


def add_rewriting(parser: argparse.ArgumentParser, store: str) -> None:
    """What verbs take that make other images of images.

    :param store: what the chunk store is for
    """
    add_platform(parser)
    add_store(parser, store)
    add_registry(parser, sides=True)
    add_json(parser)
    add_progress(parser)


def add_reading(
    parser: argparse.ArgumentParser, store: str = "chunk store to look for chunks in first"
) -> None:
    """What verbs take that read the tree of one image."""
    add_platform(parser, everything=False)
    add_store(parser, store)
    add_registry(parser)


def add_tree(parser: argparse.ArgumentParser) -> None:
    """What the verbs take that write trees."""
    parser.add_argument(
        "--rootless",
        action="store_true",
        help="without owners, devices and privileged attributes, as always for everybody but root",
    )
    add_restoring(parser)


def add_restoring(parser: argparse.ArgumentParser) -> None:
    """What the verbs take that restore trees, on disk or as a mount."""
    parser.description = f"{parser.description} {RESTORING_STATUS}"
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare each layer's tar with its diff id before anything is written",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail at the first attribute or entry that the target cannot hold, instead of leaving it out",
    )
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        type=parse_bytes,
        default="1T",
        help="refuse images with more bytes in files (default 1T)",
    )
    add_jobs(parser)


def add_copying(parser: argparse.ArgumentParser, source: str, target: str, *, store: bool) -> None:
    """What push and pull take, which are one thing seen from two sides."""
    add_image(parser, "source", source)
    add_image(parser, "target", target)
    parser.add_argument(
        "--thin", action="store_true", help="leave out plain images that stand beside converted ones"
    )
    if store:
        add_store(parser, "put chunks into this store instead of packs into the layout; implies --thin")
        add_wait(parser)
    parser.add_argument(
        "--digestfile", metavar="FILE", help="write the digest that the target then names to this file"
    )
    add_registry(parser, sides=True)
    add_json(parser)
    add_progress(parser)
