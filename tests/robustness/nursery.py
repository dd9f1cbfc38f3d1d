"""A process that has everything imported already, and forks one real command after another: run as a program.

Each line on standard input is a JSON object: `words`, `cwd`, paths for `stdin`, `stdout` and `stderr`, how many
`seconds` it may take, `limits`, pairs of a number of `resource` and a value, and `environ`, further variables. Each
line on standard output answers with `status` and `peak`, the most resident memory in KiB.
Starting an interpreter and importing costs a quarter of a second; forking costs a hundredth, and the run is a process
of its own all the same, which ends as any program ends.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import signal
import sys


def warm_up() -> None:
    """Import the whole package, and what it imports only when needed."""
    import casync_compat

    for module in pkgutil.walk_packages(casync_compat.__path__, "casync_compat."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("concurrent.futures", "ctypes", "lzma", "zstandard", "construct"):
        importlib.import_module(name)


def become(job: dict[str, object]) -> list[str]:
    """In a new child: take over the job's directory and streams. Returns the words of its command line."""
    os.chdir(str(job["cwd"]))
    os.umask(0o022)
    environ = job.get("environ") or {}
    assert isinstance(environ, dict)
    os.environ.update(environ)
    for fd, name, flags in (
        (0, "stdin", os.O_RDONLY),
        (1, "stdout", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(str(job[name]), flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    words = job["words"]
    assert isinstance(words, list)
    return words


def serve() -> list[str]:
    """Fork for every job. Returns, in each child, its words; in the parent, when there are no more jobs, never."""
    answers = os.dup(1)
    while line := sys.stdin.buffer.readline():
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.close(answers)
            limits = job.get("limits") or []
            assert isinstance(limits, list)
            for which, most in limits:
                if which == resource.RLIMIT_AS:  # beyond what is mapped already
                    with open("/proc/self/statm", "rb") as file:
                        most += int(file.read().split()[0]) * resource.getpagesize()
                resource.setrlimit(which, (most, most))
            signal.alarm(int(str(job["seconds"])))  # ends what hangs
            try:
                return become(job)
            except BaseException:
                os._exit(99)  # not the command's
        _, status, usage = os.wait4(pid, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "peak": usage.ru_maxrss}
        os.write(answers, json.dumps(answer).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    from casync_compat.cli import main

    warm_up()
    sys.exit(main(serve()))
