"""Words on the command line: verbs, options anywhere, abbreviations, help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casync_compat.cli import _options, _verbs
from casync_compat.cli._parser import wants_help
from casync_compat.cli._words import split
from casync_compat.errors import UsageError

from .conftest import Result, Run

VERBS = sorted(_verbs.VERBS)
MODULES = {verb: _verbs.verb_module("", verb) for verb in VERBS}


def parse(*words: str) -> argparse.Namespace:
    """The options of a command line, by the way that the command itself takes."""
    command = _verbs.find_command(words)
    assert command.verb is not None
    plain = ["--", *command.arguments] if command.arguments else []
    parser = _verbs.parser_of(command.group, command.verb, command.options)
    return parser.parse_args([*command.options, *plain])


@pytest.mark.parametrize(
    ("words", "verb", "plain", "options"),
    [
        ("", None, "", ""),
        ("make", "make", "", ""),
        ("make a b", "make", "a b", ""),
        ("-v make a b", "make", "a b", "-v"),
        ("make -v a b", "make", "a b", "-v"),
        ("make a b -v", "make", "a b", "-v"),
        ("--store x make a", "make", "a", "--store x"),
        ("--store=x make a", "make", "a", "--store=x"),
        ("make --store x a --extra-store y b", "make", "a b", "--store x --extra-store y"),
        ("--sto x make a", "make", "a", "--sto x"),
        ("--seed x extract a", "extract", "a", "--seed x"),
        ("--json list a", "list", "a", "--json"),
        ("--js list a", "list", "a", "--js"),
        ("-l debug list a", "list", "a", "-l debug"),
        ("-ldebug list a", "list", "a", "-ldebug"),
        ("-vl debug list a", "list", "a", "-vl debug"),
        ("-nv gc a", "gc", "a", "-nv"),
        ("list -", "list", "-", ""),
        ("list --with - x", "list", "x", "--with -"),
        ("list -- --with x", "list", "--with x", ""),
        ("-- list -x", "list", "-x", ""),
        ("-v -- list -v", "list", "-v", "-v"),
        ("list a -- b -- c", "list", "a b -- c", ""),
        ("list --store -- x", "list", "x", "--store --"),
        ("list --store", "list", "", "--store"),
        ("--nonsense list x", "list", "x", "--nonsense"),
    ],
)
def test_words(words: str, verb: str | None, plain: str, options: str) -> None:
    """The verb is the first word that is no option and no option's value; `--` ends the options."""
    found = _verbs.find_command(words.split())
    assert (found.group, found.verb, found.arguments, found.options) == (
        "",
        verb,
        plain.split(),
        options.split(),
    )


def test_empty_words_are_kept() -> None:
    """An empty word is an argument like any other."""
    found = _verbs.find_command(["list", "", "--store", ""])
    assert (found.verb, found.arguments, found.options) == ("list", [""], ["--store", ""])


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("make --store=x", "store", "x"),
        ("make --store x a b", "store", "x"),
        ("--store x make", "store", "x"),
        ("make --exclude-f no", "exclude_file", False),
        ("make --exclude-nod=off", "exclude_nodump", False),
        ("extract --delete=FALSE", "delete", False),
        ("extract --hardlink=Yes", "hardlink", True),
        ("extract --seed=a --seed=b", "seed", ["a", "b"]),
        ("extract --seed a x --seed b y", "seed", ["a", "b"]),
        ("make --with=a --with=b", "with_", ["a", "b"]),
        ("make --without=a", "without", ["a"]),
        ("make --jobs=3", "jobs", 3),
        ("gc -n x", "dry_run", True),
        ("make -v", "verbose", True),
        ("make --uid-shift=1 --uid-range=no", "id_shifts", [("--uid-shift", "1"), ("--uid-range", "no")]),
        ("list --uid-shift=1", "id_shifts", [("--uid-shift", "1")]),
        ("make --delete=no", "delete", False),
        ("make --mkdir=no", "mkdir", False),
        ("make --log-level=7", "log_level", "7"),
        ("make -l err", "log_level", "err"),
        ("make -lerror", "log_level", "error"),
        ("make -l warn", "log_level", "warn"),
    ],
)
def test_options(words: str, name: str, value: object) -> None:
    """Options are read in every form, shortened too; those of other verbs are taken and ignored, as casync does."""
    assert getattr(parse(*words.split()), name) == value


def test_defaults() -> None:
    """Without options everything is as casync has it."""
    options = parse("extract")
    yes = ("exclude_nodump", "exclude_file", "reflink", "punch_holes", "seed_output", "recursive")
    no = ("exclude_submounts", "hardlink", "undo_immutable", "dry_run", "verbose", "json")
    assert [name for name in yes if getattr(options, name) is not True] == []
    assert [name for name in no if getattr(options, name) is not False] == []
    assert (options.store, options.extra_store, options.seed, options.what) == (None, [], [], None)
    assert options.delete is None  # yes, where it is clear that it is meant
    assert (options.with_, options.without, options.id_shifts) == ([], [], [])


