"""What `config.toml` and desync's `config.json` say of stores, which counts for more, and what they may not say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from casync_compat.compression import Compression
from casync_compat.errors import FileError, UsageError
from casync_compat.ids import Digest
from casync_compat.locations import Configuration, Settings, open_local_store

D = Digest.SHA512_256
URL = "https://example.com/store"
KEY = "6368616e676520746869732070617373776f726420746f206120736563726574"


class Home:
    """A home directory with either file, and what its owner is warned of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.environ = {"HOME": str(path)}

    def ours(self, text: str, mode: int = 0o600) -> Path:
        return self._write(self.path / ".config/pycasync/config.toml", text, mode)

    def desync(self, content: object) -> Path:
        return self._write(self.path / ".config/desync/config.json", json.dumps(content, indent=2), 0o600)

    def _write(self, file: Path, text: str, mode: int) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def configuration(self, **given: object) -> Configuration:
        return Configuration(self.environ, self.warnings.append, given)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_without_files_nothing_is_said(home: Home) -> None:
    """Neither file is needed."""
    options = home.configuration()(URL)
    assert options.timeout is None
    assert not options.uncompressed
    assert home.warnings == []


def test_every_key_of_ours(home: Home) -> None:
    """Each key of a table means what the table of the documentation says."""
    home.path.joinpath("key").write_text(KEY + "\n")
    home.ours(
        f"""
        [stores."{URL}"]
        jobs = 4
        timeout = 2.5
        retries = 7
        retry-interval = 0.25
        ca-cert = "/ca.pem"
        client-cert = "/me.pem"
        client-key = "/me.key"
        trust-insecure = true
        authorization = "Bearer t"
        cookie = "a=b"
        headers = {{ X-Team = "os" }}
        username = "me"
        password = "secret"
        access-key = "ak"
        secret-key = "sk"
        session-token = "st"
        region = "eu"
        credentials-file = "/aws"
        profile = "p"
        uncompressed = true
        encryption = true
        encryption-algorithm = "aes-256-gcm"
        encryption-key-file = "{home.path}/key"
        """
    )
    found = home.configuration()(URL)
    assert (found.jobs, found.timeout, found.retries, found.retry_interval) == (4, 2.5, 7, 0.25)
    assert (found.ca_cert, found.client_cert, found.client_key) == ("/ca.pem", "/me.pem", "/me.key")
    assert found.trust_insecure
    assert (found.authorization, found.cookie, found.headers) == ("Bearer t", "a=b", (("X-Team", "os"),))
    assert (found.username, found.password) == ("me", "secret")
    assert (found.access_key, found.secret_key, found.session_token) == ("ak", "sk", "st")
    assert (found.region, found.credentials_file, found.profile) == ("eu", "/aws", "p")
    assert found.uncompressed
    assert (found.encryption, found.encryption_algorithm, found.encryption_key) == (True, "aes-256-gcm", KEY)
    assert home.warnings == []


def test_every_key_of_desync(home: Home) -> None:
    """desync's times are nanoseconds, its tries count the first one."""
    home.desync(
        {
            "s3-credentials": {
                "https://example.com": {"access-key": "ak", "secret-key": "sk", "aws-region": "eu"}
            },
            "oci-credentials": {"oci+https://example.com/*": {"username": "me", "secret": "pw"}},
            "store-options": {
                URL + "/": {
                    "n": 4,
                    "client-cert": "/me.pem",
                    "client-key": "/me.key",
                    "ca-cert": "/ca.pem",
                    "trust-insecure": True,
                    "http-auth": "Bearer t",
                    "http-cookie": "a=b",
                    "timeout": 2_500_000_000,
                    "error-retry": 3,
                    "error-retry-base-interval": 500_000_000,
                    "skip-verify": True,
                    "uncompressed": True,
                    "encryption": True,
                    "encryption-key": KEY.upper(),
                }
            },
        }
    )
    configuration = home.configuration()
    found = configuration(URL)
    assert (found.jobs, found.timeout, found.retries, found.retry_interval) == (4, 2.5, 2, 0.5)
    assert (found.ca_cert, found.client_cert, found.client_key) == ("/ca.pem", "/me.pem", "/me.key")
    assert (found.authorization, found.cookie) == ("Bearer t", "a=b")
    assert found.trust_insecure
    assert found.uncompressed
    assert (found.encryption, found.encryption_key) == (True, KEY)
    found = configuration("s3+https://example.com/bucket/prefix?lookup=path")
    assert (found.access_key, found.secret_key, found.region) == ("ak", "sk", "eu")
    assert configuration("s3+http://example.com/bucket").access_key is None
    assert configuration("oci+https://example.com/store").username == "me"
    assert home.warnings == []


