"""`pycasync oci` as whoever knows skopeo and docker types it: tags, copy, delete, what an image says, and logins."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest
from test_cli.conftest import Run
from test_oci.images import Built, build, layer, layout_at

from casync_compat.cli._parser import Parser, WrongWords
from casync_compat.cli.oci import _common, _options


@pytest.fixture
def image(tmp_path: Path) -> Built:
    """oci:images:app, and the same image under another tag."""
    with layout_at(tmp_path / "images") as layout:
        built = build(layout, "app", [layer({"etc/app": b"1" * 500})])
        layout.tag("again", built.descriptor)
        return built


def test_tags(ok: Run, image: Built) -> None:
    """One a line, sorted."""
    assert ok("oci", "tags", "oci:images").out == b"again\napp\n"


def test_tags_of_a_tag(run: Run, image: Built) -> None:
    """A tag has no tags; that is wrong whatever is there."""
    said = run("oci", "tags", "oci:images:app")
    assert said.status == 2
    assert b"leave out 'app'" in said.err


def test_copy(ok: Run, image: Built) -> None:
    """The same bytes elsewhere, whose tag is the source's."""
    ok("oci", "copy", "--digestfile=digest", "oci:images:app", "oci:there")
    assert Path("digest").read_text() == str(image.descriptor.digest)
    assert ok("oci", "tags", "oci:there").out == b"app\n"


def test_documents_to_the_byte(ok: Run, image: Built) -> None:
    """The manifest as it lies there, and the configuration: also that of the image that a converted one was."""
    assert ok("oci", "inspect", "--raw", "oci:images:app").out == image.manifest.raw
    assert ok("oci", "inspect", "--config", "oci:images:app").out == image.config
    ok("oci", "convert", "--thin", "oci:images:app", "oci:images:thin")
    assert ok("oci", "inspect", "--config", "oci:images:thin").out == image.config


@pytest.mark.parametrize("words", ["--raw --config", "--raw --json", "--raw --platform=linux/amd64"])
def test_one_document(run: Run, image: Built, words: str) -> None:
    """Only one can be printed."""
    assert run("oci", "inspect", *words.split(), "oci:images:app").status == 2


def test_delete_from_a_layout(ok: Run, run: Run, image: Built) -> None:
    """The tag goes, others of the same image stay."""
    assert b"Would delete oci:images:app" in ok("oci", "delete", "-n", "oci:images:app").out
    assert ok("oci", "tags", "oci:images").out == b"again\napp\n"
    assert b"Deleted oci:images:app" in ok("oci", "delete", "oci:images:app").out
    assert ok("oci", "tags", "oci:images").out == b"again\n"
    assert run("oci", "delete", "oci:images:app").status == 1


def test_delete_what(run: Run, image: Built) -> None:
    """Without a tag nothing is deleted, and of an archive nothing can be."""
    assert run("oci", "delete", "oci:images").status == 2
    assert run("oci", "delete", "docker-archive:x.tar:a:b").status == 1


def parsed(*words: str, sides: bool = True) -> argparse.Namespace:
    parser = Parser("pycasync oci copy", "copy")
    _options.add_registry(parser, sides=sides)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "target", "source"),
    [
        ("", "secure - -", "secure - -"),
        ("--creds=joe:a:b", "secure joe a:b", "secure joe a:b"),
        ("--tls-verify=false", "insecure - -", "insecure - -"),
        ("--insecure", "insecure - -", "insecure - -"),
        ("--src-creds=joe:x --dest-tls-verify=false", "insecure - -", "secure joe x"),
        ("--creds=joe:x --src-creds=ann:y", "secure joe x", "secure ann y"),
        ("--tls-verify=false --src-tls-verify=true", "insecure - -", "secure - -"),
    ],
)
def test_logins(words: str, target: str, source: str) -> None:
    """What is said of one side counts for it alone, and for more than what is said of both."""
    for login, expected in zip(_common.logins(parsed(*words.split())), (target, source), strict=True):
        said = f"{'insecure' if login.insecure else 'secure'} {login.username or '-'} {login.password or '-'}"
        assert said == expected


def test_files_of_credentials() -> None:
    """Each side may have its own."""
    target, source = _common.logins(parsed("--authfile=a.json", "--src-authfile=b.json"))
    assert (target.auth_file, source.auth_file) == ("a.json", "b.json")


def test_a_password_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of it, read once for both sides."""
    monkeypatch.setattr("sys.stdin", io.StringIO("pass word\nmore\n"))
    target, source = _common.logins(parsed("--creds=joe", "--password-stdin"))
    assert target == source
    assert target.password == "pass word"
    monkeypatch.setattr("sys.stdin", io.StringIO("other"))
    target, source = _common.logins(parsed("--dest-creds=joe", "--password-stdin"))
    assert (target.password, source.username) == ("other", None)
    assert "pass word" not in repr(target)


def test_a_password_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody sits at a terminal, and once for both sides."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "secret")
    target, source = _common.logins(parsed("--creds=joe"))
    assert target == source
    assert target.password == "secret"
    assert asked == ["Password for joe: "]


@pytest.mark.parametrize(
    "words",
    ["--creds=joe", "--password-stdin", "--insecure --tls-verify=true", "--insecure --src-tls-verify=true"],
)
def test_logins_that_make_no_sense(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that nobody gives, one for nobody, and both of two opposites."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(WrongWords):
        _common.logins(parsed(*words.split()))


def test_json(ok: Run, image: Built) -> None:
    """For programs."""
    said = json.loads(ok("oci", "tags", "--json", "oci:images").out)
    assert said == {"name": "oci:images", "tags": ["again", "app"]}
