"""Many things a few at a time: as many as have a certain size together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["batches"]

T = TypeVar("T")


def batches(items: Iterable[T], least: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """Lists of items in their order, each closed by the item with which it has this size; the last may have less.

    :param least: what a list's items have together, in the unit of `size`
    """
    batch: list[T] = []
    sum_ = 0
    for item in items:
        batch.append(item)
        sum_ += size(item)
        if sum_ >= least:
            yield batch
            batch, sum_ = [], 0
    if batch:
        yield batch
