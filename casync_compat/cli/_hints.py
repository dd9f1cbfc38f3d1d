"""What to do about an error, by options: put behind its message, since the library does not know how it is used.

One row an error: its class, when the row applies, and the words. The first row that applies counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from casync_compat.ids import DigestUnavailable

__all__ = ["HINTS", "Hint", "hint_for"]


def _always(error: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Hint:
    """What may be done about errors of one class.

    :ivar error: the class; its subclasses are meant, too
    :ivar text: what to do, as the end of a sentence
    :ivar when: asked with the error, which has its class's attributes
    """

    error: type[BaseException]
    text: str
    when: Callable[[Any], bool] = _always


HINTS: tuple[Hint, ...] = (Hint(DigestUnavailable, "use another --digest= or a Python with OpenSSL 1.1.1"),)


def hint_for(error: BaseException) -> str:
    """What follows an error's message, with the separator; empty where there is nothing to do by options."""
    for hint in HINTS:
        if isinstance(error, hint.error) and hint.when(error):
            return f"; {hint.text}"
    return ""
