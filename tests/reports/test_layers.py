"""Reports of image layers: whiteouts, links across layers, odd tars, and layers made to harm."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from grounds import Grounds
from reports.trying import complete
from robustness.running import fails, run, works
from test_oci import rawtar
from test_oci.images import build, layout_at, noise
from test_oci.opened import BOTH, tar

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
"""cap_net_raw=ep"""


@dataclass(frozen=True, slots=True)
class Images:
    """An image of some layers, plain or converted, and what is made of it by the command."""

    at: Path
    thin: bool

    def of(self, *tars: bytes) -> str:
        """Put an image of these layers into a layout. Returns its name."""
        with layout_at(self.at / "layout") as layout:
            build(layout, "plain", tars)
        if not self.thin:
            return "oci:layout:plain"
        complete(
            "oci", "convert", "--thin", "--no-progress", "oci:layout:plain", "oci:layout:thin", cwd=self.at
        )
        return "oci:layout:thin"

    def unpacked(self, *tars: bytes, rootless: bool = True) -> Path:
        """The tree of an image of these layers."""
        options = ["--rootless"] if rootless else []
        works("oci", "unpack", "--no-progress", *options, self.of(*tars), "bundle", cwd=self.at)
        return self.at / "bundle" / "rootfs"


@pytest.fixture(params=[False, True], ids=["plain", "converted"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Images:
    return Images(tmp_path, request.param)


def names(root: Path) -> list[str]:
    """Everything in a tree, by path."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_umoci_29(images: Images) -> None:
    """Hard links are links of one file, never links to a name, also over a layer's border."""
    root = images.unpacked(
        tar(
            rawtar.directory(b"bin/"),
            rawtar.file(b"bin/one", b"data"),
            rawtar.hard_link(b"bin/two", b"bin/one"),
        ),
        tar(rawtar.hard_link(b"three", b"bin/two")),
    )
    found = [(root / name).lstat() for name in ("bin/one", "bin/two", "three")]
    assert {status.st_ino for status in found} == {found[0].st_ino}
    assert {stat.S_IFMT(status.st_mode) for status in found} == {stat.S_IFREG}
    assert found[0].st_nlink == 3


def test_umoci_222(images: Images) -> None:
    """A file that nobody may open is replaced by a later layer, and files in closed directories too."""
    root = images.unpacked(
        tar(
            rawtar.directory(b"etc/"),
            rawtar.file(b"etc/gshadow", b"old", mode=0),
            rawtar.directory(b"shut/", mode=0o500),
            rawtar.file(b"shut/file", b"old", mode=0o400),
        ),
        tar(rawtar.file(b"etc/gshadow", b"new", mode=0), rawtar.file(b"shut/file", b"new", mode=0o400)),
    )
    status = (root / "etc" / "gshadow").lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_size) == (0, 3)
    assert (root / "shut" / "file").read_bytes() == b"new"
    assert stat.S_IMODE((root / "shut").stat().st_mode) == 0o500


def test_umoci_254(images: Images) -> None:
    """A directory's whiteout beside whiteouts of what was in it removes the directory, once."""
    root = images.unpacked(
        tar(rawtar.directory(b"test/"), rawtar.file(b"test/test", b"x"), rawtar.file(b"other", b"y")),
        tar(rawtar.directory(b"./"), rawtar.file(b".wh.test"), rawtar.file(b"test/.wh.test")),
    )
    assert not (root / "test" / "test").exists()
    assert (root / "other").read_bytes() == b"y"
    assert not [name for name in names(root) if ".wh." in name]


def test_umoci_546(images: Images) -> None:
    """A path through what was a file makes a directory of it, and touches nothing else."""
    root = images.unpacked(
        tar(rawtar.file(b"opt", b"a file"), rawtar.file(b"beside", b"kept")),
        tar(rawtar.file(b"opt/tool/bin", b"tool")),
    )
    assert (root / "opt" / "tool" / "bin").read_bytes() == b"tool"
    assert (root / "beside").read_bytes() == b"kept"


def test_stereoscope_694(images: Images) -> None:
    """An opaque directory in the place of a link hides the link, not what the link pointed to."""
    root = images.unpacked(
        tar(
            rawtar.directory(b"target/"),
            rawtar.file(b"target/keep", b"k"),
            rawtar.symlink(b"link", b"/target"),
        ),
        tar(rawtar.directory(b"link/"), rawtar.file(b"link/.wh..wh..opq"), rawtar.file(b"link/new", b"n")),
    )
    assert names(root) == ["link", "link/new", "target", "target/keep"]
    assert not (root / "link").is_symlink()


