"""What a service tells whoever started it, systemd mostly."""

from __future__ import annotations

import socket

__all__ = ["notify"]


def notify(where: str, said: str) -> None:
    """Tell systemd, where it waits for that (sd_notify(3)).

    :param where: its socket, `$NOTIFY_SOCKET`; empty for none
    """
    if not where.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.sendto(said.encode(), "\0" + where[1:] if where.startswith("@") else where)
        except OSError:  # nobody listens any more
            return
