from _typeshed import ReadableBuffer

def list_text(buffer: ReadableBuffer, rows: bytes, path: bytes, /) -> bytes: ...
def mtree_text(
    buffer: ReadableBuffer,
    rows: bytes,
    path: bytes,
    form: tuple[bool, bool, bool, int, bool, bytes, bytes, bytes],
    digests: bytes,
    /,
) -> bytes: ...
