"""The parts of tqdm that are used; the package has no types of its own."""

from collections.abc import Callable
from typing import Any

class tqdm:
    monitor_interval: float
    disable: bool
    pos: int
    n: float
    total: float | None
    ncols: int | None
    start_t: float
    last_print_t: float
    _time: Callable[[], float]
    def __init__(
        self,
        *,
        total: float | None = ...,
        file: Any = ...,
        leave: bool | None = ...,
        bar_format: str | None = ...,
        mininterval: float = ...,
        miniters: float | None = ...,
        smoothing: float = ...,
        position: int | None = ...,
        initial: float = ...,
        delay: float = ...,
    ) -> None: ...
    @property
    def format_dict(self) -> dict[str, Any]: ...
    @classmethod
    def set_lock(cls, lock: Any) -> None: ...
    @staticmethod
    def format_meter(n: float, total: float | None, elapsed: float, **kwargs: Any) -> str: ...
    def update(self, n: float = ...) -> bool | None: ...
    def refresh(self) -> bool | None: ...
    def reset(self) -> None: ...
    def clear(self) -> None: ...
    def close(self) -> None: ...