def test_order(home: Home) -> None:
    """The command line is asked first, then the environment, our file, and desync's."""
    where = "s3+https://h/b"
    home.desync(
        {
            "s3-credentials": {"https://h": {"access-key": "desync", "aws-region": "desync"}},
            "store-options": {where: {"n": 1, "ca-cert": "desync", "http-auth": "desync"}},
        }
    )
    home.ours(f'[stores."{where}"]\njobs = 2\nca-cert = "ours"\naccess-key = "ours"\nregion = "ours"')
    home.environ["S3_ACCESS_KEY"] = "environment"
    found = home.configuration(jobs=3, ca_cert=None)(where)
    assert found.jobs == 3
    assert found.access_key == "environment"
    assert (found.ca_cert, found.region) == ("ours", "ours")
    assert found.authorization == "desync"


@pytest.mark.parametrize(
    ("key", "where", "matches"),
    [
        (URL, URL + "/", True),
        (URL + "/", URL, True),
        ("https://example.com/*", URL, True),
        ("https://*/store", URL, True),
        ("https://example.com/*", URL + "/sub", False),
        ("https://example.com/st?re", URL, True),
        ("https://example.com/[a-s]tore", URL, True),
        ("https://example.com/[^s]tore", URL, False),
        (r"https://example.com/\store", URL, True),
        ("https://example.com/[store", URL, False),
        ("https://example.com", URL, False),
        ("/srv/*.castr", "/srv/x.castr", True),
        ("/srv/*.castr", "/srv//y/../x.castr/", True),
        ("/srv/*.castr", "/srv/a/x.castr", False),
        (URL, "/srv", False),
    ],
)
def test_patterns(home: Home, key: str, where: str, matches: bool) -> None:
    """Keys match as desync's do."""
    home.desync({"store-options": {key: {"n": 5}}})
    assert home.configuration()(where).jobs == (5 if matches else None)


def test_the_longest_of_ours_counts(home: Home) -> None:
    """A key for one store is stronger than one for many."""
    home.ours('[stores."https://*/*"]\njobs = 1\n[stores."https://example.com/*"]\njobs = 2')
    assert home.configuration()(URL).jobs == 2
    assert home.configuration()("https://example.org/store").jobs == 1


def test_two_of_desync_are_an_error(home: Home) -> None:
    """As desync has it; the message names the file and both keys."""
    file = home.desync({"store-options": {"https://*/*": {}, "https://example.com/*": {}}})
    with pytest.raises(UsageError) as caught:
        home.configuration()(URL)
    for part in (str(file), "https://*/*", "https://example.com/*"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'[stores."{URL}"]\n\ntimeout = "soon"\n', ["line 3", "timeout", "seconds"]),
        (f'[stores."{URL}"]\njobs = -1\n', ["line 2", "jobs", "whole number"]),
        (f'[stores."{URL}"]\ntrust-insecure = 1\n', ["line 2", "trust-insecure", "true or false"]),
        (f'\nstores."{URL}" = 3\n', ["line 2", URL, "table"]),
        (f'[stores."{URL}"]\nencryption-key = "abc"\n', ["line 2", "encryption-key", "64 hexadecimal"]),
        (f'[stores."{URL}"]\nencryption-key-file = "/no/such"\n', ["line 2", "/no/such"]),
        (f'[stores."{URL}"]\nheaders = {{ A = "b\\r\\nC: d" }}\n', ["line 2", "headers"]),
        ("[stores\n", ["line 1"]),
        (f'[stores."{URL}"]\nencryption-key = "{KEY}"\n', ["encryption = true"]),
    ],
)
def test_malformed(home: Home, text: str, said: list[str]) -> None:
    """What is wrong is one line with the file or store, the line and the key; never a value."""
    home.ours(text)
    with pytest.raises(UsageError) as caught:
        home.configuration()(URL)
    for part in said:
        assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"store-options": 3}', json.dumps({"store-options": {URL: {"n": "x"}}})]
)
def test_malformed_json(home: Home, text: str) -> None:
    """The same for desync's file."""
    file = home.desync({})
    file.write_text(text)
    with pytest.raises(UsageError, match=r"config\.json: line \d+: "):
        home.configuration()(URL)


