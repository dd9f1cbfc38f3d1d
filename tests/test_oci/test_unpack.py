"""Unpacking to a bundle: the tree is what the layers say, the configuration what the image says, nothing is outside."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import posix1e
import pytest
from test_oci import rawtar
from test_oci.images import blob_file, flip, layout_at
from test_oci.opened import BOTH, NESTED, converted, opened, tar

from casync_compat.errors import CasyncError, FileError
from casync_compat.oci.image.tree import ImageTree
from casync_compat.oci.places.selection import look_up
from casync_compat.oci.rootfs.merge import MergeLimits
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.spec.manifest import ImageManifest
from casync_compat.oci.spec.runtime import Rootless, Users, runtime_config
from casync_compat.oci.spec.wrapper import Wrapper
from casync_compat.oci.unpack import UnpackOptions, unpack

IS_ROOT = os.geteuid() == 0


def unpacked(tmp_path: Path, *tars: bytes, thin: bool = True, rootless: bool = True) -> Path:
    """The `rootfs` of an image of these layers."""
    with opened(tmp_path / "layout", tars, thin) as image:
        unpack(image, bytes(tmp_path / "bundle"), UnpackOptions(rootless=rootless))
    return tmp_path / "bundle" / "rootfs"


@BOTH
def test_tree(tmp_path: Path, thin: bool) -> None:
    """Contents, links, modes and times are those of the layers, whiteouts and links across layers included."""
    root = unpacked(tmp_path, *NESTED, thin=thin)
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert found == [
        *(
            "bin",
            "etc",
            "etc/empty",
            "etc/new",
            "etc/passwd",
            "etc/sparse",
            "fifo",
            "locked",
            "locked/passwd",
        ),
        *("usr", "usr/bin", "usr/bin/link", "usr/bin/tool", "usr/bin/tool2"),
    ]
    assert (root / "usr/bin/tool").read_bytes() == b"\x7fELF" + b"t" * 100_000
    assert (root / "etc/sparse").read_bytes() == bytes(4096) + b"middle" + bytes((1 << 20) - 4102)
    assert (root / "etc/sparse").stat().st_blocks < 64
    same = [(root / name).stat() for name in ("etc/passwd", "usr/bin/link", "locked/passwd")]
    assert {st.st_ino for st in same} == {same[0].st_ino}
    assert same[0].st_nlink == 3
    assert (root / "usr/bin/tool").samefile(root / "usr/bin/tool2")
    times = {"": 5, "etc": 1_600_000_000, "etc/passwd": 77, "etc/new": 88, "locked": 66, "bin": 9}
    assert {name: (root / name).lstat().st_mtime_ns for name in times} == {
        name: time * 10**9 for name, time in times.items()
    }
    modes = {"usr/bin/tool": 0o755, "locked": 0o500, "fifo": 0o640}
    assert {name: stat.S_IMODE((root / name).stat().st_mode) for name in modes} == modes


def test_bundle_is_its_owners_alone(tmp_path: Path) -> None:
    """Set-user-id programs of an image are out of the reach of other users of this machine."""
    root = unpacked(tmp_path, tar(rawtar.file(b"su", b"x", mode=0o4755)))
    assert stat.S_IMODE(root.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o4755


@pytest.mark.root
@BOTH
def test_owners_devices_and_attributes(tmp_path: Path, thin: bool) -> None:
    """Root gets owners, devices and attributes of all kinds, those of symlinks and special files too."""
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    attributes = rawtar.pax(
        [rawtar.xattr(b"trusted.x", b"\0y"), rawtar.xattr(b"security.capability", capability)]
    )
    trusted = rawtar.pax([rawtar.xattr(b"trusted.x", b"z"), rawtar.xattr(b"security.selinux", b"no")])
    root = unpacked(
        tmp_path,
        tar(
            rawtar.directory(b"d", uid=65535, gid=1 << 31, mtime=-(10**6)),
            attributes + rawtar.file(b"d/f", b"x", uid=1, gid=70_000, mode=0o6755),
            trusted + rawtar.symlink(b"d/l", b"f", uid=2, gid=3),
            trusted + rawtar.header(b"d/null", 0, b"3", device=(1, 3), uid=4, mode=0o666),
            rawtar.header(b"d/disk", 0, b"4", device=(4095, 1048575), mode=0o660),
        ),
        thin=thin,
        rootless=False,
    )
    owners = {"d": (65535, 1 << 31), "d/f": (1, 70_000), "d/l": (2, 3), "d/null": (4, 0)}
    found = {name: (root / name).lstat() for name in owners}
    assert {name: (st.st_uid, st.st_gid) for name, st in found.items()} == owners
    assert stat.S_IMODE(found["d/f"].st_mode) == 0o6755
    assert found["d"].st_mtime_ns == -(10**15)
    assert os.getxattr(root / "d/f", "security.capability") == capability
    for name, value in (("d/f", b"\0y"), ("d/l", b"z"), ("d/null", b"z")):
        assert os.getxattr(root / name, "trusted.x", follow_symlinks=False) == value
        assert "security.selinux" not in os.listxattr(root / name, follow_symlinks=False)
    devices = [(root / name).stat().st_rdev for name in ("d/null", "d/disk")]
    assert devices == [os.makedev(1, 3), os.makedev(4095, 1048575)]


ACL = b"user::rwx,user:33:r-x,group::---,mask::r-x,other::---"
BAD_ACL = ACL.replace(b"33", b"www-data")


@BOTH
def test_acls_as_text(tmp_path: Path, thin: bool) -> None:
    """ACLs that layers have as text are restored when that is asked for; what is none is told once and left out."""
    default = [(b"SCHILY.acl.access", ACL), (b"SCHILY.acl.default", ACL)]
    layer = tar(
        rawtar.pax(default) + rawtar.directory(b"d", mode=0o750),
        rawtar.pax(default) + rawtar.file(b"f", mode=0o750),
        rawtar.pax([(b"SCHILY.acl.access", BAD_ACL)]) + rawtar.file(b"named", mode=0o750),
        rawtar.pax([(b"SCHILY.acl.default", b"\xff")]) + rawtar.directory(b"odd", mode=0o750),
        rawtar.pax(default) + rawtar.symlink(b"l", b"f"),
    )
    for acls in (False, True):
        warnings: list[str] = []
        bundle = tmp_path / f"bundle-{acls}"
        with opened(tmp_path / f"layout-{acls}", [layer], thin) as image:
            options = UnpackOptions(rootless=True, acls=acls)
            result = unpack(image, bytes(bundle), options, warn=warnings.append)
        assert [(kind.kind, kind.count) for kind in result.left_out] == [("ACLs", 2)] * acls
        root = bundle / "rootfs"
        found = {name for name in os.listdir(root) if posix1e.has_extended(os.fspath(root / name))}
        assert found == ({"d", "f", "l"} if acls else set())
        assert posix1e.ACL(filedef=os.fspath(root / "d")).valid() == acls
        assert {stat.S_IMODE((root / name).stat().st_mode) for name in ("d", "f", "named", "odd")} == {0o750}
        assert len(warnings) == 2 * acls
    assert warnings[0].startswith("2 ACLs of the image are left out; of the first: ")
    text = posix1e.ACL(file=os.fspath(root / "f")).to_any_text("", b",", posix1e.TEXT_NUMERIC_IDS)
    assert text == ACL


def test_rootless_leaves_out(tmp_path: Path) -> None:
    """Without privilege owners and devices are left out, which is said once; modes that lock out the owner are kept."""
    warnings: list[str] = []
    layer = tar(
        rawtar.directory(b"shut", mode=0, uid=1),
        rawtar.file(b"shut/f", b"x", uid=1),
        rawtar.hard_link(b"zlink", b"shut/f"),
        rawtar.header(b"null", 0, b"3", device=(1, 3)),
    )
    with opened(tmp_path / "layout", [layer]) as image:
        unpack(image, bytes(tmp_path / "bundle"), UnpackOptions(rootless=True), warn=warnings.append)
    root = tmp_path / "bundle" / "rootfs"
    assert stat.S_IMODE((root / "shut").stat().st_mode) == 0
    assert (root / "zlink").stat().st_uid == os.geteuid()
    assert (root / "zlink").stat().st_nlink == 2
    if not IS_ROOT:  # for whom the kernel makes it all the same
        assert not (root / "null").exists()
        assert warnings == ["not restored, which takes root: device nodes (1)"]


# Hostile layers


def _link(name: bytes, target: bytes) -> bytes:
    """A symlink with a target of any length."""
    return rawtar.gnu_long(target, b"K") + rawtar.symlink(name, b"")


@BOTH
@pytest.mark.parametrize(
    "members",
    [
        [rawtar.file(b"../escaped", b"x")],
        [rawtar.file(b"a/../../escaped", b"x")],
        [rawtar.file(b"secret", b"x"), rawtar.hard_link(b"a", b"../outside/secret")],
        [rawtar.hard_link(b"a", b"/../outside/secret")],
        [rawtar.hard_link(b"a", b"outside/secret")],
        [rawtar.symlink(b"d", b"../../outside"), rawtar.hard_link(b"a", b"d/secret")],
        [rawtar.symlink(b".", b"/etc")],
        [rawtar.file(b".wh.", b"")],
    ],
)
def test_refused_layers(tmp_path: Path, thin: bool, members: list[bytes]) -> None:
    """Names and links that would leave the root are errors; no bundle is left, and nothing is touched outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("mine")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ImageError):
        unpacked(tmp_path, tar(*members), thin=thin)
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "layout"])
    assert (outside / "secret").stat().st_nlink == 1


