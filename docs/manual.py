"""Makes the manual from the tables of verbs and options: `docs/man/*.1`, and the site's page about the command line.

    python docs/manual.py         # after every change of a verb, an option or a help text; a test says when

One page for the program and one for each verb. Nothing is said here that `--help` does not say, but for what belongs to
no verb: exit statuses, variables of the environment, files.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from casync_compat import __version__
from casync_compat.cli._verbs import GROUPS, VERBS, parser_of, verb_module, verbs_of

__all__ = ["MAN", "Page", "as_markdown", "as_roff", "manual", "pages"]

MAN = Path(__file__).resolve().parent / "man"

STATUSES = (
    ("0", "all is done"),
    ("1", "something failed; one line on standard error names the file, the offset or the chunk"),
    ("2", "the words alone are wrong: a verb, an option, a value, or their number; no file was looked at"),
    (
        "3",
        "all is done but for what is listed: what the target of extract cannot hold, what vanished, changed or "
        "could not be read under make",
    ),
)
ENVIRONMENT = (
    ("CASYNC_LOG_LEVEL", "as --log-level"),
    ("CASYNC_VERBOSE", "as --verbose"),
    ("CASYNC_STORE", "the store where --store names none"),
    ("CASYNC_COMPRESSED_CHUNK_SUFFIX", "what chunk files end in, where it is not .cacnk"),
    ("CASYNC_SSH_PATH, CASYNC_REMOTE_PATH", "the ssh to use, and the program at its other end"),
    ("CASYNC_PROTOCOL_PATH", "directory of casync's helpers for other protocols"),
    ("PYCASYNC_CONFIG", "the configuration file"),
    (
        "DESYNC_HTTP_AUTH, DESYNC_ENCRYPTION_KEY",
        "a login for stores, and the key of encrypted ones, as desync has them",
    ),
    ("DESYNC_OCI_USERNAME, DESYNC_OCI_PASSWORD", "a login for stores in registries"),
    ("SSL_CERT_FILE, NETRC, https_proxy, http_proxy, no_proxy", "as other programs understand them"),
    ("AWS_*, S3_*, GOOGLE_*, AZURE_*", "logins of buckets, as the clouds' own tools have them"),
)
FILES = (
    ("~/.config/pycasync/config.toml", "what is said of a store more than once"),
    ("~/.config/desync/config.json", "desync's configuration, which is understood, too"),
    ("~/.cache/pycasync", "what blobs were cut into, and what make remembers with --cache-auto"),
)


@dataclass
class Page:
    """What one page of the manual says.

    :ivar title: `oci convert`; empty for the program itself
    :ivar arguments: positional ones, and what they are
    :ivar options: how each is written, and what it does
    :ivar verbs: of the program: each with what it does in a line
    """

    title: str
    summary: str
    usage: str
    description: str
    arguments: list[tuple[str, str]] = field(default_factory=list)
    options: list[tuple[str, str]] = field(default_factory=list)
    examples: list[tuple[str, str]] = field(default_factory=list)
    verbs: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""

    @property
    def name(self) -> str:
        """`pycasync-oci-convert`, which is its file without the suffix."""
        return "-".join(["pycasync", *self.title.split()])


def pages() -> list[Page]:
    """All of them: the program's, then each verb's in the order of the tables."""
    return [_whole(), *(_page(group, verb) for group in ("", *GROUPS) for verb in verbs_of(group))]


def _page(group: str, verb: str) -> Page:
    parser = parser_of(group, verb)
    shape = parser._get_formatter()
    summary = verbs_of(group)[verb]
    page = Page(
        f"{group} {verb}".strip(),
        summary,
        re.sub(r"^usage: ", "", " ".join(parser.format_usage().split())),
        parser.description or "",
        examples=list(verb_module(group, verb).EXAMPLES),
    )
    if not group:
        page.usage = parser.usage or page.usage
    if group:
        page.usage = f"pycasync {page.title} [OPTIONS]" + "".join(_positional(page, parser))
        page.note = (parser.epilog or "").rpartition("\n\n")[2]
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        written = shape._format_action_invocation(action)
        explained = shape._expand_help(action) if action.help else ""
        (page.options if action.option_strings else page.arguments).append((written, explained))
    return page


def _positional(page: Page, parser: argparse.ArgumentParser) -> Iterator[str]:
    shape = parser._get_formatter()
    for action in parser._actions:
        if not action.option_strings and action.help != argparse.SUPPRESS:
            yield f" {shape._format_args(action, str(action.metavar or action.dest))}"


def _whole() -> Page:
    verbs = [(name, about) for name, about in VERBS.items()]
    for group in GROUPS:
        verbs += [(f"{group} {name}", about) for name, about in verbs_of(group).items()]
    return Page(
        "",
        "casync-compatible archiver, chunk store and container image tool",
        "pycasync [OPTIONS] VERB [ARGUMENTS]",
        "Archives of file trees, cut into chunks that are stored once: the formats and the command line of casync. "
        "Options may stand anywhere. `pycasync VERB --help` explains a verb and its options, and so does its "
        "own page.",
        examples=[
            ("pycasync make etc.caidx /etc", "archive /etc: index etc.caidx, chunks in default.castr"),
            ("pycasync extract etc.caidx /tmp/etc", "and back"),
            ("pycasync list etc.caidx", "what is in it"),
        ],
        verbs=verbs,
    )


# --- as man pages ---


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(char if ord(char) < 128 else f"\\[u{ord(char):04X}]" for char in text)
    return f"\\&{text}" if text[:1] in (".", "'") else text


def _prose(text: str) -> str:
    """Text, with what is in backticks in bold."""
    text = _escaped(" ".join(text.split()))
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs; lines that are indented are code."""
    for number, part in enumerate(re.split(r"\n(?= )|(?<=\n)(?=\S)|\n\n+", text)):
        if not part.strip():
            continue
        if part.startswith(" "):
            yield f".PP\n.RS 4\n.nf\n\\fB{_escaped(part.strip())}\\fR\n.fi\n.RE\n"
        else:
            yield (".PP\n" if number else "") + _prose(part) + "\n"


