"""The runtime configuration (`config.json`) of a container for an image, as the image specification derives it.

    >>> document = runtime_config(json.loads(config), Users(passwd, group), "oci:images:debian")

Rules: image-spec `conversion.md`; where it leaves things open (mounts, capabilities, limits), the template that umoci
uses, so that both make the same container. Names of users are looked up in the image's own `/etc/passwd` and
`/etc/group` as runc does it (github.com/moby/sys/user). Pure: documents in, a document out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casync_compat.oci.spec.errors import ImageError

__all__ = ["Identity", "Rootless", "Users", "runtime_config"]

_VERSION = "1.0.0"
_MAX_ID = (1 << 31) - 1
_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")
_MASKED = (
    *("/proc/kcore", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats"),
    *("/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
)
_READ_ONLY = (
    *("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"),
    "/proc/sysrq-trigger",
)
_MOUNTS: tuple[tuple[str, str, str, str], ...] = (
    ("/proc", "proc", "proc", ""),
    ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
)
_VOLUME = "rw,nosuid,nodev,noexec,relatime"
_NOTES = (
    ("org.opencontainers.image.os", "os"),
    ("org.opencontainers.image.architecture", "architecture"),
    ("org.opencontainers.image.variant", "variant"),
    ("org.opencontainers.image.author", "author"),
    ("org.opencontainers.image.created", "created"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a container's process runs as.

    :ivar groups: further groups
    :ivar home: empty when nobody says
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = ""


@dataclass(frozen=True, slots=True)
class Rootless:
    """A container of an unprivileged user: root inside is this user outside.

    :ivar resolv_conf: whether the host has an `/etc/resolv.conf` to share
    :ivar locked: options of the mount it is on which a user namespace may not drop
    """

    uid: int
    gid: int
    resolv_conf: bool = True
    locked: tuple[str, ...] = ()


class Users:
    """The users and groups of an image.

    :param passwd: contents of its `/etc/passwd`, empty when it has none
    :param group: likewise of `/etc/group`
    """

    def __init__(self, passwd: bytes, group: bytes) -> None:
        self._users = [row for row in _rows(passwd, 6) if _number(row[2]) is not None]
        self._groups = [row for row in _rows(group, 3) if _number(row[2]) is not None]

    def identity(self, spec: str, where: str) -> Identity:
        """What `user`, `uid`, `user:group` and so on mean; an empty one is root.

        :raises ImageError: there is no such user or group
        """
        user_part, _, group_part = spec.partition(":")
        wanted = _number(user_part) if user_part else 0
        found = None
        for row in self._users:
            if (_number(row[2]) == wanted) if wanted is not None else (row[0] == user_part):
                found = row
                break
        if found is None:
            if wanted is None:
                raise ImageError(where, f"its user {user_part[:100]!r} is not in its /etc/passwd")
            uid, gid, name, home = wanted, 0, "", ""
        else:
            uid, gid = int(found[2]), _number(found[3]) or 0
            name, home = found[0], found[5]
        groups: tuple[int, ...] = ()
        if group_part:
            gid = self._group(group_part, where)
        elif name:
            groups = tuple(int(row[2]) for row in self._groups if len(row) > 3 and name in row[3].split(","))
        if uid > _MAX_ID or gid > _MAX_ID:
            raise ImageError(where, f"its user {spec[:100]!r} has an id above {_MAX_ID}")
        return Identity(uid, gid, groups, home)

    def _group(self, text: str, where: str) -> int:
        wanted = _number(text)
        for row in self._groups:
            if (_number(row[2]) == wanted) if wanted is not None else (row[0] == text):
                return int(row[2])
        if wanted is None:
            raise ImageError(where, f"its group {text[:100]!r} is not in its /etc/group")
        return wanted


def _rows(data: bytes, least: int) -> list[list[str]]:
    lines = (line.strip() for line in data.decode("utf-8", "surrogateescape").split("\n"))
    rows = [line.split(":") for line in lines if line and not line.startswith("#")]
    return [row for row in rows if len(row) >= least]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def runtime_config(
    image: Mapping[str, Any], users: Users, where: str, rootless: Rootless | None = None
) -> dict[str, Any]:
    """The document for an image config.

    :param where: the image, for messages
    :raises ImageError: the config is malformed, or not for Linux
    """
    if image.get("os", "linux") != "linux":
        raise ImageError(where, f"it is for {str(image['os'])[:40]!r}; only Linux containers can be made")
    config = image.get("config")
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise ImageError(where, "the member config of its image config is no object")
    identity = users.identity(_text(config, "User", where), where)
    user: dict[str, Any] = {"uid": identity.uid, "gid": identity.gid}
    if identity.groups and rootless is None:
        user["additionalGids"] = list(identity.groups)
    document = {
        "ociVersion": _VERSION,
        "process": {
            "terminal": True,
            "user": user,
            "args": [*_texts(config, "Entrypoint", where), *_texts(config, "Cmd", where)] or ["sh"],
            "env": _environment(config, identity, where),
            "cwd": _text(config, "WorkingDir", where) or "/",
            "capabilities": {one: list(_CAPABILITIES) for one in _CAPABILITY_SETS},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "pycasync",
        "mounts": _mounts(config, where),
        "annotations": _annotations(image, config, where),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": one} for one in _NAMESPACES],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }
    if rootless is not None:
        _make_rootless(document, rootless)
    return document


def _text(config: Mapping[str, Any], member: str, where: str) -> str:
    found = config.get(member)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ImageError(where, f"config.{member} of its image config is no string")
    return found


def _texts(config: Mapping[str, Any], member: str, where: str) -> list[str]:
    found = config.get(member)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ImageError(where, f"config.{member} of its image config is no list of strings")
    return found


def _keys(config: Mapping[str, Any], member: str, where: str) -> list[str]:
    found = config.get(member)
    if found is None:
        return []
    if not isinstance(found, dict):
        raise ImageError(where, f"config.{member} of its image config is no object")
    return sorted(found)


def _environment(config: Mapping[str, Any], identity: Identity, where: str) -> list[str]:
    found = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "xterm"}
    for line in _texts(config, "Env", where):
        name, equals, value = line.partition("=")
        if not name or not equals:
            raise ImageError(where, f"{line[:100]!r} in its environment is not of the form NAME=VALUE")
        found[name] = value
    if identity.home:
        found.setdefault("HOME", identity.home)
    return [f"{name}={value}" for name, value in found.items()]


def _mount(destination: str, kind: str, source: str, options: str) -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    if options:
        mount["options"] = options.split(",")
    return mount


def _mounts(config: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    volumes = [(volume, "tmpfs", "none", _VOLUME) for volume in _keys(config, "Volumes", where)]
    return [_mount(*row) for row in (*_MOUNTS, *volumes)]


def _annotations(image: Mapping[str, Any], config: Mapping[str, Any], where: str) -> dict[str, str]:
    found = {note: _text(image, member, where) for note, member in _NOTES}
    found["org.opencontainers.image.stopSignal"] = _text(config, "StopSignal", where)
    found["org.opencontainers.image.exposedPorts"] = ",".join(_keys(config, "ExposedPorts", where))
    found = {note: text for note, text in found.items() if text}
    labels = config.get("Labels")
    if labels is None:
        labels = {}
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        raise ImageError(where, "config.Labels of its image config is no object of strings")
    return {**found, **labels}


def _make_rootless(document: dict[str, Any], rootless: Rootless) -> None:
    """As umoci does it: what an unprivileged user namespace forbids goes, and the host's /sys is shared."""
    mounts = [mount for mount in document["mounts"] if not mount["destination"].startswith("/sys")]
    for mount in mounts:
        if "options" in mount:
            mount["options"] = [
                option for option in mount["options"] if not option.startswith(("uid=", "gid="))
            ]
    mounts.append(_mount("/sys", "bind", "/sys", "rbind,nosuid,noexec,nodev,ro"))
    if rootless.resolv_conf:
        options = ",".join((*rootless.locked, "rbind", "ro"))
        mounts.append(_mount("/etc/resolv.conf", "bind", "/etc/resolv.conf", options))
    linux = document["linux"]
    del linux["resources"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"] + [
        {"type": "user"}
    ]
    linux["uidMappings"] = [{"containerID": 0, "hostID": rootless.uid, "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": rootless.gid, "size": 1}]
    document["mounts"] = mounts
