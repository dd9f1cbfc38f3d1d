"""What holds files or threads, and is let go of at the end of a `with` block."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, Self

__all__ = ["Closing", "weakly"]

P = ParamSpec("P")


def weakly(method: Callable[P, None]) -> Callable[P, None]:
    """A method for parts of its object to call, which do not keep the object, and with it what it has open."""
    reference = weakref.WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        known = reference()
        if known is not None:
            known(*args, **kwargs)

    return call


class Closing:
    """Base of classes with a `close` method that may be called more than once."""

    def close(self) -> None:
        """Let go of everything that is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