@BOTH
def test_links_out_of_the_root_stay_inside(tmp_path: Path, thin: bool) -> None:
    """What lies beneath a symlink to a place outside is written to that place inside, or replaces the link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    target = os.fsencode(outside)
    root = unpacked(
        tmp_path,
        tar(
            _link(b"absolute", target),
            _link(b"relative", b"../" * 40 + target.lstrip(b"/")),
            _link(b"file", target + b"/file"),
        ),
        tar(
            rawtar.file(b"absolute/a", b"1"),
            rawtar.file(b"relative/b", b"2"),
            rawtar.file(b"file", b"3"),
            rawtar.file(b"/abs/c", b"4"),
        ),
        thin=thin,
    )
    assert os.listdir(outside) == []
    inside = root / str(outside).lstrip("/")
    assert ((inside / "a").read_text(), (inside / "b").read_text()) == ("1", "2")
    assert not (root / "file").is_symlink()
    assert (root / "abs" / "c").read_text() == "4"


def test_whiteout_through_a_link(tmp_path: Path) -> None:
    """A whiteout beneath a symlink removes what is at that place inside, and nothing outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("mine")
    lower = tar(
        _link(b"d", os.fsencode(outside)),
        rawtar.file(b"e/secret", b"x"),
        rawtar.symlink(b"f", b"/e"),
    )
    root = unpacked(tmp_path, lower, tar(rawtar.file(b"d/.wh.secret"), rawtar.file(b"f/.wh.secret")))
    assert (outside / "secret").read_text() == "mine"
    assert os.listdir(root / "e") == []


