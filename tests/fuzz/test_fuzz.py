"""Parsers of bytes from elsewhere, for a bounded number of inputs: the corpus, changed inputs, and well-formed ones.

`PYCASYNC_TEST_FUZZ` is how many changed inputs each target gets (1000). `python tests/fuzz` goes on for as long as one
likes, see there.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from strategies import archives, flag_words, plain_archives
from test_oci.strategies import any_tars
from test_oci.test_packindex import PACKS, ids, places
from test_oci.test_recipe import CATAR, COPY, LITERAL, ZEROS, forge

from casync_compat.chunker import ChunkSizes
from casync_compat.ids import ChunkId
from casync_compat.index import IndexBuilder
from casync_compat.oci.spec.packindex import PackIndex

from .engine import Finding, inputs
from .make_corpus import corpus
from .mutator import mutate
from .targets import HERE, TARGETS, Target

COUNT = int(os.environ.get("PYCASYNC_TEST_FUZZ", "1000"))


def well(said: str | Finding) -> None:
    """Fail as the target did, naming the input."""
    if isinstance(said, Finding):
        raise AssertionError(f"{said.target} on {said.data[:2000]!r}") from said.error


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs(name: str) -> None:
    """The corpus, and inputs changed from it and from one another, the same ones each time."""
    target = TARGETS[name]
    for said in islice(inputs(target, seed=0), len(target.corpus()) + COUNT):
        well(said)


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_is_good_for_something(name: str) -> None:
    """Some of what a target starts from is well-formed and some is not: it says different things of them."""
    assert len({TARGETS[name].check(data) for data in TARGETS[name].corpus()}) > 2


def test_corpus_is_what_its_generator_makes() -> None:
    """Committed inputs are made again, to the byte; what fuzzing found stands beside them."""
    made = {f"{target}/{name}": data for target, files in corpus().items() for name, data in files.items()}
    found = (
        path for path in (HERE / "corpus").rglob("*") if path.is_file() and path.parent != HERE / "corpus"
    )
    kept = {str(path.relative_to(HERE / "corpus")): path.read_bytes() for path in found}
    assert {name: data for name, data in kept.items() if not Path(name).name.startswith("found-")} == made


# ---- well-formed inputs of all shapes, which are then changed


@st.composite
def _indexes(draw: st.DrawFn) -> bytes:
    low = draw(st.integers(1, 1 << 20))
    sizes = ChunkSizes(low, low + draw(st.integers(0, 1 << 20)), (1 << 22) + draw(st.integers(0, 1 << 20)))
    builder = IndexBuilder(draw(flag_words()), sizes)
    for size in draw(st.lists(st.integers(1, sizes.max), max_size=6)):
        builder.append(ChunkId(draw(st.binary(min_size=32, max_size=32))), size)
    return builder.build().to_bytes()


@st.composite
def _recipes(draw: st.DrawFn) -> bytes:
    kinds = st.tuples(st.sampled_from([LITERAL, COPY, ZEROS]), st.integers(1, 300))
    splices = draw(st.lists(kinds, max_size=8))
    at, offsets = 0, []
    for kind, length in splices:
        if kind == COPY:
            to = draw(st.integers(0, len(CATAR) - length))
            offsets.append(to - at)
            at = to + length
    literals = b"".join(bytes([length & 255]) * length for kind, length in splices if kind == LITERAL)
    return forge(splices, offsets, literals)


def _documents() -> SearchStrategy[bytes]:
    """Any JSON, and the documents of the corpus with any JSON in place of a member."""
    values: SearchStrategy[object] = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
    known = [json.loads(data) for data in corpus()["manifest"].values()]

    def exchanged(document: dict[str, object], which: int, value: object) -> dict[str, object]:
        key = sorted(document)[which % len(document)]
        return {**document, key: value}

    changed = st.builds(exchanged, st.sampled_from(known), st.integers(0, 20), values)
    return st.one_of(values, changed).map(lambda value: json.dumps(value).encode())


WELL_FORMED: dict[str, SearchStrategy[bytes]] = {
    "decoder": st.one_of(flag_words().flatmap(lambda flags: archives(flags, depth=2)), plain_archives()).map(
        lambda archived: archived.data
    ),
    "index": _indexes(),
    "cuts": st.tuples(st.binary(min_size=6, max_size=6), st.integers(0, 1 << 32), st.integers(0, 5000)).map(
        lambda parts: parts[0] + random.Random(parts[1]).randbytes(parts[2])
    ),
    "tar": any_tars(),
    "recipe": _recipes(),
    "manifest": _documents(),
    "packindex": st.dictionaries(ids, places, max_size=6).map(
        lambda chunks: PackIndex.build(PACKS, chunks.items()).raw
    ),
    "dump": st.one_of(_indexes(), _recipes(), plain_archives().map(lambda archived: archived.data)),
    "caexclude": st.lists(
        st.sampled_from(TARGETS["caexclude"].tokens) | st.binary(max_size=3), max_size=30
    ).map(b"".join),
}


def _examples(target: Target) -> Callable[[], None]:
    """A property: inputs of a shape, as they are and changed, are well with a target."""

    @settings(max_examples=max(COUNT // 10, 10), deadline=None)
    @given(WELL_FORMED[target.name], st.integers(0, 1 << 32))
    def check(data: bytes, seed: int) -> None:
        target.check(data)
        chance = random.Random(seed)
        data = mutate(data, chance, tokens=target.tokens)
        target.check(data if target.repair is None else target.repair(data, chance))

    return check


@pytest.mark.parametrize("name", TARGETS)
def test_well_formed_inputs(name: str) -> None:
    """Inputs of every shape, as they are and with a change."""
    _examples(TARGETS[name])()
