"""What is fuzzed: every parser of bytes that come from elsewhere, with what the search for bad ones starts from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz import promises, repairs

from catar import schema
from catar.flags import DEFAULT

__all__ = ["HERE", "TARGETS", "Target"]

HERE = Path(__file__).parent
CATARS = HERE.parent / "fixtures" / "catar"


@dataclass(frozen=True, slots=True)
class Target:
    """A parser and what is promised of it.

    :ivar check: takes any bytes; returns what became of them
    :ivar tokens: byte strings that mean something to it
    :ivar repair: puts right what a change broke without need, such as a checksum; with dice, for it may change more
    :ivar more: further directories with inputs to start from
    :ivar largest: bytes of an input
    """

    name: str
    check: Callable[[bytes], str]
    tokens: tuple[bytes, ...] = ()
    repair: Callable[[bytes, Random], bytes] | None = None
    more: tuple[Path, ...] = ()
    largest: int = 1 << 14

    def files(self) -> list[Path]:
        """The committed inputs."""
        found = (path for place in (HERE / "corpus" / self.name, *self.more) for path in place.glob("*"))
        return sorted(path for path in found if path.is_file() and path.suffix != ".md")

    def corpus(self) -> list[bytes]:
        """What is in them; an empty input as well."""
        return [b"", *(path.read_bytes() for path in self.files())]


def _types() -> tuple[bytes, ...]:
    """Record types and the words beside them, as they stand in an archive."""
    types = {row.type for row in vars(schema).values() if isinstance(row, schema.RecordRow)}
    return (
        *(type_.to_bytes(8, "little") for type_ in sorted(types)),
        *(
            DEFAULT.to_bytes(8, "little"),
            (64).to_bytes(8, "little"),
            bytes(8),
            b"\xff" * 8,
            b"/",
            b"..\0",
            b"a\0",
        ),
    )


_JSON = tuple(
    text.encode()
    for text in (
        *(
            '"schemaVersion":2',
            '"mediaType"',
            '"manifests"',
            '"layers"',
            '"config"',
            '"annotations"',
            '"digest"',
        ),
        *(
            '"size"',
            "null",
            "true",
            "-1",
            "1e999",
            "9" * 400,
            "[]",
            "{}",
            '""',
            '"\\u0000"',
            '"\\ud800"',
            "NaN",
        ),
        *(
            "sha256:" + "0" * 64,
            "sha512:",
            "[" * 200,
            '{"a":' * 50,
            '"rootfs"',
            '"diff_ids"',
            '"artifactType"',
        ),
    )
)
_RULES = (
    b"\n",
    b"!",
    b"/",
    b"*",
    b"?",
    b"[",
    b"]",
    b"[!",
    b"[:alpha:]",
    b"[a-",
    b"\\",
    b"#",
    b"..",
    b".",
    b"\0",
    b" ",
)
_TAR = (
    *(
        b"ustar\0" + b"00",
        b"ustar  \0",
        b"path=",
        b"linkpath=",
        b"size=",
        b"GNU.sparse.",
        b"SCHILY.xattr.user.a=",
    ),
    *(
        b"mtime=1.5",
        b"\0" * 512,
        b"x",
        b"g",
        b"L",
        b"K",
        b"S",
        b"5",
        b"2",
        b"1",
        b".wh.",
        b"../",
        b"7777777\0",
        b"\x80",
    ),
)

_SHOWN = tuple(HERE / "corpus" / name for name in ("index", "recipe", "packindex"))

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("decoder", promises.decoder, _types(), more=(CATARS, CATARS / "broken"), largest=1 << 12),
        Target("index", promises.index, (b"\xff" * 8, bytes(40), (48).to_bytes(8, "little"))),
        Target("cuts", promises.cuts, (bytes(48), b"\xff" * 48), largest=1 << 13),
        Target("tar", promises.tar, _TAR, repairs.tar_checksums, largest=1 << 14),
        Target("recipe", promises.recipe, (b"\x80\x01", b"\x02", b"\x09"), repairs.recipe_frames),
        Target("manifest", promises.manifest, _JSON),
        Target("packindex", promises.packindex, (bytes(8), b"\xff" * 4), repairs.counts),
        Target("dump", promises.dump, _types(), more=(*_SHOWN, CATARS), largest=1 << 12),
        Target("caexclude", promises.caexclude, _RULES, largest=1 << 10),
    )
}
