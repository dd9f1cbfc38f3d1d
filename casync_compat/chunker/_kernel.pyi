from _typeshed import ReadableBuffer

def scan(
    buffer: ReadableBuffer, begin: int, scanned: int, end: int, min: int, max: int, discriminator: int, /
) -> list[int]: ...
