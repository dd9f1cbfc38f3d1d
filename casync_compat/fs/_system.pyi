Row = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int, int, int]

def read_files(
    directory_fd: int, names: list[bytes], wanted: int, room: bytearray | memoryview, /
) -> list[Row]: ...
def read_run(
    directory_fd: int,
    listing: bytes,
    at: int,
    most: int,
    wanted: int,
    device: int,
    odd_flags: int,
    inodes: bytes,
    room: bytearray | memoryview,
    gap: int,
    owners: bytes,
    /,
) -> tuple[bytes, bytes, int, Row | None]: ...
def open_directory(parent_fd: int, name: bytes, wanted: int, /) -> Row: ...
def mount_of(directory_fd: int, name: bytes, /) -> int: ...
def start_writing(fd: int, offset: int, size: int, /) -> None: ...