@pytest.mark.parametrize(
    ("limits", "members"),
    [
        (MergeLimits(entries=100), [rawtar.file(b"%d" % n) for n in range(101)]),
        (MergeLimits(depth=20), [rawtar.file(b"d/" * 21 + b"f", b"x")]),
        (MergeLimits(size=1000), [rawtar.file(b"f", b"x" * 1001)]),
        (MergeLimits(size=1000), [rawtar.file(b"f%d" % n, b"x" * 600) for n in range(2)]),
    ],
)
@BOTH
def test_bombs(tmp_path: Path, thin: bool, limits: MergeLimits, members: list[bytes]) -> None:
    """Images with too many, too deep or too large files are refused before anything is written."""
    with (
        opened(tmp_path / "layout", [tar(*members)], thin, limits=limits) as image,
        pytest.raises(ImageError, match=r"more than|deeper"),
    ):
        unpack(image, bytes(tmp_path / "bundle"))
    assert os.listdir(tmp_path) == ["layout"]


def test_large_hole_costs_nothing(tmp_path: Path) -> None:
    """A file of many gigabytes that is one hole is a hole again, and takes no time."""
    root = unpacked(tmp_path, tar(rawtar.sparse_10(b"f", 1 << 37, [(1 << 36, b"x")])), thin=False)
    assert (root / "f").stat().st_size == 1 << 37
    assert (root / "f").stat().st_blocks < 64


