"""What the verbs of `pycasync oci` that use an image's tree read from their options."""

from __future__ import annotations

import argparse
import gc as collector
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from casync_compat.cli.oci._common import chunk_store, platform_of, warn
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.places.opened import Places
from casync_compat.oci.rootfs.merge import MergeLimits
from casync_compat.oci.spec.reference import Reference
from casync_compat.store.cached import ChunkCache

__all__ = ["image_tree"]


@contextmanager
def image_tree(
    options: argparse.Namespace,
    places: Places,
    reference: Reference,
    *,
    shared: bool = False,
    cache: ChunkCache | None = None,
) -> Iterator[ImageTree]:
    """The image that was named, opened. :param shared: see `ImageTree.open`, and for `cache`"""
    limits = None
    if (size := getattr(options, "max_size", None)) is not None:
        limits = MergeLimits(size=size)
    with (
        nullcontext() if shared else _without_collector(),
        ImageTree.open(
            places.readable(reference),
            reference.target,
            where=str(reference),
            platform=platform_of(options),
            store=chunk_store(options),
            limits=limits,
            warn=warn,
            jobs=getattr(options, "jobs", None),
            shared=shared,
            cache=cache,
        ) as image,
    ):
        yield image


@contextmanager
def _without_collector() -> Iterator[None]:
    """A tree and what is made of it is no garbage, however often one looks; not for what is mounted, which stays."""
    enabled = collector.isenabled()
    collector.disable()
    try:
        yield
    finally:
        if enabled:
            collector.enable()
