"""Locators as they may be shown: without what is secret in them."""

from __future__ import annotations

import re

__all__ = ["shown", "without_login"]

_LOGIN = re.compile(r"(?<=://)[^/?#\s]*@")


def without_login(text: str) -> str:
    """A locator, or a text with locators in it, without user names and passwords in front of hosts."""
    return _LOGIN.sub("", text) if "@" in text else text


def shown(where: str) -> str:
    """An URL without login, and without the query, which is often a key."""
    return without_login(where).partition("?")[0]
