"""Completion scripts for shells."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from casync_compat.cli import _options, _verbs, oci

from .conftest import Run


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_scripts(ok: Run, shell: str) -> None:
    """There is a script for each shell; those for bash and zsh know every verb and its options."""
    pytest.importorskip("shtab")
    script = ok("completion", shell).out.decode()
    assert "pycasync" in script
    for verb in [*_verbs.VERBS, *_verbs.GROUPS, *oci.VERBS]:
        assert re.search(rf"(?<![\w-]){verb}(?![\w-])", script), verb
    if shell != "tcsh":
        flags = {option.flags[-1] for option in _options.OPTIONS} - {"--mkdir"}
        for verb in oci.VERBS:
            flags |= {flag for flag in _verbs.parser_of("oci", verb).takes_value if flag.startswith("--")}
        assert [flag for flag in flags if flag not in script] == []


def test_other_shells(fails: Callable[..., str]) -> None:
    """A shell without a script is an error that lists those with one."""
    assert fails("completion", "fish") == "no completion for 'fish'; there is one for bash, zsh, tcsh"


def test_without_a_shell(fails: Callable[..., str]) -> None:
    """The shell must be named."""
    assert "the following arguments are required: the shell" in fails("completion")
