"""The site's page about JSON, made from the schema that is shipped with the program."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

__all__ = ["as_markdown"]

_DEFINED = "#/$defs/"


def as_markdown() -> str:
    """A section for each verb: its keys, what they hold, and what they mean."""
    schema: dict[str, Any] = json.loads(files("casync_compat.cli").joinpath("output.schema.json").read_text())
    defined = schema["$defs"]
    parts = []
    for verb, described in defined["verbs"].items():
        parts.append(f"## {verb}\n\n{_sentence(described.get('description', 'one object'))}\n\n")
        for number, one in enumerate(described.get("oneOf", [described])):
            if number:
                parts.append("or\n\n")
            parts.append(_keys(one))
    parts.append("## What several have\n\n")
    for name, described in defined.items():
        if "properties" in described:
            parts.append(f"`{name}`:\n\n{_keys(described)}")
    return "".join(parts)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _keys(described: dict[str, Any]) -> str:
    needed = described.get("required", [])
    rows = [
        f"| `{key}` | {_kind(value)}{'' if key in needed else ', not always'} | {value.get('description', '')} |\n"
        for key, value in described.get("properties", {}).items()
    ]
    return f"| key | | |\n|---|---|---|\n{''.join(rows)}\n" if rows else f"{_kind(described)}\n\n"


def _kind(value: dict[str, Any]) -> str:
    """What a value is, in a word or two."""
    if "$ref" in value:
        return f"`{value['$ref'].removeprefix(_DEFINED)}`"
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{json.dumps(one)}`" for one in value["enum"])
    if "items" in value:
        return f"list of {_kind(value['items'])}"
    alternatives = value.get("oneOf") or value.get("anyOf")
    if alternatives:
        return " or ".join(map(_kind, alternatives))
    kind = value.get("type", "anything")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)
