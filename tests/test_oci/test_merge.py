"""Merging layers: whiteouts, replacements, hard links and symlinked parents, as containers see them."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casync_compat.oci.rootfs.merge import MergeLimits, Merger
from casync_compat.oci.rootfs.mergedtree import Inode, MergedTree
from casync_compat.oci.spec.errors import ImageError
from casync_compat.oci.tar.reader import HARD_LINK, UNKNOWN, Member

REG, DIR, LNK, CHR = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR


def member(path: str, kind: int = REG, link: str = "", *, uid: int = 0, size: int = 0) -> Member:
    """A member whose `uid` tells it from others."""
    size = size if kind == REG else 0
    return Member(
        *(0, 0, 512, size, 512 + size, path.encode(), kind, b"0", link.encode(), 0o644, uid, 0, 0, (0, 0)),
        *(size, None, (), None, b"", b""),
    )


def directory(path: str, *, uid: int = 0) -> Member:
    return member(path, DIR, uid=uid)


def symlink(path: str, target: str) -> Member:
    return member(path, LNK, target)


def link(path: str, target: str) -> Member:
    return member(path, HARD_LINK, target)


def merged(*layers: Iterable[Member], limits: MergeLimits | None = None) -> MergedTree:
    merger = Merger("image", limits)
    for layer in layers:
        merger.apply(layer)
    return merger.finish()


def names(tree: MergedTree) -> list[str]:
    return [path.decode() for path, inode in tree.walk() if inode is not None]


def at(tree: MergedTree, path: str) -> Inode:
    return tree.find(path.encode(), follow=False)


def test_upper_layer_wins() -> None:
    """A file takes the place of the one below; what only one layer has is there."""
    tree = merged(
        [directory("etc"), member("etc/a", uid=1), member("etc/b", uid=1)], [member("etc/a", uid=2)]
    )
    assert names(tree) == ["etc", "etc/a", "etc/b"]
    assert (at(tree, "etc/a").uid, at(tree, "etc/b").uid) == (2, 1)


@pytest.mark.parametrize("name", ["etc/a", "./etc/a", "/etc/a", "/./etc//a", "x/../etc/a", "etc/b/.././a"])
def test_names_are_beneath_the_root(name: str) -> None:
    """However a name is written, it means a place beneath the root."""
    assert names(merged([member(name)])) == ["etc", "etc/a"]


def test_directories_merge() -> None:
    """A directory over a directory changes its owner and keeps what is in it."""
    tree = merged([directory("d", uid=1), member("d/a")], [directory("d", uid=2), member("d/b")])
    assert names(tree) == ["d", "d/a", "d/b"]
    assert at(tree, "d").uid == 2


def test_directory_over_file_and_back() -> None:
    """What stands in the place of another kind goes with everything in it."""
    tree = merged([member("a"), directory("b"), member("b/x")], [directory("a"), member("b")])
    assert names(tree) == ["a", "b"]
    assert at(tree, "a").is_dir
    assert not at(tree, "b").is_dir


def test_directory_replaces_a_symlink() -> None:
    """A directory entry replaces a link to a directory rather than merging with what it leads to."""
    tree = merged([directory("usr"), symlink("lib", "usr"), member("usr/a")], [directory("lib")])
    assert names(tree) == ["lib", "usr", "usr/a"]
    assert at(tree, "lib").is_dir


def test_opaque_directory_in_place_of_a_symlink() -> None:
    """The whiteout of the new directory does not reach through the link that stood there before."""
    tree = merged(
        [directory("usr"), symlink("lib", "usr"), member("usr/a")],
        [directory("lib"), member("lib/.wh..wh..opq"), member("lib/b")],
    )
    assert names(tree) == ["lib", "lib/b", "usr", "usr/a"]


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_whiteout_spares_its_own_layer(whiteout_first: bool) -> None:
    """A whiteout removes the entry from below, and not the one beside it, on whichever side of it that stands."""
    upper = [member(".wh.a"), member("a", uid=2)]
    tree = merged([member("a", uid=1)], upper if whiteout_first else upper[::-1])
    assert at(tree, "a").uid == 2


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_whiteout_of_a_directory_that_is_filled_again(whiteout_first: bool) -> None:
    """Of a directory that is whited out and has new entries, only those are left, and nothing of its former self."""
    upper = [member(".wh.d"), member("d/s/new")]
    lower = [directory("d", uid=9), directory("d/s", uid=9), member("d/s/old"), member("d/old")]
    tree = merged(lower, upper if whiteout_first else upper[::-1])
    assert names(tree) == ["d", "d/s", "d/s/new"]
    assert (at(tree, "d").uid, at(tree, "d/s").uid) == (0, 0)


@pytest.mark.parametrize("whiteout_first", [True, False])
def test_opaque(whiteout_first: bool) -> None:
    """An opaque directory keeps itself and what its own layer put there."""
    upper = [member("d/.wh..wh..opq"), member("d/new")]
    lower = [directory("d", uid=9), member("d/old"), directory("d/s"), member("d/s/old"), member("e")]
    tree = merged(lower, upper if whiteout_first else upper[::-1])
    assert names(tree) == ["d", "d/new", "e"]
    assert at(tree, "d").uid == 9


def test_whiteouts_of_nothing() -> None:
    """Whiteouts of what is not there, or beneath what is no directory, do nothing."""
    upper = [member(".wh.x"), member("no/.wh.x"), member("a/.wh.x"), member("no/.wh..wh..opq")]
    assert names(merged([member("a")], upper)) == ["a"]


def test_whiteout_without_a_name() -> None:
    """`.wh.` alone is an error (image-spec, layer.md)."""
    with pytest.raises(ImageError, match="whiteout of nothing"):
        merged([member("d/.wh.")])


def test_whiteouts_reach_lower_layers_only() -> None:
    """A whiteout in a layer below does nothing to the layers above it."""
    assert names(merged([member("a")], [member(".wh.a")], [member("a")])) == ["a"]


def test_hard_links() -> None:
    """Names of one file share it, and count."""
    tree = merged([member("a", uid=3), link("b", "a"), link("d/c", "/b")])
    assert at(tree, "a") is at(tree, "b") is at(tree, "d/c")
    assert (at(tree, "a").links, tree.entries) == (3, 4)


def test_hard_link_to_a_lower_layer() -> None:
    """A link may name a file from below; when that is whited out, or replaced, the link keeps it."""
    lower = [member("a", uid=1), member("b", uid=2)]
    tree = merged(lower, [link("x", "a"), member(".wh.a"), link("y", "b"), member("b", uid=3)])
    assert names(tree) == ["b", "x", "y"]
    assert [at(tree, name).uid for name in "bxy"] == [3, 1, 2]


def test_hard_link_after_the_whiteout_of_its_target() -> None:
    """Whiteouts take effect whatever the order, so that a link finds the file that one before it removed."""
    tree = merged([member("d/a", uid=1)], [member(".wh.d"), link("x", "d/a")])
    assert names(tree) == ["x"]
    assert at(tree, "x").uid == 1


def test_linked_name_is_its_layers_own() -> None:
    """A whiteout spares a name that its own layer linked to a lower layer's file."""
    tree = merged([member("a", uid=1), member("b", uid=2)], [link("b", "a"), member(".wh.b")])
    assert at(tree, "a") is at(tree, "b")


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ([link("x", "gone")], "neither this layer nor one below"),
        ([directory("d"), link("x", "d")], "to a directory"),
        ([link("x", "../../etc/passwd")], "'..'"),
        ([member("../x")], "'..'"),
        ([member("a/../../x")], "'..'"),
        ([symlink("a", "/b/c"), member("a/../../x")], "'..'"),
        ([member(".", LNK, "/etc")], "root"),
        ([member("a\0b")], "NUL"),
        ([symlink("l", "l"), member("l/x")], "symbolic links"),
    ],
)
def test_refused(layer: Sequence[Member], why: str) -> None:
    """What makes no tree is an error that says so."""
    with pytest.raises(ImageError, match=why):
        merged(layer)


