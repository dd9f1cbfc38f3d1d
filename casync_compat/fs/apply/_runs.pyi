from _typeshed import ReadableBuffer

def open_directories(
    buffer: ReadableBuffer,
    rows: bytes,
    begin: int,
    end: int,
    most: int,
    open: list[int],
    owners: list[tuple[int, int, bytes, bytes, int, int]],
    uid: int,
    gid: int,
    may_chown: bool,
    symlinks: bool,
    /,
) -> tuple[int, int, bytes, int, list[tuple[int, int]], int]: ...
def write_files(
    buffer: ReadableBuffer,
    rows: bytes,
    plan: bytes,
    first: int,
    begin: int,
    holes: bool,
    times: bool,
    samples: tuple[int, int],
    /,
) -> tuple[int, int, int, tuple[int, int]]: ...
def close_directories(
    buffer: ReadableBuffer, rows: bytes, plan: bytes, first: int, begin: int, times: bool, /
) -> tuple[int, int]: ...
