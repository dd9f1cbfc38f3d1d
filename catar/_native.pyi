from _typeshed import ReadableBuffer

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
