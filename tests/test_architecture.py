"""Imports point downwards, and the rooms are what casync_compat/README.md says: its tables are read here, and kept."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import casync_compat
import catar
from catar.errors import CatarError

PACKAGES = {
    "catar": Path(catar.__file__ or "").parent,
    "casync_compat": Path(casync_compat.__file__ or "").parent,
}
README = Path(__file__).parents[1] / "casync_compat" / "README.md"
SANS_IO_RANK = 5
IO_MODULES = {
    *("os", "io", "socket", "threading", "subprocess", "tempfile", "shutil", "mmap", "fcntl", "select"),
    *("pathlib", "asyncio", "ssl", "http", "urllib"),
}
CATAR_NEVER = {"os", "socket", "threading", "time", "subprocess", "pathlib", "asyncio"}


@dataclass(frozen=True, slots=True)
class Import:
    """One module imported by another.

    :ivar name: full name of the module imported, a function's or a class's module
    :ivar line: where
    :ivar typing_only: whether it is within `if TYPE_CHECKING`
    """

    name: str
    line: int
    typing_only: bool


@cache
def modules(package: str) -> dict[str, Path]:
    """Every module of a package, by full name."""
    root = PACKAGES[package]
    found = {}
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.pyi")]):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_module(name: str) -> bool:
    return name in modules("catar") or name in modules("casync_compat")


def _walk(node: ast.AST, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for inner in child.body:
                yield inner, True
                yield from _walk(inner, True)
            for inner in child.orelse:
                yield inner, typing_only
                yield from _walk(inner, typing_only)
        else:
            yield child, typing_only
            yield from _walk(child, typing_only)


@cache
def imports(module: str) -> tuple[Import, ...]:
    """What a module imports, wherever in it."""
    path = modules(module.partition(".")[0])[module]
    found = []
    for node, typing_only in _walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append(Import(full if is_module(full) else base, node.lineno, typing_only))
    return tuple(found)


def tables() -> list[list[list[str]]]:
    """The tables of the README, each as rows of cells, without the heading."""
    found: list[list[list[str]]] = []
    rows: list[list[str]] = []
    for line in [*README.read_text().splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip().replace("\\", "") for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def ranks(package: str) -> dict[str, int]:
    """The rank of each name in the table of a package: modules, `x.*`, and `__init__` for the package itself."""
    table = tables()[0 if package == "casync_compat" else 2]
    found: dict[str, int] = {}
    for rank, names, _ in table:
        for name in names.split():
            assert name not in found, f"{name} stands twice in the table"
            found[name] = int(rank)
    return found


def rank_of(module: str) -> int | None:
    package, _, name = module.partition(".")
    table = ranks(package)
    name = name or "__init__"
    for row in (name, f"{name}.*", name.rpartition(".")[0] + ".*"):
        if row in table:
            return table[row]
    # What only says what a room is needs no place among those who work in it.
    return 1 if modules(package)[module].name == "__init__.py" and not imports(module) else None


VERBS = ("casync_compat.verbs", "casync_compat.oci")


def room(module: str) -> str:
    """The folder that a module of `casync_compat` lies in, where neighbours may use one another; else empty."""
    folder = (
        module
        if modules("casync_compat").get(module, Path()).name == "__init__.py"
        else module.rpartition(".")[0]
    )
    return "" if folder in ("", "catar", "casync_compat", *VERBS) else folder


ALL = [(package, module) for package in PACKAGES for module in modules(package)]
MODULES = pytest.mark.parametrize("module", [module for _, module in ALL])


LOOKED_UP: dict[str, set[str]] = {
    # Names of a package, loaded when they are used.
    "casync_compat": {"getattr(import_module(f'{__name__}.{home}'), name)"},
    "catar": {"getattr(import_module(f'{__name__}.{home}'), name)"},
    # A table of metadata, with the name of the field each stands in.
    "catar.metadata": {"getattr(node, field)"},
    # C libraries and interpreters differ in what they have.
    "casync_compat.fs.remove": {"hasattr(libc, 'renameat2')"},
    "casync_compat.fs.syncfs": {"hasattr(libc, 'syncfs')"},
    "casync_compat.cli": {"getattr(sys, name)"},
}
"""Where something is looked up by name because nothing declares it, and why that is right."""


@MODULES
def test_nothing_typed_is_looked_up_by_name(module: str) -> None:
    """What an object has is declared, in its class or in a protocol: neither `getattr` nor `hasattr` finds it out."""
    tree = ast.parse(modules(module.partition(".")[0])[module].read_text())
    found = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr")
        # What argparse gives has no type, and a verb has only the options that it has declared.
        and not (module.startswith("casync_compat.cli") and ast.unparse(node.args[0]) == "options")
    }
    assert found <= LOOKED_UP.get(module, set())


@MODULES
def test_stores_are_told_apart_in_locations_only(module: str) -> None:
    """Nothing asks a store what class it is of; what stores differ in is part of their protocols."""
    if module.startswith(("casync_compat.locations", "casync_compat.store")):
        return
    tree = ast.parse(modules(module.partition(".")[0])[module].read_text())
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = re.compile(r"(isinstance|issubclass)\(.*(Local|Memory|Registry)\w*Store")
    assert list(filter(asked.match, calls)) == []


def test_tables() -> None:
    """The README has the three tables that are read here, with rising ranks."""
    assert len(tables()) == 3
    for table in (tables()[0], tables()[2]):
        numbers = [int(row[0]) for row in table]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(1, numbers[-1] + 1))


@MODULES
def test_every_module_has_a_rank(module: str) -> None:
    """A module without a place in the table has not been thought about."""
    assert rank_of(module) is not None, f"{module} is missing from casync_compat/README.md"


@MODULES
def test_imports_point_down(module: str) -> None:
    """A module imports lower ranks only, or its neighbours in the same package."""
    own = rank_of(module)
    assert own is not None
    for found in imports(module):
        package = found.name.partition(".")[0]
        if package not in PACKAGES or found.name == module:
            continue
        if package != module.partition(".")[0]:
            assert package == "catar", f"{module}:{found.line}: catar must not know {found.name}"
            continue
        rank = rank_of(found.name)
        neighbours = room(module) and room(module) == room(found.name)
        assert rank is not None
        if not neighbours:
            assert rank < own, f"{module}:{found.line}: rank {own} imports {found.name} of rank {rank}"
        else:
            assert rank <= own, f"{module}:{found.line}: rank {own} imports {found.name} of rank {rank}"


def test_no_circles() -> None:
    """Even among neighbours, nothing imports itself by a detour."""
    graph = {
        module: {found.name for found in imports(module) if is_module(found.name) and not found.typing_only}
        - {module}
        for _, module in ALL
    }
    for module, targets in graph.items():
        # A package's __init__ re-exports what is in it; `from package import module` is an import of the module.
        graph[module] = {target for target in targets if not module.startswith(f"{target}.")}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", sorted(modules("catar")))
def test_catar_is_pure(module: str) -> None:
    """The format touches no file, socket, thread or clock."""
    for found in imports(module):
        assert found.name.partition(".")[0] not in CATAR_NEVER, f"{module}:{found.line}: {found.name}"


def test_construct_stays_away() -> None:
    """Only the declarations, what reads layouts off them, and `dump` import construct: it costs more than a listing."""
    users = {
        module for _, module in ALL if any(i.name.partition(".")[0] == "construct" for i in imports(module))
    }
    readers = {name for name in modules("casync_compat") if name.startswith("casync_compat.dumping")}
    schemas = {"catar.schema", "casync_compat.schema"}
    assert users <= {*schemas, "catar.derive", *readers}
    for _, module in ALL:
        if module not in {*users, *readers}:
            found = {found.name for found in imports(module)}
            assert not (users | schemas) & found or module == "casync_compat.verbs.dump", module
        if module != "casync_compat.cli.dump":
            assert "casync_compat.verbs.dump" not in {found.name for found in imports(module)}


def test_one_name_one_class() -> None:
    """A public class is the only one of its name, so that a name in a message or a search leads to one place."""
    homes: dict[str, list[str]] = {}
    for module, path in modules("casync_compat").items():
        if path.suffix == ".py":
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def exceptions() -> dict[str, set[str]]:
    """The modules below the sans-IO line that may import something of IO all the same."""
    return {row[0]: set(row[1].split()) for row in tables()[1]}


@pytest.mark.parametrize("module", sorted(modules("casync_compat")))
def test_sans_io(module: str) -> None:
    """Below the line there is no IO, and each exception in the README is needed."""
    rank = rank_of(module)
    assert rank is not None
    used = {found.name.partition(".")[0] for found in imports(module) if not found.typing_only} & IO_MODULES
    name = module.partition(".")[2]
    if rank <= SANS_IO_RANK:
        assert used == exceptions().get(name, set())
    else:
        assert name not in exceptions()


@pytest.mark.parametrize("module", sorted(modules("casync_compat")))
def test_command_line_only_in_cli(module: str) -> None:
    """Arguments, environment and exit status are the business of cli (and of the two lines of __main__)."""
    path = modules("casync_compat")[module]
    if module.startswith("casync_compat.cli") or path.name == "__main__.py":
        return
    assert not re.search(r"\bargparse\b|sys\.(argv|exit)|os\.(environ|getenv)|\bprint\(", _code(path))


def _code(path: Path) -> str:
    """A module's source without comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            node.value.value = ""
    return ast.unparse(tree)


