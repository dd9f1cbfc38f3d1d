"""Files, stores and whole verbs over real object stores: SeaweedFS, versitygw, Azurite, and a stub of Google's."""

from __future__ import annotations

import json
import random
import re
import uuid
from pathlib import Path

import pytest
from interop.clouds import Bucket, azurite, gcs, seaweed, versitygw  # noqa: F401 - fixtures
from interop.tools import Tool
from test_store.contract_files import SwapContract

from casync_compat.locations import Settings
from casync_compat.locations.remote import open_files
from casync_compat.store.files import Files

pytestmark = pytest.mark.timeout(180)

SERVICES = ["seaweed", "versitygw", "azurite", "gcs"]


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Bucket:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Bucket)
    return found


def fresh(bucket: Bucket) -> str:
    """The locator of a prefix that nobody uses."""
    return bucket.locator(f"test {uuid.uuid4().hex}")


@pytest.mark.parametrize("bucket", SERVICES, indirect=True)
class TestContract(SwapContract):
    """Every service keeps the contract of places of files."""

    date_step = 1.1

    @pytest.fixture
    def files(self, bucket: Bucket) -> Files:
        return open_files(fresh(bucket), Settings(environ=bucket.environ))


def make_tree(where: Path) -> Path:
    """A tree of a few hundred chunks, and files without content."""
    for number in range(40):
        directory = where / f"d{number % 5}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(random.Random(number).randbytes(250_000))
        (directory / f"empty{number}").touch()
    return where


@pytest.mark.parametrize("bucket", SERVICES, indirect=True)
def test_every_verb(bucket: Bucket, pycasync: Tool, tmp_path: Path) -> None:
    """An archive is made in a bucket, listed, compared, extracted, verified, mended and collected there."""
    prefix = fresh(bucket).replace(" ", "%20")
    index, store = f"{prefix}/home.caidx", f"{prefix}/default.castr"
    tree = make_tree(tmp_path / "tree")
    run = pycasync.given(**bucket.environ)
    made = run("make", index, tree)
    assert run("make", index, tree) == made
    assert run("digest", index) == run("digest", tree)
    assert run("list", index) == run("list", tree)
    assert b"d1/f1" in run("stat", index, "d1/f1")
    assert run("cat", index, "d1/f1") == (tree / "d1" / "f1").read_bytes()
    run("extract", index, tmp_path / "out")
    assert run("digest", tmp_path / "out") == made
    assert b"all good" in run("verify", index, tree)
    assert b"all good" in run("verify", index)
    assert b"all good" in run("verify", store)

    # Another index shares chunks with it; what only the first one needs goes.
    (tree / "d0" / "f0").unlink()
    second = f"{prefix}/second.caidx"
    kept = run("make", second, tree)
    place = open_files(prefix, Settings(environ=bucket.environ))
    local = tmp_path / "home.caidx"
    local.write_bytes(place.read(b"home.caidx", 1 << 20) or b"")
    place.remove(b"home.caidx")
    assert b"chunks remaining" in run("gc", second)
    run("extract", second, tmp_path / "second")
    assert run("digest", tmp_path / "second") == kept
    lost = run.run("verify", f"--store={store}", local)
    assert lost.status == 1
    assert b"missing" in lost.out
    assert run.run("extract", f"--store={store}", local, tmp_path / "gone").status != 0


@pytest.mark.parametrize("bucket", ["seaweed", "versitygw"], indirect=True)
def test_desync(bucket: Bucket, pycasync: Tool, desync: Tool, tmp_path: Path) -> None:
    """desync reads from a bucket what pycasync wrote there, and the other way round, with the same variables."""
    name = uuid.uuid4().hex
    blob = tmp_path / "blob"
    blob.write_bytes(random.Random(5).randbytes(5_000_000))
    ours, theirs = pycasync.given(**bucket.environ), desync.given(**bucket.environ)
    store, index = f"{name}/ours.castr", f"{name}/ours.caibx"
    ours("make", "--layout=objects", "--store", bucket.locator(store), bucket.locator(index), blob)
    theirs("extract", "-s", bucket.desync(store), bucket.desync(index), tmp_path / "by-desync")
    assert (tmp_path / "by-desync").read_bytes() == blob.read_bytes()

    store, index = f"{name}/theirs.castr", f"{name}/theirs.caibx"
    theirs("make", "-s", bucket.desync(store), bucket.desync(index), blob)
    for locator in (bucket.desync(index), bucket.locator(index)):
        chunks = bucket.desync(store) if locator == bucket.desync(index) else bucket.locator(store)
        out = tmp_path / "by-pycasync"
        ours("extract", "--store", chunks, locator, out)
        assert out.read_bytes() == blob.read_bytes()
        out.unlink()
    again = ours("make", "--json", "--store", bucket.locator(store), tmp_path / "again.caibx", blob)
    assert json.loads(again)["chunks"]["new"] == 0


@pytest.mark.parametrize("bucket", ["seaweed", "versitygw", "azurite"], indirect=True)
def test_wrong_key(bucket: Bucket, pycasync: Tool, tmp_path: Path) -> None:
    """A wrong key is told of in one line, which shows neither it nor the right one."""
    environ = dict(bucket.environ)
    wrong = b"aW4gdmFpbg=="
    if "AWS_SECRET_ACCESS_KEY" in environ:
        environ["AWS_SECRET_ACCESS_KEY"] = environ["S3_SECRET_KEY"] = wrong.decode()
    else:
        connection = environ["AZURE_STORAGE_CONNECTION_STRING"]
        environ["AZURE_STORAGE_CONNECTION_STRING"] = re.sub(
            "AccountKey=[^;]*", f"AccountKey={wrong.decode()}", connection
        )
    blob = tmp_path / "blob"
    blob.write_bytes(b"content")
    index = f"{fresh(bucket)}/x.caibx"
    pycasync.given(**bucket.environ)("make", index, blob)
    for argv in (["info", index], ["make", index, blob], ["extract", index, tmp_path / "out"]):
        failed = pycasync.given(**environ).run(*argv)
        assert failed.status == 1
        assert b"access was denied" in failed.err
        assert failed.err.count(b"\n") == 1
        assert wrong not in failed.err


@pytest.mark.parametrize("bucket", ["versitygw", "azurite", "gcs"], indirect=True)  # SeaweedFS makes buckets
def test_no_such_bucket(bucket: Bucket, pycasync: Tool, tmp_path: Path) -> None:
    """A bucket that is not there is told of in one line, when something is read and when something is written."""
    blob = tmp_path / "blob"
    blob.write_bytes(b"content")
    other = bucket.root.replace("bucket", "nowhere")
    for argv in (["list", f"{other}/x.caidx"], ["make", f"{other}/x.caibx", blob], ["verify", f"{other}/y"]):
        failed = pycasync.given(**bucket.environ).run(*argv)
        assert failed.status == 1
        assert failed.err.count(b"\n") == 1
        assert other.encode() in failed.err
