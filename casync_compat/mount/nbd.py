"""A blob as a network block device that is only read: the protocol's server, on a socket of this machine.

    >>> with NbdServer(reader, b"/run/disk.sock", tell) as server:
    ...     server.wait()

Spoken is the fixed newstyle handshake with simple replies (doc/proto.md of the NBD project), which Linux, qemu and
libnbd all take. Each connection has a thread. The size is rounded up to whole sectors of 512 bytes with zeros, as
casync has it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress

from casync_compat.closing import Closing
from casync_compat.errors import CasyncError, FileError
from casync_compat.fs.waiting import readable
from casync_compat.streams.transfer import Crew
from catar.archive import RandomAccess

__all__ = ["NbdServer"]

SECTOR = 512
_MOST = 32 << 20
"""Bytes of a request: what the protocol lets a client expect of a server that says nothing else."""
_NAME = 4096
"""Bytes of a name, and so of an option."""

_LONGEST = 107
"""Bytes of a Unix socket's path (`sun_path` of unix(7), less the zero at its end)."""
_GREETING = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 3)
"""Fixed newstyle, and no zeros at the end of the handshake."""
_OPTION = struct.Struct(">8sII")
_ANSWER = struct.Struct(">QIII")
_ANSWER_MAGIC = 0x3E889045565A9
_EXPORT_NAME, _ABORT, _LIST, _INFO, _GO = 1, 2, 3, 6, 7
_ACK, _SERVER, _INFO_IS = 1, 2, 3
_UNSUPPORTED, _INVALID = 1 << 31 | 1, 1 << 31 | 3
_EXPORT = struct.Struct(">QH")
_FLAGS = 1 | 2 | 1 << 8
"""There are flags; it is only read; connections may be several."""
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC = 0x25609513
_READ, _WRITE, _DISCONNECT = 0, 1, 2
_REPLY = struct.Struct(">IIQ")
_REPLY_MAGIC = 0x67446698


def _take_away_dead(path: bytes) -> None:
    """Remove a socket that a server left which was killed.

    :raises FileError: something else is there, or the name is too long for a socket
    """
    if len(path) > _LONGEST:
        raise FileError(path, "listen", f"a socket's path has {_LONGEST} bytes at most; name a shorter one")
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileError(path, "listen", "something else is there; name a path where nothing is")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.setblocking(False)
        try:
            asked.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError:
            pass
    raise FileError(path, "listen", "another server listens there; name another path")


class NbdServer(Closing):
    """Serves a blob until it is closed.

    :param path: of the socket, which only who may write there may use; it is made, and removed at the end
    :param tell: told in a line of what could not be read
    :raises FileError: the socket cannot be made
    """

    def __init__(self, reader: RandomAccess, path: bytes, tell: Callable[[str], None]) -> None:
        self._reader = reader
        self._path = path
        self._tell = tell
        self.size = -(-reader.size // SECTOR) * SECTOR
        self._ends, self._end = os.pipe2(os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o077)
        try:
            _take_away_dead(path)
            self._socket.bind(path)
        except OSError as error:
            self._socket.close()
            raise error if isinstance(error, FileError) else FileError(path, "listen", error) from error
        finally:
            os.umask(before)
        self._socket.listen(64)
        self._own = os.lstat(path)
        self._crew = Crew(self._accept, 1)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until `stop`. Returns whether that has happened. :param seconds: how long to wait at most"""
        return bool(readable([self._ends], seconds))

    def stop(self) -> None:
        """End `wait`; a handler of signals may call it."""
        os.write(self._end, b"s")

    def close(self) -> None:
        """Take no more connections. Those that are there last as long as this process."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with suppress(FileNotFoundError):
            if os.path.samestat(self._own, os.lstat(self._path)):
                os.unlink(self._path)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            Crew(lambda connection=connection: self._talk(connection), 1)  # type: ignore[misc]

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            connection.sendall(_GREETING)
            zeros = not int.from_bytes(_receive(connection, 4), "big") & 2
            if self._negotiate(connection, zeros):
                self._serve(connection)

    def _negotiate(self, connection: socket.socket, zeros: bool) -> bool:
        """Answer what a client asks before it reads. Returns whether it goes on to read."""
        while True:
            magic, option, length = _OPTION.unpack(_receive(connection, _OPTION.size))
            if magic != b"IHAVEOPT" or length > _NAME + 16:
                return False
            data = _receive(connection, length)

            def answer(kind: int, body: bytes = b"", option: int = option) -> None:
                connection.sendall(_ANSWER.pack(_ANSWER_MAGIC, option, kind, len(body)) + body)

            if option == _EXPORT_NAME:
                connection.sendall(_EXPORT.pack(self.size, _FLAGS) + bytes(124 if zeros else 0))
                return True
            if option == _ABORT:
                answer(_ACK)
                return False
            if option == _LIST:
                answer(_SERVER, bytes(4))
                answer(_ACK)
            elif option not in (_INFO, _GO):
                answer(_UNSUPPORTED)
            elif len(data) < 6:
                answer(_INVALID)
            else:  # one blob, whatever it is called
                answer(_INFO_IS, bytes(2) + _EXPORT.pack(self.size, _FLAGS))
                answer(_ACK)
                if option == _GO:
                    return True

    def _serve(self, connection: socket.socket) -> None:
        while True:
            magic, _, kind, cookie, offset, length = _REQUEST.unpack(_receive(connection, _REQUEST.size))
            if magic != _REQUEST_MAGIC or kind == _DISCONNECT or length > _MOST:
                return
            if kind == _WRITE:
                _receive(connection, length)
            data, error = b"", errno.EPERM if kind == _WRITE else errno.EINVAL
            if kind == _READ and offset + length <= self.size:
                data, error = self._read(offset, length)
            connection.sendall(_REPLY.pack(_REPLY_MAGIC, error, cookie) + data)

    def _read(self, offset: int, length: int) -> tuple[bytes, int]:
        try:
            return self._reader.read_at(offset, length).ljust(length, b"\0"), 0
        except CasyncError as error:
            self._tell(str(error))
            return b"", errno.EIO


def _receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes. :raises EOFError: there are fewer"""
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
