"""File systems for tests: images of ext4, btrfs, xfs, vfat and NTFS, and tmpfs, mounted when a test asks for one.

They are mounted in a mount namespace of the test process, on loop devices that free themselves: when the process
ends, however it ends, the kernel takes all of them away and the machine is as it was. "nocase" is one that ignores
case: NTFS by a process of its own (FUSE), which ends with this one; on "nocase-open" everybody may do everything.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI", "").lower() in ("true", "1", "yes")
IS_ROOT = os.geteuid() == 0
KERNEL_LACKS = "the kernel does not know"


def lacking(reason: str) -> NoReturn:
    """Skip the running test, or the module at its head; in CI fail it, except for what no setup can provide."""
    if IN_CI and not reason.startswith(KERNEL_LACKS):
        pytest.fail(f"in CI nothing may be missing: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def library(name: str) -> ModuleType:
    """A library of the extra `test`."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    lacking(f"{name} is not installed; .ci/setup installs it")


MAKE_FILESYSTEM = {
    # Blocks of 4 KiB, which small images do not get by themselves: attributes and links must fit into one.
    "ext4": ["mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "vfat": ["mkfs.vfat"],
    "nocase": ["mkntfs", "-q", "-Q", "-F"],
    "nocase-open": ["mkntfs", "-q", "-Q", "-F"],
}
SERVED = {"nocase": "ignore_case,permissions", "nocase-open": "ignore_case"}
OPTIONS = {"ext4": "acl,user_xattr", "btrfs": "user_subvol_rm_allowed", "tmpfs": "size=256m"}


def _own_mount_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec_private = 0x20000, 0x4000 | 1 << 18
    if libc.unshare(clone_newns) or libc.mount(b"none", b"/", None, ms_rec_private, None):
        lacking(f"cannot make a mount namespace: {os.strerror(ctypes.get_errno())}")


def _kernel_knows(kind: str) -> bool:
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", kind], check=False, capture_output=True)
    return kind in Path("/proc/filesystems").read_text().split()


class FileSystems:
    """File systems by name, mounted when first asked for; "any" is ext4 for root and the temporary directory else."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._mounted: dict[str, Path] = {}
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    def directory(self, kind: str = "any") -> Path:
        """The root of a file system of this kind; skips the test where there is none."""
        if kind == "any":
            kind = "ext4" if IS_ROOT else "plain"
        if kind not in self._mounted:
            self._mounted[kind] = self._mount(kind)
        return self._mounted[kind]

    def _mount(self, kind: str) -> Path:
        at = self.base / kind
        at.mkdir(exist_ok=True)
        if kind == "plain":
            return at
        if not IS_ROOT:
            lacking(f"only root can mount {kind}")
        if not _kernel_knows("fuse" if kind in SERVED else kind):
            lacking(f"{KERNEL_LACKS} {kind}")
        if not self._mounted:
            _own_mount_namespace()
        source = "none"
        if kind in MAKE_FILESYSTEM:
            source = str(self.base / f"{kind}.img")
            with open(source, "wb") as image:
                image.truncate(512 << 20)
            self._run(*MAKE_FILESYSTEM[kind], source)
        if kind in SERVED:
            self._servers[kind] = self._serve(source, at, SERVED[kind])
            return at
        option = OPTIONS.get(kind, "defaults") + (",loop" if source != "none" else "")
        self._run("mount", "-t", kind, "-o", option, source, str(at))
        return at

    def _serve(self, image: str, at: Path, options: str) -> subprocess.Popen[bytes]:
        """Have lowntfs-3g serve an image until it is unmounted or this process ends."""
        self._run("lowntfs-3g", "--version")
        command = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "lowntfs-3g",
            "-o",
            f"{options},no_detach",
            image,
            str(at),
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            if os.path.ismount(at):
                return server
            if server.poll() is not None:
                break
            time.sleep(0.02)
        server.kill()
        lacking(f"{' '.join(command)} did not mount anything")

    @staticmethod
    def _run(*command: str) -> None:
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            lacking(f"{command[0]} is not installed")
        except subprocess.CalledProcessError as error:
            lacking(f"{' '.join(command)}: {error.stderr.decode(errors='replace').strip()}")

    def is_renewed(self, kind: str) -> bool:
        """Take a file system away that is made anew when it is asked for again. :returns: whether it is of that kind"""
        if kind not in SERVED:
            return False
        at = self._mounted.pop(kind, None)
        if at is not None:
            self._run("umount", str(at))
            self._servers.pop(kind).wait(timeout=60)
        return True

    def close(self) -> None:
        """Unmount everything now rather than when the process ends."""
        for kind, at in self._mounted.items():
            if kind != "plain":
                subprocess.run(["umount", "--recursive", "--lazy", str(at)], check=False, capture_output=True)
