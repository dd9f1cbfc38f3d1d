"""What must hold of each parser of bytes that come from elsewhere, whatever the bytes are: a function each.

It takes any bytes. It returns a few words on what became of them, which lead the search (see `engine`); it fails by an
assertion of its own, or by an exception that the code under test promises not to raise. Where there is native code, it
is asked beside its Python twin.
"""

from __future__ import annotations

import ctypes
import io
import locale
import re
from dataclasses import replace
from functools import partial

from archives import Memory
from test_catar.feeding import Outcome, bytewise, feed, in_pieces
from test_catar.test_runs import said
from test_catar.test_walker import Stream
from test_oci.test_layers import convert

from casync_compat.chunker import Chunker, ChunkSizes
from casync_compat.errors import CasyncError, FormatError, UsageError
from casync_compat.fs.exclude import decide, parse_rules
from casync_compat.fs.glob import translate
from casync_compat.index import Index, IndexBuilder
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageConfig, ImageManifest, parse_document
from casync_compat.oci.spec.packindex import PackIndex, pack_table, parse_pack_table
from casync_compat.oci.spec.wrapper import Wrapper, WrapperConfig
from casync_compat.oci.tar.plan import Unrepresentable
from casync_compat.oci.tar.reader import members
from casync_compat.oci.tar.recipe import Recipe, rebuild
from casync_compat.oci.tar.recipeformat import LITERAL, RecipeLimits
from casync_compat.oci.tar.view import TarView
from casync_compat.verbs.dump import json_line, pieces, text_line
from catar import Archive, Encoder, Node
from catar import errors as catar_errors
from catar.archive import RangeSource
from catar.decoder import Decoder

__all__ = ["caexclude", "cuts", "decoder", "dump", "index", "manifest", "packindex", "recipe", "tar"]


def words(error: BaseException) -> str:
    """The text of an error without what differs from input to input."""
    text = str(error)
    assert "\n" not in text, f"an error is one line: {text!r}"
    return re.sub(r"'[^']*'|\"[^\"]*\"|\b0x[0-9a-f]+\b|\b[0-9a-f]{64}\b|[0-9]+", "…", text)[:80]


# ---- archives


def _encoded_again(outcome: Outcome) -> bytes | None:
    """The archive that a decoder's words make; None when it has what is read, but not written."""
    assert outcome.flags is not None
    encoder = Encoder(outcome.flags)
    out = b""
    try:
        for step in outcome.steps:
            if isinstance(step, Node):
                out += encoder.begin(step)
            elif isinstance(step, bytes):
                out += step
                encoder.advance(len(step))
            else:
                out += encoder.end_directory()
    except catar_errors.UsageError as error:
        if not any(why in str(error) for why in ("names must rise", "quota project id")):
            raise
        return None
    return out


def _look_around(data: bytes, paths: dict[bytes, Node] | None) -> None:
    """By path and through lookup tables. :param paths: what is there; None when the archive is no good"""
    archive = Archive(Memory(data))
    try:
        for path, node in ({b"": None} if paths is None else paths).items():
            found = archive.node(path)
            # Alone, a node begins with its ENTRY and not with its name.
            assert node is None or replace(found, start=node.start) == node
            if found.is_dir:
                for child in archive.children(path):
                    archive.node_at(child)
    except catar_errors.FormatError:
        assert paths is None


def decoder(data: bytes) -> str:
    """A decoder says the same with native code and without, however it is fed, and in runs; what it takes is whole."""
    python = feed([data] if data else [], Decoder(native=False))
    ways = [[data] if data else [], list(in_pieces(data, len(data)))]
    if len(data) < 1000:
        ways.append(list(bytewise(data)))
    for native in (True, False):
        for way in ways if native else ways[1:]:
            assert feed(way, Decoder(native=native)) == python
    plain = said(Stream(data, 1 << 20), runs=False, native=False)
    for piece in (1 << 20, 100):
        assert said(RangeSource(Memory(data), 0, len(data), piece), runs=True) == plain
    if python.ended:
        archive = data[: len(data) - len(python.trailing)]
        again = _encoded_again(python)
        assert again is None or again == archive
        walker = Archive(Memory(archive)).walk()
        _look_around(archive, dict((walker.path, step) for step in walker if isinstance(step, Node)))  # noqa: C402
        return f"{len(python.nodes)} nodes"
    _look_around(data, None)
    assert python.error is not None
    return f"{re.sub('[0-9]+', '', python.error[0])}, {min(len(python.nodes), 3)} nodes"


