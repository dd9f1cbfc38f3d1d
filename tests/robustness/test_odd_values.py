"""Option values nobody would think of, and no threads to be had: a clear answer, never an internal error."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from test_oci.images import build, layer, layout_at, noise

from casync_compat.cli import _options, _verbs, oci
from casync_compat.oci.convert import ConvertOptions, convert

from .running import COMMAND, build_tree, environment, run, works

VERBS = {
    "make": "y.caidx src",
    "extract": "x.caidx out",
    "list": "x.caidx",
    "mtree": "x.caidx",
    "stat": "x.caidx .",
    "digest": "x.caidx",
    "verify": "x.caidx",
    "gc": "--dry-run x.caidx",
    "info": "x.caidx",
    "cat": "x.caidx data-0",
    "mount": "x.caidx nowhere --mkdir=no",
    "mkdev": "x.caidx --socket=missing/socket",
    "dump": "x.caidx",
    "convert-index": "x.caidx z.caidx",
    "mirror": ". edge x.caidx",
    "copy": "x.caidx edge.caidx",
    "config": "",
    "self-check": "",
}
OCI_VERBS = {
    "convert": "oci:lay:plain oci:new:a",
    "export": "oci:lay:x oci:new:b",
    "push": "oci:lay:x oci:new:c",
    "pull": "oci:lay:x oci:new:d",
    "copy": "oci:lay:x oci:new:e",
    "tags": "oci:lay",
    "delete": "--dry-run oci:lay:x",
    "login": "127.0.0.1:1 -u joe --password-stdin",
    "logout": "127.0.0.1:1",
    "delta": "oci:lay:x -o new.patch",
    "apply": "x.patch oci:new:x",
    "ls": "oci:lay:x",
    "cat": "oci:lay:x etc/file",
    "inspect": "oci:lay:x",
    "verify": "oci:lay:x",
    "stats": "oci:lay:x",
    "unpack": "oci:lay:x bundle",
    "checkout": "oci:lay:x root --file-store=files",
    "mount": "oci:lay:x missing/nowhere --using=kernel --file-store=files",
    "umount": "nowhere",
    "erofs": "oci:lay:x -o new.erofs",
    "repack": "oci:lay:x",
    "gc": "--dry-run oci:lay",
}
VALUES = ("", "--", "-1", "99999999999999999999", "\udcff\x1b[2J", "/dev/full")
OPTIONS = sorted({option.flags[-1] for option in _options.OPTIONS if option.takes_value})


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree, and an index of it."""
    here = tmp_path_factory.mktemp("odd")
    build_tree(here / "src", files=3)
    works("make", "x.caidx", "src", cwd=here)
    with layout_at(here / "lay") as layout:
        build(layout, "plain", [layer({"etc/file": noise(5000)})])
        convert(layout, "plain", layout, "x", ConvertOptions(thin=True))
    works("oci", "delta", "oci:lay:x", "-o", "x.patch", cwd=here)
    return here


def test_the_table_of_images_is_whole() -> None:
    """No verb of images is left out."""
    assert sorted(OCI_VERBS) == sorted(oci.VERBS)


@pytest.mark.parametrize("verb", [*VERBS, *(f"oci {verb}" for verb in OCI_VERBS)])
def test_odd_values_of_every_option(at: Path, verb: str) -> None:
    """Each is taken or refused, in one line that is no internal error. All in one process: starting takes longest."""
    script = (
        "import contextlib, io, signal, sys\n"
        "from casync_compat.cli import main\n"
        "verb, rest, options, values = eval(sys.argv[1])\n"
        "for option in options:\n"
        "    for value in values:\n"
        "        signal.alarm(20)\n"
        "        with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "            status = main([*verb, f'{option}={value}', *rest])\n"
        "        text = said.getvalue()\n"
        "        if status not in (0, 1, 2, 3) or 'internal error' in text or 'Traceback' in text:\n"
        "            print(f'{option}={value!a}: {status} {text!a}', file=sys.__stderr__)\n"
    )
    group, _, name = verb.rpartition(" ")
    options = OPTIONS
    if group:
        takes_value = _verbs.parser_of(group, name).takes_value
        options = sorted(flag for flag, takes in takes_value.items() if takes and flag.startswith("--"))
    rest = OCI_VERBS[name] if group else VERBS[name]
    case = ascii((verb.split(), rest.split(), options, VALUES))
    done = subprocess.run(
        [COMMAND[0], "-c", script, case],
        cwd=at,
        env=environment(),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", ["make y.catar -- --", "list -- --", "cat x.caidx -- --", "oci ls -- --"])
def test_arguments_of_two_dashes(at: Path, tmp_path: Path, words: str) -> None:
    """Behind `--`, `--` is a name as any other."""
    for name in ("x.caidx", "default.castr"):
        (tmp_path / name).symlink_to(at / name)
    if words.startswith("make"):
        (tmp_path / "--").mkdir()  # `make OUTPUT -- --` archives it
        (tmp_path / "--" / "inside").touch()
        outcome = run("make", "y.catar", "--", "--", cwd=tmp_path)
        assert outcome.status == 0, outcome
        assert b"inside" in works("list", "y.catar", cwd=tmp_path).out
        return
    outcome = run(*words.split(), cwd=tmp_path)
    assert outcome.status == (2 if words.startswith("oci") else 1), outcome  # no image is called --
    assert b"internal error" not in outcome.err


@pytest.mark.parametrize("most", [0, 1])
@pytest.mark.parametrize("jobs", ["--jobs=1", "--jobs=4"])
@pytest.mark.parametrize("words", ["make y.caidx src", "extract x.caidx out", "mtree x.caidx", "verify x.caidx",
                                   "make --cache=cache y.caidx src"])  # fmt: skip
def test_no_thread_to_be_had(at: Path, words: str, jobs: str, most: int) -> None:
    """Where no thread can be started, or only one, the work is done without."""
    script = (
        "import itertools, sys, threading\n"
        "start, number = threading._start_new_thread, itertools.count()\n"
        "def limited(*arguments):\n"
        f"    if next(number) >= {most}:\n"
        '        raise RuntimeError("can\'t start new thread")\n'
        "    return start(*arguments)\n"
        "threading._start_new_thread = limited\n"
        "from casync_compat.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [COMMAND[0], "-c", script, *words.split(), *jobs.split()]
    done = subprocess.run(
        command,
        cwd=at,
        env=environment(),
        capture_output=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done
    assert b"error" not in done.stderr
