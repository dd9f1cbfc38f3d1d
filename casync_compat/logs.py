"""What a run says of its work to whoever listens through `logging`: requests, second attempts, choices, times.

Nothing is said, and `logging` is not even imported, unless the program has done so. Secrets do not belong here: of an
URL only what `shown` gives, of a request neither fields nor body.

    >>> import logging
    >>> logging.getLogger("casync_compat").setLevel(logging.DEBUG)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

__all__ = ["Log"]

_INFO = 20
_DEBUG = 10


class Log:
    """What a module says. Threads may do so at once.

    :param name: of the logger: the module's `__name__`
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def info(self, text: str, *values: object) -> None:
        """Say what a user may want to know who wonders: a choice, a second attempt."""
        self._say(_INFO, text, values)

    def debug(self, text: str, *values: object) -> None:
        """Say what somebody may want to know who looks for an error: each request."""
        self._say(_DEBUG, text, values)

    @property
    def is_heard(self) -> bool:
        """Whether somebody may listen, so that values are worth working out."""
        logger = self._logger()
        return logger is not None and logger.isEnabledFor(_DEBUG)

    def _say(self, level: int, text: str, values: tuple[object, ...]) -> None:
        logger = self._logger()
        if logger is not None:
            logger.log(level, text, *values)

    def _logger(self) -> logging.Logger | None:
        module = sys.modules.get("logging")
        return None if module is None else module.getLogger(self._name)