def test_symlinked_parent() -> None:
    """An entry whose parent is a link in the tree goes where the link leads, within the root."""
    base = [
        directory("usr/bin"),
        symlink("bin", "usr/bin"),
        symlink("up", "../../../usr"),
        symlink("abs", "/usr/bin"),
    ]
    tree = merged(base, [member("bin/a"), member("up/b"), member("abs/c"), member("bin/.wh.nothing")])
    assert names(tree) == ["abs", "bin", "up", "usr", "usr/b", "usr/bin", "usr/bin/a", "usr/bin/c"]
    assert names(merged(base, [member("bin/a")], [member("bin/.wh.a")])) == [
        *("abs", "bin", "up", "usr", "usr/bin")
    ]


def test_dangling_parent_stays_inside() -> None:
    """A link to a path outside makes that path inside the root."""
    tree = merged([symlink("l", "../../etc"), member("l/passwd", uid=5)])
    assert names(tree) == ["etc", "etc/passwd", "l"]


def test_find_follows_links_inside() -> None:
    """A path is looked up as a process within the root would do it."""
    tree = merged(
        [
            member("usr/bin/sh", uid=7),
            symlink("bin", "/usr/bin"),
            symlink("usr/bin/dash", "../../../bin/sh"),
            symlink("loop", "loop"),
        ]
    )
    for path in (b"bin/dash", b"/usr/bin/sh", b"./bin/../../usr/./bin/dash", b"../../bin/sh"):
        assert tree.find(path).uid == 7
    assert tree.find(b"bin", follow=False).kind == LNK
    assert tree.find(b"bin/", follow=False).is_dir
    for path, why in ((b"loop", "too many"), (b"bin/no", "no such"), (b"bin/sh/x", "not a directory")):
        with pytest.raises(ImageError, match=why):
            tree.find(path)