def test_defaults_are_fresh() -> None:
    """Lists of one parse do not leak into the next."""
    parse("make", "--with=a", "--uid-shift=1", "--extra-store=x")
    options = parse("make")
    assert (options.with_, options.id_shifts, options.extra_store) == ([], [], [])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("make --nonsense", "unrecognized arguments: --nonsense"),
        ("make --exclude=no", "ambiguous option"),
        ("make --delete=maybe", "'maybe' is neither yes nor no"),
        ("make --delete=", "'' is neither yes nor no"),
        ("make --store", "expected one argument"),
        ("make --jobs=many", "invalid int value: 'many'"),
        ("make --log-level=loud", "unknown log level 'loud'"),
        ("make a b c", "unrecognized arguments: c"),
        ("list -x", "unrecognized arguments: -x"),
        ("gc", "the following arguments are required"),
        ("info", "the following arguments are required"),
        ("cat", "the following arguments are required"),
    ],
)
def test_words_that_make_no_sense(words: str, says: str) -> None:
    """Each is an error that says what is wrong and where there is help."""
    with pytest.raises(UsageError) as caught:
        parse(*words.split())
    assert says in str(caught.value)
    assert f"`pycasync {words.split()[0]} --help`" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mak", "unknown verb 'mak'; did you mean make?"),
        ("extrakt", "unknown verb 'extrakt'; did you mean extract?"),
        ("zzz", "unknown verb 'zzz'; see `pycasync --help` for all there are"),
        ("", "unknown verb ''; see `pycasync --help` for all there are"),
        ("Make", "unknown verb 'Make'; did you mean make?"),
    ],
)
def test_unknown_verbs(fails: Callable[..., str], name: str, says: str) -> None:
    """A mistyped verb is answered with the one that was meant, if one is near."""
    assert fails(name) == says


WORDS = [
    *VERBS,
    "x",
    "-",
    "no",
    "-v",
    "-n",
    "-vn",
    "-l",
    "-ldebug",
    "debug",
    "3",
    "-x",
    "--",
    "--e",
    "--ex",
]
FLAGS = [flag for option in _options.OPTIONS for flag in option.flags if flag.startswith("--")]


def outcome(parser: argparse.ArgumentParser, words: list[str]) -> object:
    try:
        options = vars(parser.parse_args(words))
    except UsageError as error:
        return str(error)
    return options


@given(data=st.data())
@settings(deadline=None)
def test_parsers_know_what_they_need(data: st.DataObject) -> None:
    """A parser that only knows the options which a command line may mean reads it as one that knows all."""
    lengths = st.integers(3, max(map(len, FLAGS)))
    flags = st.builds(lambda flag, length: flag[:length], st.sampled_from(FLAGS), lengths)
    values = st.sampled_from(["", "=", "=x", "=yes", "=no", "=3"])
    word = st.sampled_from(WORDS) | st.builds(str.__add__, flags, values)
    words = [each for each in data.draw(st.lists(word, max_size=6)) if not wants_help([each])]
    found = split(words, _options.TAKES_VALUE)
    name, *plain = [*found.plain, "make"]
    verb = name if name in VERBS else "make"
    line = [*found.options, "--", *plain]
    assert outcome(_verbs.parser_of("", verb, found.options), line) == outcome(
        _verbs.parser_of("", verb), line
    )


# ---- help


SHOWN = {
    "apply": "NETWORK store compression layout json dry-run wait jobs no-progress",
    "cat": "NETWORK store extra-store jobs",
    "completion": "",
    "config": "json",
    "convert-index": "NETWORK store extra-store chunk-size digest compression layout dry-run wait jobs",
    "copy": "NETWORK store extra-store compression layout json dry-run wait jobs verify-reused no-progress",
    "delta": "NETWORK store extra-store json dry-run jobs no-progress",
    "digest": "NETWORK store extra-store digest what with without exclude-nodump "
    "exclude-submounts exclude-file json jobs no-progress",
    "dump": "json",
    "extract": "NETWORK store extra-store what with without uid-shift uid-range seed seed-output "
    "in-place reflink hardlink punch-holes compare delete undo-immutable strict json "
    "dry-run jobs no-progress",
    "gc": "NETWORK store dry-run yes grace wait no-progress",
    "info": "NETWORK store json",
    "list": "NETWORK store extra-store what with without recursive json jobs no-progress",
    "make": "NETWORK store chunk-size digest compression layout what with without exclude-nodump "
    "exclude-submounts exclude-file uid-shift uid-range strict json dry-run wait jobs "
    "verify-reused stream-digest cache cache-auto cache-check no-progress",
    "mirror": "NETWORK store extra-store compression layout delete json dry-run wait jobs "
    "verify-reused no-progress",
    "mkdev": "NETWORK store extra-store what socket background",
    "mount": "NETWORK store extra-store what mkdir verify fetch background",
    "mtree": "NETWORK store extra-store what with without jobs no-progress",
    "pull": "NETWORK store extra-store dry-run jobs",
    "push": "NETWORK store extra-store dry-run wait jobs",
    "self-check": "json",
    "serve": "NETWORK compression layout dry-run",
    "stat": "NETWORK store extra-store what with without json jobs",
    "verify": "NETWORK store extra-store what json jobs no-progress",
}
"""The options that the help of a verb shows, without `--`; NETWORK are those about connections. The help of all shows
`--verbose`, `--quiet`, `--log-level` and `--log-file`."""


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_verbs(ok: Run, verb: str) -> None:
    """Each verb's help names its options, explains its arguments and gives examples that are themselves right."""
    text = ok(verb, "--help").out.decode()
    assert text.startswith(f"usage: pycasync {verb} [OPTIONS] ")
    assert _verbs.VERBS[verb][1:] in " ".join(text.split())
    expected = {"--verbose", "--quiet", "--log-level", "--log-file"}
    for word in SHOWN[verb].split():
        expected |= {*_options.NETWORK} if word == "NETWORK" else {f"--{word}"}
    for option in _options.OPTIONS:
        shown = re.search(rf"^  (-\S.*, )?{option.flags[-1]}(?![-\w])", text, re.MULTILINE) is not None
        assert shown == (option.flags[-1] in expected), option.flags
    examples = MODULES[verb].EXAMPLES
    assert examples
    for command, meaning in examples:
        assert command in text
        assert meaning in " ".join(text.split())
        words = command.split(" | ")[0].split(" > ")[0].split()
        if "pycasync" not in words:
            continue  # what a client runs
        assert words[:2] == ["pycasync", verb]
        parse(*words[1:])