def _rows(rows: list[tuple[str, str]]) -> str:
    return "".join(f".TP\n\\fB{_escaped(left)}\\fR\n{_prose(right) or _NOTHING}\n" for left, right in rows)


_NOTHING = "\\&"


def as_roff(page: Page) -> str:
    """A page as man(7) has it."""
    title = page.name.upper()
    parts = [
        '.\\" Made by docs/manual.py from the tables of verbs and options; do not edit.\n',
        f'.TH {title} 1 "" "pycasync {__version__}" "pycasync manual"\n.nh\n.ad l\n',
        f".SH NAME\n{_escaped(page.name)} \\- {_prose(page.summary)}\n",
        f".SH SYNOPSIS\n\\fB{_escaped(page.usage)}\\fR\n",
        f".SH DESCRIPTION\n{''.join(_paragraphs(page.description))}",
    ]
    for heading, rows in (
        ("VERBS", page.verbs),
        ("ARGUMENTS", page.arguments),
        ("OPTIONS", page.options),
    ):
        if rows:
            parts.append(f".SH {heading}\n{_rows(rows)}")
    examples = [(command, about) for command, about in page.examples]
    parts.append(f".SH EXAMPLES\n{_rows(examples)}")
    if page.note:
        parts.append(f".SH NOTES\n{_prose(page.note)}\n")
    parts.append(f".SH EXIT STATUS\n{_rows(list(STATUSES))}")
    if page.title:
        also = "pycasync(1)"
    else:
        parts.append(f".SH ENVIRONMENT\n{_rows(list(ENVIRONMENT))}.SH FILES\n{_rows(list(FILES))}")
        also = ", ".join(f"pycasync-{name.replace(' ', '-')}(1)" for name, _ in page.verbs)
    parts.append(f".SH SEE ALSO\n{_escaped(also)}\n")
    return "".join(parts)


def manual() -> dict[str, str]:
    """All man pages: the name of the file, and what is in it."""
    return {f"{page.name}.1": as_roff(page) for page in pages()}


# --- as a page of the site ---


def _cell(text: str) -> str:
    return (
        " ".join(text.split())
        .replace("|", "\\|")
        .replace("*", "\\*")
        .replace("<", "&lt;")
        .replace("[", "\\[")
    )


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| `{left.replace('|', chr(92) + '|')}` | {_cell(right)} |\n" for left, right in rows]
    return f"| {head} | |\n|---|---|\n{''.join(lines)}\n"


def _paragraph(text: str) -> str:
    return f"{text if text.startswith('  ') else _cell(text)}\n\n"


def as_markdown() -> str:
    """The whole command line as a page of the site."""
    parts = []
    for page in pages():
        parts.append(f"## {f'pycasync {page.title}'.strip()}\n\n```text\n{page.usage}\n```\n\n")
        parts += [_paragraph(paragraph) for paragraph in page.description.split("\n\n")]
        for head, rows in (("verb", page.verbs), ("argument", page.arguments), ("option", page.options)):
            if rows:
                parts.append(_table(head, rows))
        parts.append("".join(f"```shell\n# {about}\n{command}\n```\n\n" for command, about in page.examples))
        if page.note:
            parts.append(f"{_cell(page.note)}\n\n")
    parts.append(f"## Exit statuses\n\n{_table('status', list(STATUSES))}")
    parts.append(f"## Environment\n\n{_table('variable', list(ENVIRONMENT))}")
    parts.append(f"## Files\n\n{_table('file', list(FILES))}")
    return "".join(parts)


def main() -> None:
    """Write `docs/man`, and nothing else there."""
    MAN.mkdir(exist_ok=True)
    made = manual()
    for path in MAN.glob("*.1"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (MAN / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