def test_e2b_infra_3215(images: Images) -> None:
    """Links that point above the root mean the root; they are kept as written and lead nowhere outside."""
    root = images.unpacked(
        tar(
            rawtar.directory(b"a/b/"),
            rawtar.symlink(b"up", b"/../../a/b"),
            rawtar.symlink(b"a/out", b"../../../../a/b"),
        ),
        tar(rawtar.file(b"up/one", b"1"), rawtar.file(b"a/out/two", b"2")),
    )
    assert os.readlink(root / "up") == "/../../a/b"
    assert os.readlink(root / "a" / "out") == "../../../../a/b"
    assert (root / "a" / "b" / "one").read_bytes() == b"1"
    assert (root / "a" / "b" / "two").read_bytes() == b"2"


@pytest.mark.parametrize("first", [True, False])
def test_containerd_6991(images: Images, first: bool) -> None:
    """An opaque mark hides what lower layers have, and nothing of its own layer, wherever in the layer it stands."""
    mark = rawtar.file(b"doc/curl/.wh..wh..opq")
    own = (rawtar.symlink(b"doc/curl/changelog", b"../x"), rawtar.file(b"doc/curl/copyright", b"new"))
    root = images.unpacked(
        tar(
            rawtar.directory(b"doc/curl/"),
            rawtar.file(b"doc/curl/copyright", b"old"),
            rawtar.file(b"doc/curl/old"),
        ),
        tar(rawtar.directory(b"doc/curl/"), *((mark, *own) if first else (*own, mark))),
    )
    assert names(root) == ["doc", "doc/curl", "doc/curl/changelog", "doc/curl/copyright"]
    assert (root / "doc" / "curl" / "copyright").read_bytes() == b"new"


def test_containerd_13030(images: Images) -> None:
    """What a later layer deleted is gone, however many layers there are and threads that fetch them."""
    made = [tar(rawtar.file(b"f%d" % number, noise(5000, number))) for number in range(6)]
    gone = [tar(rawtar.file(b".wh.f%d" % number)) for number in range(0, 6, 2)]
    again = tar(rawtar.file(b"f0", b"again"))
    root = images.unpacked(*made, *gone, again)
    assert names(root) == ["f0", "f1", "f3", "f5"]
    assert (root / "f0").read_bytes() == b"again"


def test_containerd_3762(images: Images) -> None:
    """Whiteouts and opaque marks need no device and no privilege: without either the tree is the same."""
    root = images.unpacked(
        tar(rawtar.directory(b"etc/ca/"), rawtar.file(b"etc/ca/old", b"o"), rawtar.file(b"etc/gone", b"g")),
        tar(rawtar.directory(b"etc/ca/"), rawtar.file(b"etc/ca/.wh..wh..opq"), rawtar.file(b"etc/.wh.gone")),
        rootless=True,
    )
    assert names(root) == ["etc", "etc/ca"]
    assert os.listxattr(root / "etc" / "ca") == []


def test_apple_container_1797(images: Images) -> None:
    """Directories that no member announces are made, for hard links as for files."""
    root = images.unpacked(
        tar(
            rawtar.file(b"bin/app", b"elf", mode=0o755),
            rawtar.hard_link(b"bin/app.runfiles/_main/app_/app", b"bin/app"),
            rawtar.symlink(b"lib/deep/er/link", b"x"),
        )
    )
    assert (root / "bin" / "app.runfiles" / "_main" / "app_" / "app").samefile(root / "bin" / "app")
    assert stat.S_IMODE((root / "lib" / "deep").stat().st_mode) == 0o755


def test_moby_4178(images: Images) -> None:
    """Files that a union file system kept aside are no part of the tree, but links to them have their contents."""
    root = images.unpacked(
        tar(
            rawtar.directory(b".wh..wh.plnk/"),
            rawtar.file(b".wh..wh.plnk/123.456", b"contents", mode=0o640),
            rawtar.hard_link(b"usr/one", b".wh..wh.plnk/123.456"),
            rawtar.hard_link(b"usr/two", b".wh..wh.plnk/123.456"),
        )
    )
    assert names(root) == ["usr", "usr/one", "usr/two"]
    assert (root / "usr" / "one").read_bytes() == b"contents"
    assert (root / "usr" / "two").samefile(root / "usr" / "one")