def test_one_temporary_file() -> None:
    """Bytes are set aside by `spool` alone, so that where, and what a full disk means, is said once."""
    found = {
        module
        for package, module in ALL
        if re.search(
            r"\b(Spooled|Named)?TemporaryFile\b|\bmemfd_create\b|\bO_TMPFILE\b",
            _code(modules(package)[module]),
        )
    }
    assert found == {"casync_compat.spool", "casync_compat.fs.unnamed"}  # whose files become outputs


def test_one_archive_loop() -> None:
    """Whoever ends directories drives an encoder through a tree: that is `streams.archive`, for whatever source.

    `oci.tar.plan` is another loop: it encodes headers before any payload is read, and notes in a recipe which bytes of
    a tar each payload is.
    """
    found = {module for package, module in ALL if ".end_directory(" in _code(modules(package)[module])}
    assert found == {"casync_compat.streams.archive", "casync_compat.oci.tar.plan"}


@MODULES
def test_no_star_imports(module: str) -> None:
    """Every name says where it is from, and no module is a drawer for odds and ends."""
    assert not re.search(
        r"^\s*from .* import \*", modules(module.partition(".")[0])[module].read_text(), re.M
    )
    assert not re.search(r"(^|\.)(utils?|helpers?|misc)$", module)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_whole(package: str) -> None:
    """`__all__` names what the package imports to give away, in order, and each name is there."""
    module = importlib.import_module(package)
    imported = set()
    for node in ast.walk(ast.parse(modules(package)[package].read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            imported |= {alias.asname or alias.name for alias in node.names}
    assert set(module.__all__) == imported
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("module", [module for module in sorted(modules("catar")) if "._" not in module])
def test_modules_export_what_they_define(module: str) -> None:
    """Each name in a module's `__all__` is there."""
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        assert hasattr(loaded, name), f"{module}.{name}"


def test_errors_are_exported() -> None:
    """Whatever catar raises can be caught by a name from catar itself."""
    for module in modules("catar"):
        if "._" in module:
            continue
        for name, found in inspect.getmembers(importlib.import_module(module), inspect.isclass):
            if issubclass(found, CatarError):
                assert getattr(catar, name, None) is found, f"{module}.{name}"