def test_what_desync_itself_writes(home: Home) -> None:
    """`desync config -w` writes null for a section that is empty."""
    home.desync({"s3-credentials": None, "oci-credentials": None, "store-options": None})
    assert home.configuration()(URL).jobs is None


def test_unknown_keys_are_a_warning(home: Home) -> None:
    """A file for a newer version still works, and a typing error is not hidden."""
    home.ours(f'colour = "red"\n[stores."{URL}"]\njobs = 2\ntimeuot = 3\n')
    assert home.configuration()(URL).jobs == 2
    assert len(home.warnings) == 2
    assert "line 1: unknown key 'colour'" in home.warnings[0]
    assert "line 4: unknown key 'timeuot'" in home.warnings[1]


@pytest.mark.parametrize(
    ("mode", "key", "warned"), [(0o644, "cookie", True), (0o600, "cookie", False), (0o644, "region", False)]
)
def test_secrets_for_everybody_are_a_warning(home: Home, mode: int, key: str, warned: bool) -> None:
    """Said once, and only where there is a secret; the file is used all the same."""
    home.ours(f'[stores."{URL}"]\n{key} = "hush"\n', mode)
    configuration = home.configuration()
    configuration(URL)
    configuration(URL)
    assert len(home.warnings) == warned
    assert not any("hush" in text for text in home.warnings)


def test_secrets_are_not_shown(home: Home) -> None:
    """Options may be printed."""
    home.ours(f'[stores."{URL}"]\npassword = "hush"\nsecret-key = "hush"\ncookie = "hush"')
    assert "hush" not in repr(home.configuration()(URL))


def test_where_ours_is(home: Home, tmp_path: Path) -> None:
    """`$PYCASYNC_CONFIG` counts for more than `$XDG_CONFIG_HOME`, and that for more than `~/.config`."""
    home.ours(f'[stores."{URL}"]\njobs = 1')
    assert home.configuration()(URL).jobs == 1
    xdg = tmp_path / "xdg/pycasync"
    xdg.mkdir(parents=True)
    xdg.joinpath("config.toml").write_text(f'[stores."{URL}"]\njobs = 2')
    home.environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    assert home.configuration()(URL).jobs == 2
    named = tmp_path / "named.toml"
    named.write_text(f'[stores."{URL}"]\njobs = 3')
    home.environ["PYCASYNC_CONFIG"] = str(named)
    assert home.configuration()(URL).jobs == 3


def test_a_file_that_was_named_must_be_there(home: Home) -> None:
    """Nobody is to believe that it was read."""
    home.environ["PYCASYNC_CONFIG"] = "/no/such/config.toml"
    with pytest.raises(FileError, match="/no/such/config"):
        home.configuration()(URL)


def test_nobody_reads_files_without_an_environment(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library opens no file in the home directory of whoever runs it."""
    home.ours(f'[stores."{URL}"]\njobs = 1')
    monkeypatch.setenv("HOME", str(home.path))
    assert Configuration({})(URL).jobs is None


def test_uncompressed(home: Home, tmp_path: Path) -> None:
    """Of a local store, too, may be said that its chunks are plain; what a caller asks for counts for more."""
    home.ours(f'[stores."{tmp_path}/*"]\nuncompressed = true')
    options = home.configuration()
    raw = b"x" * 1000
    open_local_store(str(tmp_path / "plain"), Settings(options=options)).put(D.of(raw), raw)
    asked = Settings(options=options, compression=Compression.XZ)
    open_local_store(str(tmp_path / "packed"), asked).put(D.of(raw), raw)
    assert [file.suffix for file in tmp_path.glob("plain/*/*")] == [""]
    assert [file.suffix for file in tmp_path.glob("packed/*/*")] == [".cacnk"]


def test_command_line(home: Home, tmp_path: Path) -> None:
    """The verbs look at both files, and a malformed one is one line."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(b"content" * 100)
    file = home.ours(f'[stores."{tmp_path}/*"]\nuncompressed = true')
    command = [sys.executable, "-m", "casync_compat", "make", "--store=s", "x.caidx", "tree"]
    environ = {**os.environ, **home.environ, "XDG_CONFIG_HOME": ""}
    subprocess.run(command, cwd=tmp_path, env=environ, check=True, timeout=60, capture_output=True)
    assert {file.suffix for file in tmp_path.glob("s/*/*")} == {""}
    file.write_text("[stores")
    done = subprocess.run(command, cwd=tmp_path, env=environ, timeout=60, capture_output=True, text=True)
    assert done.returncode == 1
    assert str(file) in done.stderr
    assert len(done.stderr.splitlines()) == 1
