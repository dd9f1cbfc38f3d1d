from collections.abc import Iterable

from _typeshed import ReadableBuffer

LANES: int

def sha512_256(buffers: Iterable[ReadableBuffer], lanes: int = ..., /) -> list[bytes]: ...