@pytest.mark.parametrize(
    ("limits", "layer", "why"),
    [
        (MergeLimits(entries=2), [member("a"), member("a"), member("a")], "entries"),
        (MergeLimits(depth=4), [member("a/b/c/d/e")], "nest"),
        (MergeLimits(memory=5000), [symlink(f"{n}", "t" * 400) for n in range(10)], "names and attributes"),
        (MergeLimits(size=10), [member("a", size=6), member("b", size=6)], "more than the limit of 10"),
    ],
)
def test_limits(limits: MergeLimits, layer: Sequence[Member], why: str) -> None:
    """A tree may be neither too large, too deep nor too full."""
    with pytest.raises(ImageError, match=why):
        merged(layer, limits=limits)


def test_unknown_members_are_left_out() -> None:
    """A member of a type that nobody knows is left out with a warning."""
    warnings: list[str] = []
    merger = Merger("image", warn=warnings.append)
    merger.apply([member("x", UNKNOWN), member("y")])
    assert names(merger.finish()) == ["y"]
    assert len(warnings) == 1


# Against a model: a mapping of paths


@dataclass(frozen=True)
class Entry:
    """An entry of a generated layer; `what` is `file`, `dir`, `whiteout` or `opaque`."""

    path: tuple[str, ...]
    what: str
    token: int

    def member(self) -> Member:
        path = "/".join(self.path)
        if self.what == "whiteout":
            return member("/".join((*self.path[:-1], ".wh." + self.path[-1])))
        if self.what == "opaque":
            return member(f"{path}/.wh..wh..opq")
        return member(path, DIR if self.what == "dir" else REG, uid=self.token)


Model = dict[tuple[str, ...], tuple[str, int]]


def model_layer(tree: Model, layer: Sequence[Entry]) -> None:
    """Whiteouts first, then entries one after the other."""
    for entry in layer:
        depth = len(entry.path)
        for path in list(tree):
            if path[:depth] == entry.path and (
                entry.what == "whiteout" or (entry.what == "opaque" and len(path) > depth)
            ):
                del tree[path]
    for entry in layer:
        if entry.what not in ("file", "dir"):
            continue
        for depth in range(1, len(entry.path)):
            if tree.get(entry.path[:depth], ("", 0))[0] != "dir":
                tree[entry.path[:depth]] = ("dir", 0)
        if entry.what == "file":
            for path in list(tree):
                if path[: len(entry.path)] == entry.path:
                    del tree[path]
        tree[entry.path] = (entry.what, entry.token)


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)
ENTRIES = st.builds(
    Entry, PATHS, st.sampled_from(["file", "file", "dir", "whiteout", "opaque"]), st.integers(1, 9)
)
LAYERS = st.lists(st.lists(ENTRIES, max_size=6), min_size=1, max_size=4)


def _as_model(tree: MergedTree) -> Model:
    return {
        tuple(path.decode().split("/")): ("dir" if inode.is_dir else "file", inode.uid)
        for path, inode in tree.walk()
        if inode is not None
    }