# Failures


def test_errors_name_the_bundle(tmp_path: Path) -> None:
    """A file that cannot be written is named as it would have been in the bundle."""
    with (
        opened(
            tmp_path / "layout", [tar(rawtar.gnu_long(b"d/" + b"n" * 300) + rawtar.file(b"n"))], False
        ) as image,
        pytest.raises(FileError, match=f"{tmp_path}/bundle/rootfs/d/n+: cannot create"),
    ):
        unpack(image, bytes(tmp_path / "bundle"))
    assert os.listdir(tmp_path) == ["layout"]


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    """When a chunk cannot be had halfway, the error says which, and no bundle is there."""
    converted(tmp_path / "layout", NESTED)
    layout = layout_at(tmp_path / "layout")
    found = look_up(layout, "image")
    manifest = ImageManifest.parse(layout.read_manifest(found.root), "image")
    for pack in Wrapper.of(manifest, "image").packs:
        flip(blob_file(layout, pack), 20)
    with (
        ImageTree.open(layout, "image", where="image") as image,
        pytest.raises(CasyncError, match="chunk"),
    ):
        unpack(image, bytes(tmp_path / "bundle"))
    assert os.listdir(tmp_path) == ["layout"]


@pytest.mark.parametrize("there", ["file", "link", "full"])
def test_bundle_must_be_new(tmp_path: Path, there: str) -> None:
    """Whatever has the bundle's name already stays as it is."""
    bundle = tmp_path / "bundle"
    if there == "file":
        bundle.write_text("mine")
    elif there == "link":
        (tmp_path / "target").mkdir()
        bundle.symlink_to("target")
    else:
        bundle.mkdir()
        (bundle / "mine").touch()
    before = sorted(map(str, tmp_path.rglob("*")))
    with opened(tmp_path / "layout", NESTED) as image, pytest.raises(FileError, match="cannot write"):
        unpack(image, bytes(bundle))
    after = sorted(str(path) for path in tmp_path.rglob("*") if "layout" not in path.parts)
    assert after == before


def test_empty_bundle_directory_is_used(tmp_path: Path) -> None:
    """An empty directory is as good as none, and a parent that is reached by a symlink as good as any."""
    (tmp_path / "real" / "bundle").mkdir(parents=True)
    (tmp_path / "way").symlink_to("real")
    with opened(tmp_path / "layout", NESTED) as image:
        unpack(image, bytes(tmp_path / "way" / "bundle"))
    assert sorted(os.listdir(tmp_path / "real")) == ["bundle"]
    assert sorted(os.listdir(tmp_path / "real" / "bundle")) == ["config.json", "rootfs"]


def test_verify(tmp_path: Path) -> None:
    """With `verify` an image is unpacked as without, if its layers are what its config says."""
    with opened(tmp_path / "layout", NESTED) as image:
        unpack(image, bytes(tmp_path / "bundle"), UnpackOptions(verify=True))
    assert (tmp_path / "bundle" / "rootfs" / "etc" / "new").read_text() == "new"


# config.json


def test_config_in_bundle(tmp_path: Path) -> None:
    """The bundle has the configuration that follows from the image config."""
    unpacked(tmp_path, *NESTED, rootless=not IS_ROOT)
    document = json.loads((tmp_path / "bundle" / "config.json").read_text())
    assert document["root"] == {"path": "rootfs"}
    assert document["process"]["args"] == ["/bin/true"]
    assert "HOME=/root" in document["process"]["env"]
    assert document["annotations"]["org.opencontainers.image.architecture"] == "amd64"


NOBODY = Users(b"", b"")
USERS = Users(
    b"# no user\nroot:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken:x\nbad:x:y:z:::\n",
    b"root:x:0:\napp:x:1001:\nextra:x:77:other,app\nmore:x:78:app\nnot:x:79:apps\n",
)


