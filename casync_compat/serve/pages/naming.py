"""How a download is called (RFC 6266), and what type it has. No IO."""

from __future__ import annotations

import mimetypes
import re
from urllib.parse import quote

from casync_compat.serve.replies import Field

__all__ = ["content_type", "disposition"]

_TYPES = mimetypes.MimeTypes()
"""Python's own table: what this machine's files say does not count."""
_ENCODED = {"gzip": b"application/gzip", "bzip2": b"application/x-bzip2", "xz": b"application/x-xz"}
_CHARSET = frozenset({"text/plain", "text/csv", "text/css", "text/html"})


def disposition(name: bytes) -> Field:
    """The Content-Disposition of a file: to be kept under its name, whatever characters are in it."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f/\\\u202a-\u202e\u2066-\u2069]", "_", name.decode("utf-8", "replace"))
    text = text if text.strip(" .") else "file"
    plain = re.sub(r'[^\x20-\x7e]|["%;]', "_", text)
    value = f'attachment; filename="{plain}"'
    if plain != text:
        value += f"; filename*=UTF-8''{quote(text, safe='')}"
    return b"content-disposition", value.encode()


def content_type(name: bytes) -> Field:
    """The type that a name tells."""
    kind, encoding = _TYPES.guess_type(f"x/{name.decode('utf-8', 'replace')}")
    if encoding is not None:
        return b"content-type", _ENCODED.get(encoding, b"application/octet-stream")
    if kind in _CHARSET:
        return b"content-type", f"{kind}; charset=utf-8".encode()
    return b"content-type", (kind or "application/octet-stream").encode()