@pytest.mark.parametrize(
    "words", ["--help make", "-h make", "make -h", "make --help", "help make", "make x --help y"]
)
def test_ways_to_ask_for_help(ok: Run, words: str) -> None:
    """Help on a verb comes wherever the option stands, with status 0."""
    assert ok(*words.split()).out == ok("make", "--help").out


@pytest.mark.parametrize("words", ["--help", "-h", "help", "-v --help"])
def test_general_help(ok: Run, words: str) -> None:
    """Without a verb all verbs are listed."""
    text = " ".join(ok(*words.split()).out.decode().split())
    for verb, summary in _verbs.VERBS.items():
        assert f" {verb} " in text
        assert summary in text


@pytest.mark.parametrize("words", ["--version", "make --version", "--version make x y", "-v --version"])
def test_version(ok: Run, words: str) -> None:
    """The version is printed whatever else was given."""
    assert ok(*words.split()).out.startswith(b"pycasync ")
    assert ok(*words.split()).out.count(b"\n") == 1


@pytest.mark.parametrize(
    "words", ["--with=help", "--without=help list", "make --with help", "cat --with=help"]
)
def test_list_of_flags(ok: Run, words: str) -> None:
    """`--with=help` prints casync's list, whatever the verb and however many arguments are missing."""
    lines = ok(*words.split()).out.decode().splitlines()
    assert lines[0] == "Supported --with= and --without= flags:"
    assert (lines[1], lines[-1], len(lines)) == ("16bit-uids", "quota-projid", 34)


def test_list_of_kinds(ok: Run) -> None:
    """`--what=help` prints all five kinds; casync forgets the first."""
    expected = ["archive", "archive-index", "blob", "blob-index", "directory"]
    assert ok("--what=help").out.decode().splitlines()[1:] == expected


def test_a_file_called_like_an_option(ok: Run, tree: object) -> None:
    """Behind `--` names that begin with a dash are names."""
    ok("make", "--", "-x.catar", "tree")
    assert b"hello" in ok("list", "--", "-x.catar").out
    assert b"hello" in ok("list", "./-x.catar").out


def test_nothing_at_all(fails: Callable[..., str]) -> None:
    """No words are an error that points to the help."""
    assert fails() == "no verb given; see `pycasync --help`"
    assert fails("-v") == "no verb given; see `pycasync --help`"


# ---- environment


def test_verbose_by_environment(run: Run, tree: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """$CASYNC_VERBOSE stands for -v, and must be yes or no."""

    def verbose() -> Result:
        return run("make", "x.catar", "tree")

    assert verbose().err == b""
    monkeypatch.setenv("CASYNC_VERBOSE", "1")
    assert b"Archive size: " in verbose().err
    monkeypatch.setenv("CASYNC_VERBOSE", "no")
    assert verbose().err == b""
    monkeypatch.setenv("CASYNC_VERBOSE", "perhaps")
    assert verbose().err == b"pycasync: $CASYNC_VERBOSE: 'perhaps' is neither yes nor no\n"


@pytest.mark.parametrize(
    "words",
    ["-l debug", "-ldebug", "-vl debug", "--log-level=debug", "--log-level debug", "-l 7", "--log=debug"],
)
def test_tracebacks_are_for_those_who_ask(run: Run, words: str) -> None:
    """At log level debug the traceback comes first, then the same one line."""
    quiet = run("list", "nowhere").err
    assert quiet == b"pycasync: nowhere: cannot open: No such file or directory\n"
    loud = run("list", "nowhere", *words.split()).err
    assert loud.startswith(b"Traceback")
    assert loud.endswith(quiet)