@given(LAYERS, st.randoms(use_true_random=False))
def test_against_a_model(layers: list[list[Entry]], random: object) -> None:
    """Layers merge as in a plain mapping of paths, wherever in their layer the whiteouts stand."""
    model: Model = {}
    for layer in layers:
        model_layer(model, layer)
    assert _as_model(merged(*([entry.member() for entry in layer] for layer in layers))) == model
    shuffled = []
    for layer in layers:
        rest = [entry for entry in layer if entry.what in ("file", "dir")]
        for entry in layer:
            if entry not in rest:
                rest.insert(random.randint(0, len(rest)), entry)  # type: ignore[attr-defined]
        shuffled.append([entry.member() for entry in rest])
    assert _as_model(merged(*shuffled)) == model


def test_walk_is_in_the_order_of_archives() -> None:
    """Entries come in byte order within each directory, and each directory's end is told."""
    tree = merged([member("b/x"), member("a.b"), member("a/z"), member("B")])
    assert [(path.decode(), inode is None) for path, inode in tree.walk()] == [
        *(("B", False), ("a", False), ("a/z", False), ("a", True)),
        *(("a.b", False), ("b", False), ("b/x", False), ("b", True)),
    ]


@pytest.mark.parametrize("name", [".wh..wh.plnk", ".wh..wh.aufs", "usr/.wh..wh.orph"])
def test_what_is_beneath_the_directories_of_aufs(name: str) -> None:
    """Everything beneath them is left out, and what is a hard link to a file there is that file."""
    tree = merged(
        [
            directory(name),
            directory(f"{name}/deep"),
            member(f"{name}/12.34", uid=7, size=3),
            link(f"{name}/deep/again", f"{name}/12.34"),
            symlink(f"{name}/link", "12.34"),
            member(f"{name}/deep/.wh.x"),
            link("a", f"{name}/12.34"),
            link("b", f"./{name}/deep/again"),
        ]
    )
    assert [one for one in names(tree) if one != "usr"] == ["a", "b"]
    assert at(tree, "a") is at(tree, "b")
    assert at(tree, "a").uid == 7


def test_files_of_aufs_are_their_layers_own() -> None:
    """A later layer does not see what was set aside in one below."""
    with pytest.raises(ImageError, match="hard link"):
        merged([member(".wh..wh.plnk/1", uid=7)], [link("a", ".wh..wh.plnk/1")])


def through_links(count: int, wide: int) -> list[Member]:
    """A chain of symlinks, each with a target of very many names."""
    detour = "x/../" * wide
    chain = [directory("end"), directory("x")]
    chain += [symlink(f"l{n}", f"/{detour}l{n + 1}") for n in range(count - 1)]
    return [*chain, symlink(f"l{count - 1}", f"/{detour}end")]


def test_many_members_through_many_symlinks() -> None:
    """Where a path leads is found out once for all members beneath it, so that the work is bounded."""
    limits = MergeLimits(steps=2 * 40 * 1200)
    files = [member(f"l0/d{n}/f", uid=n) for n in range(300)]
    links = [link(f"end/h{n}", f"l0/d{n}/f") for n in range(300)]
    gone = [member(f"l0/d{n}/.wh.f") for n in range(300)]
    tree = merged([*through_links(40, 599), *files], limits=MergeLimits(steps=limits.steps))
    assert at(tree, "end/d299/f").uid == 299
    tree = merged([*through_links(40, 599), *files, *links], limits=MergeLimits(steps=2 * limits.steps))
    assert at(tree, "end/h299") is at(tree, "end/d299/f")
    tree = merged([*through_links(40, 599), *files], gone, limits=MergeLimits(steps=2 * limits.steps))
    assert "end/d0" in names(tree)
    assert "end/d0/f" not in names(tree)


def test_what_defeats_remembering_is_bounded() -> None:
    """Symlinks that are replaced again and again, each followed by a path through all of them, come to an end."""
    layer: list[Member] = through_links(40, 599)
    for number in range(200):
        layer += [symlink("other", str(number)), member("l0/f")]
    with pytest.raises(ImageError, match="symbolic links"):
        merged(layer, limits=MergeLimits(steps=1_000_000))


def test_replaced_directories_are_not_remembered() -> None:
    """After a directory or a symlink was replaced or removed, the same path leads to the new place."""
    tree = merged(
        [
            directory("a"),
            symlink("to", "a"),
            member("to/1"),
            directory("b"),
            symlink("to", "b"),
            member("to/2"),
        ],
        [member("to/3"), member(".wh.to"), member("to/4"), link("5", "b/3")],
    )
    assert names(tree) == ["5", "a", "a/1", "b", "b/2", "b/3", "to", "to/4"]