def test_moby_8813(images: Images) -> None:
    """Marks of a union file system are in no tree, while the layer itself stays as it was, to the bit."""
    layer = tar(rawtar.directory(b".wh..wh.orph/"), rawtar.file(b".wh..wh.aufs"), rawtar.file(b"file", b"f"))
    root = images.unpacked(layer)
    assert names(root) == ["file"]
    name = "thin" if images.thin else "plain"
    if images.thin:
        works(
            "oci", "export", "--no-progress", f"oci:layout:{name}", "docker-archive:back.tar", cwd=images.at
        )
        with tarfile.open(images.at / "back.tar") as archive:
            inner = [archive.extractfile(member) for member in archive if member.isfile()]
            assert layer in [file.read() for file in inner if file is not None]


def test_docker2aci_98(images: Images) -> None:
    """A hard link outlives the name it was a link of, when a later layer removes that."""
    root = images.unpacked(
        tar(rawtar.file(b"LINK-A", b"data"), rawtar.hard_link(b"LINK-Z", b"LINK-A")),
        tar(rawtar.file(b".wh.LINK-A")),
    )
    assert names(root) == ["LINK-Z"]
    assert (root / "LINK-Z").read_bytes() == b"data"


def test_moby_48140(images: Images) -> None:
    """A link in one layer to a file of an earlier one is that file, and takes its room once."""
    data = noise(200_000)
    root = images.unpacked(
        tar(rawtar.directory(b"src/"), rawtar.file(b"src/file", data)),
        tar(rawtar.hard_link(b"src/again", b"src/file")),
        tar(rawtar.hard_link(b"third", b"src/again")),
    )
    assert (root / "third").samefile(root / "src" / "file")
    assert (root / "third").stat().st_nlink == 3
    assert (root / "third").read_bytes() == data


def test_nydus_2006(images: Images) -> None:
    """A hard link to a symbolic link is a symbolic link."""
    root = images.unpacked(
        tar(
            rawtar.file(b"file", b"f"), rawtar.symlink(b"sym", b"file"), rawtar.hard_link(b"sym-link", b"sym")
        )
    )
    assert os.readlink(root / "sym-link") == "file"
    assert (root / "sym-link").lstat().st_ino == (root / "sym").lstat().st_ino


def test_nydus_1679(images: Images) -> None:
    """An opaque directory stays opaque through a conversion, in listings as in trees."""
    name = images.of(
        tar(rawtar.directory(b"app/"), rawtar.file(b"app/old", b"o"), rawtar.file(b"keep", b"k")),
        tar(rawtar.directory(b"app/"), rawtar.file(b"app/.wh..wh..opq"), rawtar.file(b"app/new", b"n")),
    )
    assert works("oci", "ls", name, "/app", cwd=images.at).out.split() == [b"app/new"]
    assert run("oci", "cat", name, "app/old", cwd=images.at).status == 1
    assert works("oci", "cat", name, "keep", cwd=images.at).out == b"k"


@pytest.mark.root
def test_nerdctl_4332(images: Images, ground: Grounds) -> None:
    """Extended attributes and capabilities of members are there after conversion and unpacking."""
    at = Images(ground("images"), images.thin)
    note, caps = rawtar.xattr(b"user.note", b"n\0x"), rawtar.xattr(b"security.capability", CAPABILITY)
    root = at.unpacked(
        tar(
            rawtar.pax([note, caps]) + rawtar.file(b"ping", b"elf", mode=0o755, uid=7, gid=8),
            rawtar.pax([note]) + rawtar.directory(b"d/"),
        ),
        rootless=False,
    )
    assert os.getxattr(root / "ping", "user.note") == b"n\0x"
    assert os.getxattr(root / "ping", "security.capability") == CAPABILITY
    assert (root / "ping").stat().st_uid == 7
    assert os.getxattr(root / "d", "user.note") == b"n\0x"


def test_libarchive_2562(images: Images) -> None:
    """Times before 1970 in extended headers are times before 1970."""
    root = images.unpacked(
        tar(
            rawtar.pax([(b"mtime", b"-2146608000")]) + rawtar.file(b"old", b"o"),
            rawtar.pax([(b"mtime", b"-1.25")]) + rawtar.file(b"late", b"l"),
            rawtar.pax([(b"mtime", b"4294967296.123456789")]) + rawtar.file(b"new", b"n"),
        )
    )
    times = [(root / name).stat().st_mtime_ns for name in ("old", "late", "new")]
    assert times == [-2146608000 * 10**9, -1_250_000_000, 4_294_967_296_123_456_789]