# ---- indexes and chunks


def index(data: bytes) -> str:
    """An index that is taken is built again, to the byte, from its chunks."""
    try:
        found = Index.parse(data)
    except FormatError as error:
        return words(error)
    builder = IndexBuilder(found.feature_flags, found.sizes)
    at = 0
    for chunk in found:
        assert (chunk.start, chunk.end) == (at, at + chunk.size)
        at = chunk.end
        builder.append(chunk.id, chunk.size)
    assert builder.build().to_bytes() == found.to_bytes() == data
    return f"{min(len(found), 4)} chunks"


def cuts(data: bytes) -> str:
    """Both kernels cut in the same places; six bytes of the input choose the chunk sizes."""
    low, middle, high = (int.from_bytes(data[at : at + 2], "little") % 4000 for at in (0, 2, 4))
    try:
        sizes = ChunkSizes(low, low + middle, low + middle + high)
        python = Chunker(sizes, native=False).split(data)
    except UsageError as error:
        return words(error)
    assert Chunker(sizes, native=True).split(data) == python
    assert [0, *(end for _, end in python)] == [*(start for start, _ in python), len(data)] or not data
    return f"{len(python).bit_length()} bits of chunks"


# ---- images


def tar(data: bytes) -> str:
    """A tar comes back to the byte, or is refused; its members do not depend on how it is read."""
    try:
        found = convert(data)
    except Unrepresentable as error:
        return words(error)
    assert found.rebuilt() == data
    assert len(found.nodes()) == found.plan.entries
    view = TarView(Recipe.parse(found.recipe), Memory(found.catar))
    assert list(members(view)) == list(members(Memory(data)))
    middle = len(data) // 2
    assert view.read_at(middle, 700) == data[middle : middle + 700]
    return f"{min(found.plan.entries, 5)} entries, {found.plan.hardlink_groups} links, {found.plan.whiteouts}"


_RECIPE_LIMITS = RecipeLimits(tar=1 << 20, splices=1 << 20, literals=1 << 20)


