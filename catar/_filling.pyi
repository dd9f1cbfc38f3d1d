def fill(
    room: bytearray | memoryview,
    begin: int,
    base: int,
    names: bytes,
    rows: bytes,
    features: int,
    granularity: int,
    owners: list[tuple[int, int, int, int, bytes]],
    symlinks: bool,
    last_name: bytes,
    key: bytes,
    /,
) -> tuple[int, bytes, bytes, bytes]: ...
