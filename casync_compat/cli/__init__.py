"""The `pycasync` command: casync's command line, with errors that say what, where and what to do.

Everything is imported when it is needed, so that `--version` and `--help` answer at once. Exit status is 0 for success
and 1 for a failure, as casync's; 2 where the words alone are wrong, which is seen before any file is; and 3 for what is
complete but for what was told to be left out. Who is told to end by a signal dies of it once everything is cleaned up.
"""

from __future__ import annotations

import atexit
import errno
import gc as collector  # `gc` here is the verb
import os
import signal
import sys
import time
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from casync_compat.cli import _process

if TYPE_CHECKING:
    from types import FrameType

    from casync_compat.cli._verbs import Command

__all__ = ["main"]


class _Interrupted(BaseException):
    """A signal asked the process to end."""


class _Settings:
    """What the command line says about how errors are told.

    :ivar verb: group and verb, once they are known: whose options may help
    """

    def __init__(self, log_level: str) -> None:
        self.log_level = log_level
        self.verb: tuple[str, str] | None = None

    def options(self) -> dict[str, bool] | None:
        """The options that the verb has; None for any."""
        from casync_compat.cli import _verbs

        return None if self.verb is None else _verbs.parser_of(*self.verb).takes_value


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _catch_signals() -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _nothing(number: int, frame: object) -> None:
    """Handles a signal that is of no interest. SIG_IGN would make Python complain of one that is just arriving."""


def _ignore_signals() -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, _nothing)
    if isinstance(signal.getsignal(signal.SIGALRM), _Later):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, _nothing)


class _Later:
    """Handles the alarm that brings a signal back which came at a bad moment."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, _: int, frame: FrameType | None) -> None:
        _on_signal(self._number, frame)


def _at_a_bad_moment(frame: FrameType | None) -> bool:
    """Whether an exception would do harm just now.

    A condition of `threading`, which is Python code, is being taken or let go: it stayed locked for ever, and with it
    whoever waits for one of its threads. A module is being imported: what cleans up would find half of it. Python
    has called something where nobody can catch it: it would be told on standard error, and forgotten.
    """
    while frame is not None:
        name, module = frame.f_code.co_name, frame.f_globals.get("__name__")
        if (name in _LOCKING and module == "threading") or module in _UNCAUGHT or name == "__del__":
            return True
        frame = frame.f_back
    return False


_LOCKING = frozenset({"__enter__", "__exit__", "_acquire_restore", "_release_save"})
_UNCAUGHT = frozenset({"importlib._bootstrap", "weakref", "_weakrefset"})
_BAD_MOMENT = 0.005
"""In seconds: how long to let one pass."""


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _at_a_bad_moment(frame):
        signal.signal(signal.SIGALRM, _Later(number))
        signal.setitimer(signal.ITIMER_REAL, _BAD_MOMENT)
        return
    _ignore_signals()  # one is enough, and a second must not disturb what cleans up after it
    _let_go_of_output()
    if (programs := sys.modules.get("casync_compat.store.program")) is not None:
        programs.end_all()
    if (patience := sys.modules.get("casync_compat.net.patience")) is not None:
        patience.give_up()  # threads that wait for servers are waited for in turn
    raise _Interrupted(number)


def _let_go_of_output() -> None:
    """Free threads that wait for whoever reads standard output, since they are waited for in turn."""
    import threading

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGUSR1, _nothing)
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.ident is not None:
            with suppress(ProcessLookupError):
                signal.pthread_kill(
                    thread.ident, signal.SIGUSR1
                )  # a write begins anew, on the new descriptor


def _fill_streams() -> None:
    """Stand in for standard streams that are closed, lest a file that is opened later be taken for one.

    What stands in for input or output cannot be read or written, so that whoever needs it fails.
    """
    for fd, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free
    for fd, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w", closefd=False))  # noqa: SIM115 - as long as the process


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from casync_compat.errors import FileError

        raise FileError("standard output", "write", error) from error


def _drop_output() -> None:
    """Throw away what standard output did not take, so that the interpreter does not try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _version() -> str:
    from casync_compat import __version__

    return __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    :param arguments: without the program's name; None takes `sys.argv`, and the process is this command's: a signal
        that tells it to end ends the process
    :returns: the exit status; 128 and a signal's number where one came
    """
    try:
        return _main(arguments)
    except _Interrupted as error:
        _say(" ".join(("Got exit signal, quitting.", *_notes(error))))
        number: int = error.args[0]
    _drop_output()
    if signal.getsignal(signal.SIGUSR1) is _nothing:
        # One that has not reached its thread would otherwise end the process when Python lets go of its handlers.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if arguments is None:
        _die_of(number)
    return _SIGNALLED + number


_SIGNALLED = 128
"""What shells add to a signal's number."""


