"""pandas, pyarrow and DuckDB read files inside of archives that lie on a web server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filesystems import lacking
from interop.registries import RunningRegistry
from interop.tools import better_than_casync
from test_oci import rawtar
from test_oci.images import build, layout_at
from test_oci.opened import tar
from webserver import WebServer, web_server

import casync_compat as casync
from casync_compat.oci.convert import ConvertOptions, convert

pytestmark = [better_than_casync, pytest.mark.timeout(90)]
ROWS = 200_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """An archive with year/sales.parquet and names.csv, and its chunks."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        lacking(str(error))
    at = tmp_path_factory.mktemp("served")
    (at / "tree" / "year").mkdir(parents=True)
    table = pyarrow.table(
        {"number": list(range(ROWS)), "text": [f"row {n * 7919 % ROWS}" for n in range(ROWS)]}
    )
    parquet.write_table(table, at / "tree" / "year" / "sales.parquet", row_group_size=10_000)
    (at / "tree" / "names.csv").write_text("id,name\n1,ada\n2,grace\n")
    casync.make(at / "data.caidx", at / "tree")
    with web_server() as server:
        for path in at.rglob("*"):
            if path.is_file() and "tree" not in path.parts:
                server.files[f"/{path.relative_to(at)}"] = path.read_bytes()
        yield server


@pytest.fixture
def fs(served: WebServer) -> Any:
    import fsspec

    from casync_compat.fsspec import ArchiveFileSystem

    fsspec.register_implementation("pycasync", ArchiveFileSystem, clobber=True)
    return fsspec.filesystem("pycasync", fo=f"{served.url}/data.caidx", skip_instance_cache=True)


def test_pandas(fs: Any, served: WebServer) -> None:
    """One column of a Parquet file and a CSV file, by an open file and by a chained URL."""
    import pandas

    with fs.open("year/sales.parquet") as file:
        assert pandas.read_parquet(file, columns=["number"])["number"].sum() == ROWS * (ROWS - 1) // 2
    url = f"pycasync://names.csv::{served.url}/data.caidx"
    assert list(pandas.read_csv(url)["name"]) == ["ada", "grace"]


def test_pyarrow(fs: Any, served: WebServer) -> None:
    """A few row groups of a Parquet file fetch a part of its chunks."""
    import pyarrow.parquet as parquet

    whole = sum(path.endswith(".cacnk") for path in served.files)
    before = len(served.asked)
    with parquet.ParquetFile(fs.open("year/sales.parquet")) as file:
        assert file.read_row_group(3, columns=["number"])["number"][0].as_py() == 30_000
    assert len(served.asked) - before < whole
    assert parquet.read_table("year/sales.parquet", filesystem=fs).num_rows == ROWS


def test_duckdb(fs: Any) -> None:
    """Several threads of one query share one file, and every answer is right."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 4")
        connection.register_filesystem(fs)
        for _ in range(4):
            found = connection.sql(
                "select count(*), sum(number) from read_parquet('pycasync://year/sales.parquet')"
            )
            assert found.fetchall() == [(ROWS, ROWS * (ROWS - 1) // 2)]


def test_image_in_a_registry(tmp_path: Path, registry: RunningRegistry) -> None:
    """pandas takes a table out of a converted image in a registry, named in a chained URL."""
    import fsspec
    import pandas

    from casync_compat.fsspec import ArchiveFileSystem, InRegistry

    fsspec.register_implementation("pycasync", ArchiveFileSystem, clobber=True)
    fsspec.register_implementation("docker", InRegistry, clobber=True)
    rows = "id,name\n" + "".join(f"{number},row {number}\n" for number in range(50_000))
    with layout_at(tmp_path / "layout") as layout:
        build(layout, "app", [tar(rawtar.file(b"data/rows.csv", rows.encode()), rawtar.file(b"other", b"x"))])
        convert(layout, "app", registry.open("tables"), "1", ConvertOptions(thin=True))
    where = f"{registry.reference('tables')}:1"
    read = pandas.read_csv(f"pycasync://data/rows.csv::{where}", storage_options={"insecure": True})
    assert (len(read), read["name"][49_999]) == (50_000, "row 49999")


@pytest.mark.parametrize("where", ["registry", "layout", "plain"])
def test_tables_in_images(tmp_path: Path, registry: RunningRegistry, where: str) -> None:
    """pandas, pyarrow and DuckDB read a Parquet file in an image, converted or plain, of which a later layer wins."""
    import duckdb
    import fsspec
    import pandas
    import pyarrow
    import pyarrow.parquet as parquet

    from casync_compat.fsspec import ArchiveFileSystem

    fsspec.register_implementation("pycasync", ArchiveFileSystem, clobber=True)
    rows = 50_000
    tables = []
    for factor in (1, 2):
        out = io.BytesIO()
        numbers = [factor * number for number in range(rows)]
        parquet.write_table(
            pyarrow.table({"number": numbers, "text": [f"row {number}" for number in numbers]}),
            out,
            row_group_size=10_000,
        )
        tables.append(tar(rawtar.file(b"year/sales.parquet", out.getvalue())))
    name = f"oci:{tmp_path / 'layout'}:plain"
    with layout_at(tmp_path / "layout") as layout:
        build(layout, "plain", tables)
        if where != "plain":
            place = layout if where == "layout" else registry.open("sales")
            convert(layout, "plain", place, "1", ConvertOptions(thin=True))
            name = f"oci:{tmp_path / 'layout'}:1" if where == "layout" else f"{registry.reference('sales')}:1"
    fs = fsspec.filesystem("pycasync", fo=name, insecure=True, skip_instance_cache=True)
    total = 2 * (rows * (rows - 1) // 2)
    assert pandas.read_parquet(fs.open("year/sales.parquet"), columns=["number"])["number"].sum() == total
    assert parquet.read_table("year/sales.parquet", filesystem=fs).num_rows == rows
    with duckdb.connect() as connection:
        connection.execute("set threads = 4")
        connection.register_filesystem(fs)
        found = connection.sql(
            "select count(*), sum(number) from read_parquet('pycasync://year/sales.parquet')"
        )
        assert found.fetchall() == [(rows, total)]
        found = connection.sql("select count(*) from read_parquet('pycasync://**/*.parquet')")
        assert found.fetchall() == [(rows,)]
