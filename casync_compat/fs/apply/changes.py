"""What a run that only looks says would become of an entry of the target. It is found out elsewhere (`preview`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Change", "OnChange", "Verb"]

Verb: TypeAlias = Literal["create", "change", "replace", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the target that would not stay as it is.

    :ivar verb: `create` what is not there; `change` contents or metadata; `replace` something of another type; `delete`
    :ivar path: from the target, `.` for the target itself
    :ivar is_dir: whether it is a directory, or would be one
    """

    verb: Verb
    path: bytes
    is_dir: bool


OnChange: TypeAlias = Callable[[Change], None]
