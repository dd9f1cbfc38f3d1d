"""Sockets that are listened on already, handed over by systemd or another that starts servers (sd_listen_fds(3))."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping

from casync_compat.errors import UsageError
from casync_compat.serve.addresses import Address

__all__ = ["inherited"]

_FIRST = 3


def inherited(environ: Mapping[str, str]) -> list[Address]:
    """The sockets that this process was given; empty where there are none, or they were for another.

    :raises UsageError: something else was handed over
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count:
        return []
    if not re.fullmatch("[0-9]{1,4}", count):
        raise UsageError(
            f"LISTEN_FDS is {count!r}, which is no number of sockets; unset it, or start this by systemd"
        )
    return [_address(fd) for fd in range(_FIRST, _FIRST + int(count))]


def _address(fd: int) -> Address:
    try:
        os.set_inheritable(fd, False)
        one = socket.socket(fileno=fd)
        try:
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            stream, family, name = one.type == socket.SOCK_STREAM, one.family, one.getsockname()
        finally:
            one.detach()
    except OSError as error:
        raise UsageError(f"descriptor {fd} of LISTEN_FDS cannot be served at: {error.strerror}") from error
    if not listens or not stream or family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise UsageError(
            f"descriptor {fd} of LISTEN_FDS is no stream socket that is listened on; use ListenStream="
        )
    if family == socket.AF_UNIX:
        return Address(f"unix:{os.fsdecode(name)}", 0, fd)
    return Address(str(name[0]), int(name[1]), fd)
