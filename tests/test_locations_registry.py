"""Locators in registries: `oci+https://` stores and indexes, as desync has them."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

import pytest
from test_oci.fake_registry import FakeRegistry

from casync_compat.chunker import ChunkSizes
from casync_compat.cli._common import jobs_for
from casync_compat.compression import Compression
from casync_compat.errors import CasyncError, FormatError, UsageError
from casync_compat.ids import Digest
from casync_compat.index import IndexBuilder
from casync_compat.locations import (
    Settings,
    Shared,
    default_store,
    in_registry,
    index_output,
    input_path,
    name_of,
    open_index,
    open_source,
    open_store,
)
from casync_compat.store.layered import Layered
from casync_compat.store.local import LocalStore
from catar.flags import DEFAULT

STORE = "oci+https://registry.test/a/b"
INDEX = f"{STORE}/disk.caibx"
D = Digest.SHA512_256


@pytest.fixture
def fake() -> FakeRegistry:
    """A registry in place of all of them."""
    return FakeRegistry()


def known(fake: FakeRegistry, **environ: str) -> Settings:
    """Settings that lead to the registry of the test."""
    return Settings(environ=environ, shared=Shared(fake.client()))


def index_data() -> bytes:
    builder = IndexBuilder(DEFAULT, ChunkSizes())
    builder.append(D.of(b"x"), 1)
    return builder.build().to_bytes()


def test_told_apart() -> None:
    """By the scheme; names tell what an index is of, wherever it lies."""
    assert in_registry(STORE)
    assert in_registry("oci+http://h/r")
    assert not in_registry("oci:dir")
    assert not in_registry("/oci+https://h/r")
    assert name_of(INDEX).endswith(b".caibx")
    assert name_of("./x.caidx") == b"./x.caidx"


def test_stores(fake: FakeRegistry) -> None:
    """A store in a registry is opened like any other, also as a further one."""
    settings = known(fake)
    raw = b"chunk"
    assert open_store(STORE, settings).put(D.of(raw), raw).new
    assert list(fake.store().tags) == [f"{D.of(raw)}.cacnk"]
    assert open_source(STORE, [], settings).get(D.of(raw), D, 1000) == raw
    both = open_source("/nowhere.castr", [STORE], settings)
    assert isinstance(both, Layered)
    assert both.get(D.of(raw), D, 1000) == raw
    plain = replace(settings, compression=Compression.NONE)
    assert isinstance(open_store("/nowhere.castr", plain), LocalStore)


def test_beside_the_index() -> None:
    """Chunks of an index in a registry are in its repository, if nobody says otherwise."""
    assert default_store(INDEX, Settings()) == STORE


def test_login_as_desync(fake: FakeRegistry) -> None:
    """desync's variables are used; a password alone is a mistake, and said to be one."""
    fake.auth = "basic"
    with pytest.raises(CasyncError, match="wants credentials"):
        open_store(STORE, known(fake)).get(D.of(b"x"), D, 1)
    with pytest.raises(UsageError, match="DESYNC_OCI_USERNAME is not"):
        open_store(STORE, known(fake, DESYNC_OCI_PASSWORD=fake.password))
    full = known(fake, DESYNC_OCI_PASSWORD=fake.password, DESYNC_OCI_USERNAME=fake.user)
    assert not open_store(STORE, full).has(D.of(b"x"))


def test_index_there_and_back(fake: FakeRegistry) -> None:
    """An index is sent when it is complete, and read through a file of its name, fetched once."""
    settings = known(fake)
    data = index_data()
    with index_output(INDEX, settings) as path:
        assert path is not None
        with open(path, "wb") as file:
            file.write(data)
        assert fake.seen == []
    fake.seen.clear()
    for _ in range(3):
        with open(input_path(INDEX, settings), "rb") as file:
            assert file.read() == data
        assert open_index(INDEX, settings).to_bytes() == data
    assert len(fake.seen) == 2
    assert os.path.basename(input_path(INDEX, settings)) == b"disk.caibx"


def test_nothing_is_sent_after_an_error(fake: FakeRegistry) -> None:
    """A run that fails leaves no index, and one that wrote rubbish neither."""
    with pytest.raises(CasyncError), index_output(INDEX, known(fake)):
        raise CasyncError("no space left")
    with pytest.raises(FormatError), index_output(INDEX, known(fake)) as path:
        assert path is not None
        with open(path, "wb") as file:
            file.write(b"rubbish")
    assert fake.seen == []


def test_local_outputs() -> None:
    """Local paths and standard output pass through."""
    with index_output("./x.caibx", Settings()) as path:
        assert path == b"./x.caibx"
    with index_output(None, Settings()) as path:
        assert path is None
    assert input_path("./x.caibx", Settings()) == b"./x.caibx"


@pytest.mark.parametrize("locator", ["oci+https://registry.test/x.caibx", "oci+https://h/UPPER/x.caibx"])
def test_bad_index_locators(fake: FakeRegistry, locator: str) -> None:
    """A locator that cannot be is refused before any work."""
    with pytest.raises(UsageError), index_output(locator, known(fake)):
        raise AssertionError("work has begun")
    with pytest.raises(UsageError):
        input_path(locator, known(fake))


@pytest.mark.parametrize(
    ("jobs", "store", "extra", "index", "expected"),
    [
        (None, None, [], "x.caidx", None),
        (3, None, [], INDEX, 3),
        (None, None, [], INDEX, 16),
        (None, STORE, [], "x.caidx", 16),
        (None, "/s", [STORE], "x.caidx", 16),
        (None, "/s", [], INDEX, None),
    ],
)
def test_jobs(
    monkeypatch: pytest.MonkeyPatch,
    jobs: int | None,
    store: str | None,
    extra: list[str],
    index: str,
    expected: int | None,
) -> None:
    """Where threads mostly wait for a registry, there are more of them; the user's word goes before."""
    monkeypatch.delenv("CASYNC_STORE", raising=False)
    options = argparse.Namespace(jobs=jobs, store=store, extra_store=extra)
    assert jobs_for(options, index) == expected
