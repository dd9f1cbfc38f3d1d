"""The `pycasync` command: casync's command line, with errors that say what, where and what to do.

Everything is imported when it is needed, so that `--version` and `--help` answer at once. Exit status is 0 for success
and 1 for any failure, as casync's.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


class _Interrupted(BaseException):
    """A signal asked the process to end."""


def _on_signal(number: int, frame: object) -> None:
    raise _Interrupted(number)


def _catch_signals() -> None:
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _version() -> str:
    from casync_compat import __version__

    return __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    :param arguments: without the program's name; None takes `sys.argv`
    :returns: the exit status
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["--version"]:
        print("pycasync", _version())
        return 0
    try:
        _catch_signals()
        status = _run(words)
        sys.stdout.flush()
        return status
    except _Interrupted:
        print("Got exit signal, quitting.", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to say, and the interpreter must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        return _fail(error, words)


def _fail(error: Exception, words: list[str]) -> int:
    from casync_compat.errors import CasyncError
    from catar.errors import CatarError

    if "--log-level=debug" in words or os.environ.get("CASYNC_LOG_LEVEL") == "debug":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, (CasyncError, CatarError)):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename or 'system call'}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        text = "out of memory; try smaller chunk sizes or fewer --jobs"
    else:
        text = f"internal error: {type(error).__name__}: {error}; please report it, with --log-level=debug"
    print("pycasync:", " ".join(text.splitlines()), file=sys.stderr)
    return 1


def _run(words: list[str]) -> int:
    from importlib import import_module

    from casync_compat.cli import _args
    from casync_compat.errors import UsageError

    if words and words[0] == "help" and len(words) > 1:
        words = [words[1], "--help", *words[2:]]
    name, rest = _args.split_verb(words)
    if name is None or name == "help":
        if name == "help" or any(word in ("-h", "--help") for word in words):
            sys.stdout.write(_args.general_help())
            return 0
        if "--version" in words:
            print("pycasync", _version())
            return 0
        if _special_help(words):
            return 0
        raise UsageError("no verb given; see `pycasync --help`")
    verb = _args.find_verb(name)
    parser = _args.parser_for(verb)
    try:
        if _special_help(rest):
            return 0
        options = parser.parse_intermixed_args(rest)
    except SystemExit as done:  # argparse leaves this way after --help
        return int(done.code or 0)
    if options.verbose is False and _args.environment_flag("CASYNC_VERBOSE"):
        options.verbose = True
    options.verb = name
    module = import_module(f"casync_compat.cli.{_MODULES.get(name, name)}")
    status: int = module.run(options)
    return status


_MODULES = {"list": "listing", "mtree": "listing"}
"""Verbs whose module has another name."""


def _special_help(words: list[str]) -> bool:
    """`--with=help`, `--without=help` and `--what=help`, which casync answers whatever else was given."""
    from catar.flags import OPTION_NAMES

    for word in words:
        if word in ("--with=help", "--without=help"):
            print("Supported --with= and --without= flags:")
            print("\n".join(OPTION_NAMES))
            return True
        if word == "--what=help":
            print("Allowed --what= selectors:")
            from casync_compat.kinds import Kind

            print("\n".join(kind.value for kind in Kind))
            return True
    return False
