from collections.abc import Callable
from typing import TypeVar

from _typeshed import ReadableBuffer

T = TypeVar("T")

def parse_tree(
    buffer: ReadableBuffer,
    at: int,
    most: int,
    base: int,
    features: int,
    named: bool,
    open: list[T],
    new_table: Callable[[int], T],
    key: bytes,
    /,
) -> tuple[bytes, int, int, int, list[bytes], int]: ...
