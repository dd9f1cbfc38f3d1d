from collections.abc import Callable
from typing import TypeVar

from _typeshed import ReadableBuffer

T = TypeVar("T")

def ordinary_nodes(
    buffer: ReadableBuffer,
    at: int,
    most: int,
    features: int,
    named: bool,
    last_name: bytes,
    key: bytes,
    types: tuple[int, int, int, int, int, int],
    limits: tuple[int, int, int],
    /,
) -> list[
    tuple[bytes, int, int, int, int, bytes | None, bytes | None, bytes | None, int, int, int, int, int]
]: ...
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
    types: tuple[int, int, int, int, int, int, int, int],
    limits: tuple[int, int, int, int],
    /,
) -> tuple[bytes, int, int, int, list[bytes], int]: ...