def recipe(data: bytes) -> str:
    """A recipe makes a tar of the size that it says, in whatever parts it is asked for it, or is refused."""
    try:
        found = Recipe.parse(data, limits=_RECIPE_LIMITS)
        if found.catar_size > 1 << 20:
            return "a catar that is too large to try"
        catar = Memory(bytes(range(256)) * (found.catar_size // 256 + 1))
        catar.size = found.catar_size
        whole = b"".join(rebuild(found, catar))
        view = TarView(found, catar)
        third = len(whole) // 3
        assert view.read_at(third, third) == whole[third : 2 * third]
    except ImageError as error:
        return words(error)
    assert len(whole) == found.tar_size == sum(length for *_, length in found.splices(0, found.tar_size))
    assert found.to_bytes() == data
    return f"a tar of {len(whole).bit_length()} bits"


def manifest(data: bytes) -> str:
    """Documents of images are read, and kept as they were, or refused by one line that says why."""
    outcomes = []
    for parse in (parse_document, ImageConfig.parse, WrapperConfig.parse):
        try:
            found = parse(data, "x")
            if isinstance(found, ImageManifest):
                outcomes.append(f"{len(found.layers)} layers")
                Wrapper.of(found, "x")
            if isinstance(found, WrapperConfig):
                assert WrapperConfig.parse(found.to_bytes(), "x") == found
            else:
                assert found.raw == data
            outcomes.append(type(found).__name__)
        except ImageError as error:
            outcomes.append(words(error))
    return "; ".join(outcomes)


def packindex(data: bytes) -> str:
    """A pack index that is taken is made again, to the byte, and finds each chunk; so with a pack's own table."""
    try:
        found = PackIndex.parse(data, "x")
    except ImageError as error:
        outcome = words(error)
    else:
        assert PackIndex.build(found.packs, found).raw == data
        for id, place in found:
            assert found.find(id) == place
            assert place.offset + place.stored <= found.packs[place.pack][1]
        outcome = f"{min(len(found), 4)} chunks"
    for size in (len(data), 1 << 20):
        try:
            rows = parse_pack_table(data, size, "x")
        except ImageError as error:
            outcome += f"; {words(error)}"
        else:
            assert data.endswith(pack_table(rows))
            outcome += f"; {min(len(rows), 4)} rows"
    return outcome


# ---- any of these


def _whole_recipe(data: bytes) -> Recipe:
    """:raises ImageError: it is no recipe, or what it holds itself cannot be read"""
    found = Recipe.parse(data, limits=_RECIPE_LIMITS)
    for kind, _, source, length in found.splices(0, found.tar_size):
        if kind == LITERAL:
            found.literal(source, length)
    return found


def dump(data: bytes) -> str:
    """Piece by piece up to the first that is wrong, each where the last ended; what is whole is shown whole."""
    count = end = 0
    outcome = "whole"
    try:
        for piece in pieces(io.BytesIO(data)):
            if not piece.inside:
                assert piece.offset == end
                end += piece.size
            count += 1
            assert len(text_line(piece).splitlines()) == len(json_line(piece).splitlines()) == 1
    except FormatError as error:
        outcome = words(error)
        for parse in (Index.parse, partial(PackIndex.parse, where="x"), _whole_recipe):
            try:
                taken = parse(data)
            except CasyncError:
                continue
            if isinstance(taken, Recipe) and not taken.tar_size:
                continue  # whose list of splices nobody reads
            raise AssertionError(f"dump refuses what {parse} takes") from error
        assert not (data and feed([data]).ended)
    return f"{outcome}, {count.bit_length()} bits of pieces"


# ---- exclusion

_LIBC = ctypes.CDLL(None)
_IS_GLIBC = hasattr(_LIBC, "gnu_get_libc_version")
_FNM_PERIOD = 4
_CLEAR = re.compile(
    rb"(?:[^\[\\]|\\.|\[[!^]?\]?(?:[^\[\]\\]|\[:(?:alpha|digit|space|upper):\]|\\[^\]-])*\])*", re.DOTALL
)
"""Patterns whose brackets close and hold nothing malformed. What glibc makes of others depends on the name."""
_NAMES = (b"a", b"ab", b".a", b"x.o", b"[", b"]", b"-", b"\\", b"\xff", b"a\nb", b"!", b"caf\xc3\xa9", b"...")


def _libc_matches(glob: bytes, name: bytes) -> bool:
    """What fnmatch(3) says in the C locale, in which casync runs: a character is a byte."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        return bool(_LIBC.fnmatch(glob, name, _FNM_PERIOD) == 0)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def caexclude(data: bytes) -> str:
    """Rules match as the C library matches, decide without failing, or are refused with the line's offset."""
    try:
        rules = parse_rules(data, b"x/.caexclude")
    except FormatError as error:
        return f"{words(error)} {data[error.offset :][:1]!r}"
    for rule in rules[:20]:
        for name in (*_NAMES, rule.glob):
            if _IS_GLIBC and b"\0" not in name and _CLEAR.fullmatch(rule.glob):
                theirs = _libc_matches(rule.glob, name)
                assert bool(translate(rule.glob).match(name)) == theirs, (rule.glob, name)
    depth = 0
    below = rules
    while below and depth < 4:
        excluded = [decide(below, name, is_dir) for name in _NAMES for is_dir in (True, False)]
        below = max((inherited for _, inherited in excluded), key=len)
        depth += 1
    return f"{min(len(rules), 3)} rules, {sum(rule.anchored for rule in rules[:3])} anchored, {depth} deep"