@pytest.mark.parametrize(
    ("spec", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, (), "/root"),
        ("root", 0, 0, (), "/root"),
        ("app", 1000, 1001, (77, 78), "/home/app"),
        ("1000", 1000, 1001, (77, 78), "/home/app"),
        ("app:extra", 1000, 77, (), "/home/app"),
        ("app:5", 1000, 5, (), "/home/app"),
        ("4242", 4242, 0, (), ""),
        ("4242:extra", 4242, 77, (), ""),
        (":extra", 0, 77, (), "/root"),
    ],
)
def test_users(spec: str, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
    """Users and groups are those of the image's own files, by name or number."""
    found = USERS.identity(spec, "image")
    assert (found.uid, found.gid, found.groups, found.home) == (uid, gid, groups, home)


@pytest.mark.parametrize("spec", ["nobody", "app:nobody", "99999999999", "0:2147483648", "bad"])
def test_unknown_users(spec: str) -> None:
    """A user that the image does not have is an error, not root."""
    with pytest.raises(ImageError):
        USERS.identity(spec, "image")


def test_runtime_config() -> None:
    """Arguments, environment, volumes, ports and labels go where the image specification says."""
    image = {
        "os": "linux",
        "architecture": "arm64",
        "variant": "v8",
        "author": "me",
        "config": {
            "User": "app",
            "Env": ["PATH=/bin", "A=1=2", "HOME=/elsewhere"],
            "Entrypoint": ["/bin/sh"],
            "Cmd": ["-c", "true"],
            "WorkingDir": "/srv",
            "Volumes": {"/data": {}, "/cache": {}},
            "ExposedPorts": {"443/tcp": {}, "80/tcp": {}},
            "StopSignal": "SIGINT",
            "Labels": {"x": "y", "org.opencontainers.image.author": "label"},
        },
    }
    document = runtime_config(image, USERS, "image")
    process = document["process"]
    assert process["args"] == ["/bin/sh", "-c", "true"]
    assert process["env"] == ["PATH=/bin", "TERM=xterm", "A=1=2", "HOME=/elsewhere"]
    assert (process["cwd"], process["user"]) == (
        "/srv",
        {"uid": 1000, "gid": 1001, "additionalGids": [77, 78]},
    )
    assert [mount["destination"] for mount in document["mounts"]][-2:] == ["/cache", "/data"]
    assert document["annotations"] == {
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.architecture": "arm64",
        "org.opencontainers.image.variant": "v8",
        "org.opencontainers.image.author": "label",
        "org.opencontainers.image.stopSignal": "SIGINT",
        "org.opencontainers.image.exposedPorts": "443/tcp,80/tcp",
        "x": "y",
    }


def test_rootless_runtime_config() -> None:
    """A rootless container has a user namespace and none of what one forbids."""
    document = runtime_config({"config": None}, NOBODY, "image", Rootless(1000, 1001, True, ("nosuid",)))
    namespaces = [one["type"] for one in document["linux"]["namespaces"]]
    assert "user" in namespaces
    assert "network" not in namespaces
    assert document["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert document["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 1001, "size": 1}]
    assert "resources" not in document["linux"]
    assert not [
        option for mount in document["mounts"] for option in mount.get("options", ()) if "gid=" in option
    ]
    assert document["mounts"][-1]["options"] == ["nosuid", "rbind", "ro"]
    assert document["process"]["args"] == ["sh"]


@pytest.mark.parametrize(
    "image",
    [
        {"os": "windows"},
        {"config": []},
        {"config": {"Env": ["NAME"]}},
        {"config": {"Env": ["=value"]}},
        {"config": {"Env": "A=1"}},
        {"config": {"Cmd": [1]}},
        {"config": {"User": 0, "Cmd": {}}},
        {"config": {"WorkingDir": ["/"]}},
        {"config": {"Volumes": ["/data"]}},
        {"config": {"Labels": {"a": 1}}},
        {"author": 5},
    ],
)
def test_malformed_configs(image: dict[str, object]) -> None:
    """A config that is not what the specification says is an error, and not a container with something left out."""
    with pytest.raises(ImageError):
        runtime_config(image, NOBODY, "image")
