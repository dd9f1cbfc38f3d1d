"""What to do about an error, by options: put behind its message, since the library does not know how it is used.

One row an error: its class, when the row applies, and the words. The first row that applies counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from casync_compat.errors import ChunkMissing
from casync_compat.fs.locks import Locked
from casync_compat.ids import DigestUnavailable
from casync_compat.oci.spec.errors import CannotShare, ImageTooLarge, NoSuchPlatform
from casync_compat.verbs.gc import UnnamedIndexes

__all__ = ["HINTS", "Hint", "hint_for"]


def _always(error: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Hint:
    """What may be done about errors of one class.

    :ivar error: the class; its subclasses are meant, too
    :ivar text: what to do, as the end of a sentence, with what separates it
    :ivar when: asked with the error, which has its class's attributes
    """

    error: type[BaseException]
    text: str
    when: Callable[[Any], bool] = _always


HINTS: tuple[Hint, ...] = (
    Hint(ChunkMissing, "; add the store that has it with --extra-store"),
    Hint(DigestUnavailable, "; use another --digest= or a Python with OpenSSL 1.1.1"),
    Hint(NoSuchPlatform, "; choose with --platform or --all"),
    Hint(ImageTooLarge, "; allow more with --max-size if you trust it"),
    Hint(CannotShare, ", or use --link=auto"),
    Hint(Locked, "; --undo-immutable=yes clears that"),
    Hint(UnnamedIndexes, "; name them, too, or give --yes"),
)


def hint_for(error: BaseException) -> str:
    """What follows an error's message; empty where there is nothing to do by options."""
    for hint in HINTS:
        if isinstance(error, hint.error) and hint.when(error):
            return hint.text
    return ""