def test_desync_210(images: Images) -> None:
    """Members in whatever order are all unpacked: children before parents, directories twice."""
    root = images.unpacked(
        tar(
            rawtar.symlink(b"./a/b/node_modules/.bin/tool", b"../../node_modules/tool"),
            rawtar.directory(b"./a/b/node_modules/", mode=0o750),
            rawtar.file(b"./node_modules/z", b"z"),
            rawtar.directory(b"./a/", mode=0o700, mtime=5),
            rawtar.file(b"./a/b/file", b"f"),
            rawtar.directory(b"./node_modules/", mode=0o711),
            rawtar.file(b"./node_modules/a", b"a"),
        )
    )
    assert names(root) == [
        *("a", "a/b", "a/b/file", "a/b/node_modules", "a/b/node_modules/.bin", "a/b/node_modules/.bin/tool"),
        *("node_modules", "node_modules/a", "node_modules/z"),
    ]
    modes = {
        name: stat.S_IMODE((root / name).stat().st_mode) for name in ("a", "a/b/node_modules", "node_modules")
    }
    assert modes == {"a": 0o700, "a/b/node_modules": 0o750, "node_modules": 0o711}
    assert (root / "a").stat().st_mtime_ns == 5 * 10**9


def test_mastra_17953(images: Images) -> None:
    """A header that changes the next file's size does not change the header that stands between them."""
    long = b"long/" + b"n" * 120
    for number, between in enumerate(
        (rawtar.gnu_long(long), rawtar.gnu_long(b"target", b"K") + rawtar.gnu_long(long))
    ):
        layer = tar(
            rawtar.pax([(b"size", b"2048")]) + between + rawtar.header(b"short", 16) + noise(2048),
            rawtar.file(b"after", b"there"),
        )
        at = Images(images.at / str(number), images.thin)
        at.at.mkdir()
        outcome = run("oci", "unpack", "--rootless", "--no-progress", at.of(layer), "bundle", cwd=at.at)
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            expected = {member.name: member.size for member in archive}
        assert outcome.status == 0, outcome
        root = at.at / "bundle" / "rootfs"
        found = {name: (root / name).stat().st_size for name in names(root) if (root / name).is_file()}
        assert found["after"] == 5
        assert set(found) == set(expected)


@BOTH
def test_boxlite_1372(tmp_path: Path, thin: bool) -> None:
    """A small layer that grows beyond a limit is refused before the disk is full, and leaves nothing."""
    name = Images(tmp_path, thin).of(tar(rawtar.file(b"bomb", bytes(64 << 20))))
    stored = sum(path.stat().st_size for path in (tmp_path / "layout" / "blobs").rglob("*") if path.is_file())
    assert stored < 4 << 20
    words = ("oci", "unpack", "--rootless", "--no-progress", "--max-size=1M", name, "bundle")
    assert "max-size" in fails(*words, cwd=tmp_path, memory=300 << 20)
    assert not (tmp_path / "bundle").exists()
    line = fails(
        *("oci", "convert", "--no-progress", "--max-layer-size=1M", "oci:layout:plain", "oci:out:x"),
        cwd=tmp_path,
    )
    assert "larger than 1048576 bytes" in line
    assert run("oci", "ls", "oci:out:x", cwd=tmp_path).status == 1


def test_hypeman_456(images: Images) -> None:
    """A layer that plants a link and writes through it stays within the tree."""
    outside = images.at / "outside"
    outside.mkdir()
    (outside / "passwd").write_bytes(b"untouched")
    where = os.fsencode(outside)
    root = images.unpacked(
        tar(
            rawtar.symlink(b"abs", where),
            rawtar.symlink(b"rel", b"../" * 30 + where.lstrip(b"/")),
            rawtar.file(b"abs/passwd", b"inside"),
            rawtar.file(b"rel/new", b"inside"),
            rawtar.hard_link(b"shared", b"abs/passwd"),
        ),
        tar(rawtar.file(b"abs/.wh.passwd"), rawtar.file(b"/abs/again", b"inside")),
    )
    assert (root / "shared").read_bytes() == b"inside"
    assert (
        run("oci", "unpack", images.of(tar(rawtar.file(b"../up", b"evil"))), "two", cwd=images.at).status == 1
    )
    assert os.listdir(outside) == ["passwd"]
    assert (outside / "passwd").read_bytes() == b"untouched"
    assert (outside / "passwd").stat().st_nlink == 1
    assert not list(images.at.rglob("up"))
