"""A limit or field that changes in the schema changes in encoder and decoder, in Python and in C: there is no other
place where it is written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import catar

SOURCES = Path(catar.__file__).parents[1]
NATIVE = (
    *("catar/_decoder.c", "catar/_filling.c", "catar/_goodbye.c"),
    *("casync_compat/_lines.c", "casync_compat/fs/_system.c", "casync_compat/fs/apply/_runs.c"),
    "casync_compat/fs/apply/_updates.c",
)

CHANGES = {
    "USER_NAME_MAX = 256": "USER_NAME_MAX = 12",
    "XATTR_NAME_MAX = 255": "XATTR_NAME_MAX = 20",
    "XATTR_VALUE_MAX = 65536": "XATTR_VALUE_MAX = 100",
    "SYMLINK_MAX = 4096": "SYMLINK_MAX = 64",
    "LABEL_MAX = 4096": "LABEL_MAX = 30",
    "FILENAME_MAX = 4096": "FILENAME_MAX = 40",
    "DEPTH_MAX = 64": "DEPTH_MAX = 5",
    "PAYLOAD_MAX = (1 << 63) - 1": "PAYLOAD_MAX = 1 << 20",
    "DEVICE_MAJOR_MAX = (1 << 12) - 1": "DEVICE_MAJOR_MAX = 7",
    "ID_INVALID = 0xFFFFFFFF": "ID_INVALID = 0xFFFFF",
    "NODE_METADATA_MAX = 64 * 1024 * 1024": "NODE_METADATA_MAX = 1000",
    '"uid" / Int64ul,\n    "gid" / Int64ul,': '"gid" / Int64ul,\n    "spare" / Int64ul,\n    "uid" / Int64ul,',
    '"id" / Int64ul, "permissions" / Int64ul,': '"permissions" / Int64ul, "id" / Int64ul,',
    '"user_obj" / Int64ul,\n': '"spare" / Int64ul,\n    "user_obj" / Int64ul,\n',
    '"major" / Int64ul, "minor" / Int64ul': '"minor" / Int64ul, "major" / Int64ul',
    '"offset" / Int64ul, "size" / Int64ul, "hash"': '"size" / Int64ul, "offset" / Int64ul, "hash"',
    '"entry_offset" / Int64ul, "size" / Int64ul,': '"size" / Int64ul, "entry_offset" / Int64ul,',
    'NODE_ROW = (\n    "mode",': 'NODE_ROW = (\n    "spare",\n    "mode",',
    '"mode", "uid", "gid", "mtime", "size", "place")': '"place", "size", "mtime", "gid", "uid", "mode")',
    '"uid", "gid", "length")': '"length", "gid", "uid")',
}
"""What stands in the schema, and what is put there instead."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of both packages, without native modules, whose layouts are derived from a changed schema."""
    root = tmp_path_factory.mktemp("copy")
    for package in ("catar", "casync_compat"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(SOURCES / package, root / package, ignore=ignored)
    schema = root / "catar" / "schema.py"
    text = schema.read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    schema.write_text(text)
    run(root, "-m", "catar.derive")
    return root


def run(root: Path, *args: str | Path) -> None:
    """Run Python over a copy."""
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *args], env=env, cwd=root, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_python_obeys(copy: Path, tmp_path: Path) -> None:
    """Without native modules."""
    run(copy, Path(__file__).with_name("obeying.py"), "python", tmp_path)


def test_c_obeys(copy: Path, tmp_path: Path) -> None:
    """With native modules that are compiled from the copy."""
    compiler = shutil.which(sysconfig.get_config_var("CC").split()[0]) or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    built = tmp_path / "built"
    shutil.copytree(copy, built)
    flags = ["-O1", "-shared", "-fPIC", "-DPy_LIMITED_API=0x030B0000", f"-I{sysconfig.get_path('include')}"]
    for source in NATIVE:
        target = built / source.replace(".c", ".abi3.so")
        subprocess.run([compiler, *flags, built / source, "-o", target], check=True, timeout=120)
    run(built, Path(__file__).with_name("obeying.py"), "native", tmp_path)