def _die_of(number: int) -> None:
    """End by a signal, so that who started this process, a shell's loop say, knows that it is to end, too."""
    atexit._run_exitfuncs()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _main(arguments: list[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    _process.run_begins(own_process=arguments is None)
    if arguments is None:
        collector.disable()  # until the verb runs: what imports make is no garbage, however often one looks
    settings = _Settings(os.environ.get("CASYNC_LOG_LEVEL", ""))
    try:
        _catch_signals()
        _fill_streams()
        status = _run(words, settings)
        _flush()
        _ignore_signals()  # it is done, and nobody is left to catch one
        return status
    except Exception as error:
        _ignore_signals()
        _fail(error, settings)
        status = _status_of(error)
    _drop_output()
    return status


_WRONG_WORDS = 2


def _status_of(error: Exception) -> int:
    """The exit status that tells of an error."""
    from casync_compat.cli._parser import WrongWords

    return _WRONG_WORDS if isinstance(error, WrongWords) else 1


def _reader_has_gone(error: Exception) -> bool:
    """Whether what failed was only our output, because whoever read it wants no more (`| head`)."""
    from casync_compat.errors import FileError
    from casync_compat.fs.standard import StandardOutput

    if isinstance(error, FileError):
        return error.errno == errno.EPIPE and error.path == StandardOutput.path
    return isinstance(error, BrokenPipeError)


def _notes(error: BaseException) -> list[str]:
    """What was said about an error on its way here."""
    notes: list[str] = vars(error).get("__notes__", [])
    return notes


def _fail(error: Exception, settings: _Settings) -> None:
    """Say what went wrong, in one line; at log level debug with the traceback before it."""
    from casync_compat.cli._hints import hint_for
    from casync_compat.errors import CasyncError
    from casync_compat.locations.shown import without_login
    from catar.errors import CatarError

    if settings.log_level in ("debug", "7"):
        import traceback

        sys.stderr.write(without_login("".join(traceback.format_exception(error))))
    if _reader_has_gone(error):
        return
    if isinstance(error, (CasyncError, CatarError)):
        text = "; ".join((f"{error}{hint_for(error, settings.options())}", *_notes(error)))
    elif isinstance(error, OSError):
        text = f"{error.filename or 'input or output'}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        text = "out of memory; try smaller chunk sizes or fewer --jobs"
    else:
        text = f"internal error: {type(error).__name__}: {error}; please report it, with --log-level=debug"
    text = without_login(" ".join(text.splitlines()))
    if (log := sys.modules.get("casync_compat.cli._log")) is not None:
        log.log_error(error, text)
    _say(f"pycasync: {text}")


def _say(text: str) -> None:
    """Write a line to standard error; where that cannot be written either, the exit status alone tells."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 2
        )  # or else the interpreter tries again, and changes the status


def _run(words: list[str], settings: _Settings) -> int:
    if words[:1] in (
        ["--version"],
        ["-V"],
    ):  # whatever else is said, and without reading the table of options
        print("pycasync", _version())
        return 0
    from casync_compat.cli import _log, _verbs
    from casync_compat.cli._defaults import defaults_of, set_defaults
    from casync_compat.cli._options import says_of_network
    from casync_compat.cli._parser import WrongWords
    from casync_compat.cli._types import environment_flag
    from casync_compat.cli._values import check_values
    from casync_compat.logs import Log

    if words and words[0] == "help" and len(words) > 1:
        words = [words[1], "--help", *words[2:]]
    command = _verbs.find_command(words)
    if "--version" in command.options or "-V" in command.options:
        print("pycasync", _version())
        return 0
    if command.verb is None or (command.verb == "help" and not command.group):
        return _without_verb(command)
    title = f"{command.group} {command.verb}".strip()
    defaults = defaults_of(title)
    meant = [*command.options, *(f"--{one.name}" for one in defaults)]
    parser = _verbs.parser_of(command.group, command.verb, meant)
    settings.verb = (command.group, command.verb)
    if not command.group and _special_help(command.options):
        return 0
    set_defaults(parser, title, defaults)
    arguments = ["--", *command.arguments] if command.arguments else []
    try:
        options = parser.parse_args([*command.options, *arguments])
    except SystemExit as done:  # argparse leaves this way after --help
        return int(done.code or 0)
    settings.log_level = options.log_level or settings.log_level
    if options.quiet and options.verbose:
        if not (parser.get_default("quiet") or parser.get_default("verbose")):
            raise WrongWords("--quiet and --verbose contradict each other")
        options.quiet, options.verbose = parser.get_default("verbose"), parser.get_default("quiet")
    if not command.group:
        check_values(options)
    if not command.group and not (options.verbose or options.quiet):
        options.verbose = environment_flag("CASYNC_VERBOSE")
    _log.configure(settings.log_level, options.log_file)
    module = _verbs.verb_module(command.group, command.verb)
    if says_of_network(options):
        from casync_compat.cli import _location

        _location.connect(options)
    elif "casync_compat.cli._location" in sys.modules:
        from casync_compat.cli import _location

        _location.disconnect()
    if not collector.isenabled():
        collector.freeze()
        collector.enable()
    begin = time.monotonic()
    status: int = module.run(options)
    Log(__name__).info("%s: status %d after %.2f s", title, status, time.monotonic() - begin)
    return status


def _without_verb(command: Command) -> int:
    """Give the help that was asked for, or say that a verb is missing."""
    from casync_compat.cli._parser import WrongWords
    from casync_compat.cli._verbs import group_help

    if command.verb == "help" or any(word in ("-h", "--help") for word in command.options):
        sys.stdout.write(group_help(command.group))
        return 0
    if not command.group and _special_help(command.options):
        return 0
    name = f"pycasync {command.group}".rstrip()
    raise WrongWords(f"no verb given; see `{name} --help`")


def _special_help(words: list[str]) -> bool:
    """`--with=help`, `--without=help` and `--what=help`, which casync answers whatever else was given."""
    from catar.flags import OPTION_NAMES

    for word, following in pairwise([*words, ""]):
        if word in ("--with", "--without", "--what") and following == "help":
            word = f"{word}=help"
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
