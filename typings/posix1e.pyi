# The part of pylibacl that is used here; the package ships no types.
from collections.abc import Iterator

ACL_READ: int
ACL_WRITE: int
ACL_EXECUTE: int
ACL_TYPE_DEFAULT: int
TEXT_NUMERIC_IDS: int

class Permset:
    read: bool
    write: bool
    execute: bool
    def add(self, perm: int) -> None: ...

class Entry:
    tag_type: int
    qualifier: int
    permset: Permset

class ACL:
    def __init__(self, *, file: str | bytes = ..., text: str = ..., data: bytes = ...) -> None: ...
    def __iter__(self) -> Iterator[Entry]: ...
    def append(self) -> Entry: ...
    def valid(self) -> bool: ...
    def check(self) -> bool | tuple[int, int]: ...
    def to_any_text(self, prefix: str, separator: bytes, options: int) -> bytes: ...
    def applyto(self, item: str | bytes | int, flag: int = ...) -> None: ...
