"""What `serve` does: stores and a place of indexes, served over HTTP until a signal ends it.

>>> serve_stores(Served({"default": store}), [Address.parse("127.0.0.1:8080")], ready=print)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from casync_compat.serve.access import Rules
from casync_compat.serve.addresses import Address
from casync_compat.serve.application import Application
from casync_compat.serve.log import AccessLog
from casync_compat.serve.loop import ServerLoop
from casync_compat.serve.pages.looking import Looking
from casync_compat.serve.server import Tls, check_installed, serve
from casync_compat.serve.settings import Limits, Served

__all__ = ["serve_stores"]


def serve_stores(
    served: Served,
    addresses: Sequence[Address],
    *,
    ready: Callable[[Sequence[Address]], None],
    tls: Tls | None = None,
    limits: Limits | None = None,
    access: Callable[[], Rules] = Rules,
    log: AccessLog | None = None,
    pages: bool = True,
    tell: Callable[[str], None] = lambda line: None,
    notified: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT, and then as long as requests run that were begun.

    :param ready: called when connections are taken, with the addresses, whose ports are known then
    :param access: reads the rules; called again on SIGHUP, and what it raises then leaves them as they were
    :param pages: whether there are pages for people in a browser
    :param tell: called with a line when something is wrong
    :param notified: the socket of systemd, `$NOTIFY_SOCKET`; empty for none
    :raises UsageError: an address cannot be listened on; a library is missing, or a certificate cannot be used
    """
    check_installed(tls=tls is not None)
    looking = Looking(served, tell) if pages else None

    async def run() -> None:
        application = Application(served, limits, access(), looking, log, tell)

        def again() -> None:
            try:
                application.access = access()
            except Exception as error:
                tell(f"{error}; the rules stay as they were")

        await serve(application, addresses, tls, ready, again, notified)

    try:
        with asyncio.Runner(loop_factory=ServerLoop) as runner:
            runner.run(run())
    finally:
        if looking is not None:
            looking.close()
