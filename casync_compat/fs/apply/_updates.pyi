from _typeshed import ReadableBuffer

def compare_files(
    directory_fd: int,
    buffer: ReadableBuffer,
    rows: bytes,
    begin: int,
    end: int,
    owners: list[tuple[int, int, bytes, bytes, int, int]],
    wanted: int,
    odd_flags: int,
    times: bool,
    contents: bool,
    /,
) -> tuple[int, int, bytes]: ...
