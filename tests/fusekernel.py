"""The kernel's side of FUSE, for tests: asks as it does, each message as it sends it, without any mount."""

from __future__ import annotations

import os
import struct

from casync_compat.mount import abi
from casync_compat.mount.abi import Code
from casync_compat.mount.nodes import MountedTree
from casync_compat.mount.operations import Answer, Operations

__all__ = ["Kernel"]


class Kernel:
    """Asks as the kernel does.

    :ivar said: what the one who mounted it was told
    """

    def __init__(self, tree: MountedTree) -> None:
        self.said: list[str] = []
        self.tree = tree
        self._operations = Operations(self.tree, self.said.append)

    def ask(self, code: int, inode: int = 1, body: bytes = b"") -> tuple[int, bytes]:
        """The error and the body of an answer."""
        header = abi.IN_HEADER.pack(abi.IN_HEADER.size + len(body), code, 99, inode, 0, 0, os.getpid(), 0, 0)
        answer = self._operations.answer(header + body)
        assert answer is not None
        whole = b"".join(answer)
        size, error, number = abi.OUT_HEADER.unpack_from(whole)
        assert (size, number) == (len(whole), 99)
        return -error, whole[abi.OUT_HEADER.size :]

    def interrupt(self, number: int) -> Answer | None:
        """What is said when who waits for the answer of a number got a signal."""
        body = abi.INTERRUPT_IN.pack(number)
        header = abi.IN_HEADER.pack(abi.IN_HEADER.size + len(body), Code.INTERRUPT, 5, 0, 0, 0, 0, 0, 0)
        return self._operations.answer(header + body)

    def find(self, *names: bytes) -> int:
        """The inode at a path; 0 for nothing."""
        inode = 1
        for name in names:
            error, body = self.ask(Code.LOOKUP, inode, name + b"\0")
            assert error == 0
            inode = struct.unpack_from("=Q", body)[0]
        return inode

    def attributes(self, inode: int) -> tuple[int, ...]:
        error, body = self.ask(Code.GETATTR, inode, bytes(16))
        assert error == 0
        return abi.ATTRIBUTES.unpack_from(body, 16)

    def read(self, inode: int, offset: int, size: int) -> bytes:
        error, body = self.ask(Code.READ, inode, abi.READ_IN.pack(0, offset, size, 0, 0, 0, 0))
        assert error == 0
        return body

    def names(self, inode: int, size: int, code: int = Code.READDIRPLUS) -> list[tuple[bytes, int]]:
        """All names of a directory with their inodes, asked for in answers of so many bytes."""
        found: list[tuple[bytes, int]] = []
        at = 0
        while True:
            error, body = self.ask(code, inode, abi.READ_IN.pack(0, at, size, 0, 0, 0, 0))
            assert error == 0
            assert len(body) <= size
            if not body:
                return found
            while body:
                skip = 128 if code == Code.READDIRPLUS else 0
                number, at, length, _ = struct.unpack_from("=QQII", body, skip)
                found.append((body[skip + 24 : skip + 24 + length], number))
                body = body[skip + (24 + length + 7) // 8 * 8 :]
