"""`config.toml`: defaults of options, and `pycasync config`, which says what is in force and where it is from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Run

Configured = Callable[[str], Path]


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configured:
    """Write a configuration, which counts from then on."""

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        monkeypatch.setenv("PYCASYNC_CONFIG", str(path))
        return path

    return write


def test_defaults(ok: Run, tree: Path, configured: Configured) -> None:
    """An option that is configured counts where the command line does not say; a verb's own table counts for more."""
    configured(
        '[defaults]\nstore = "all.castr"\nchunk-size = "32K"\n'
        '[defaults.make]\nstore = "own.castr"\nwithout = ["xattrs"]\n'
    )
    ok("make", "x.caidx", "tree")
    assert Path("own.castr").is_dir()
    sizes = json.loads(ok("info", "--json", "x.caidx").out)
    assert sizes["chunk_size_avg"] == 32 << 10
    assert "xattrs" not in sizes["features"]
    ok("make", "y.caidx", "tree", "--store=said.castr", "--chunk-size=64K")
    assert Path("said.castr").is_dir()
    assert json.loads(ok("info", "--json", "y.caidx").out)["chunk_size_avg"] == 64 << 10
    assert not Path("all.castr").exists()


def test_the_environment_counts_for_more(
    ok: Run, tree: Path, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$CASYNC_STORE goes before a store that is configured."""
    configured('[defaults]\nstore = "configured.castr"\n')
    monkeypatch.setenv("CASYNC_STORE", "variable.castr")
    ok("make", "x.caidx", "tree")
    assert Path("variable.castr").is_dir()
    assert not Path("configured.castr").exists()


def test_quiet_and_verbose(run: Run, tree: Path, configured: Configured) -> None:
    """What is said now counts for more than what was said for always, even where it is the contrary."""
    configured("[defaults]\nquiet = true\n")
    assert b"Archive size" in run("make", "-v", "x.catar", "tree").err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[defaults.make]\n\nnonsense = 1\n", "config.toml: line 3: make has no option --nonsense"),
        ('[defaults]\njobs = "many"\n', "line 2: jobs: invalid int value: 'many'"),
        ('[defaults.make]\ndry-run = "yes"\n', "line 2: --dry-run takes no value; write true or false"),
        ('[defaults.make]\nstore = ["a", "b"]\n', "line 2: --store takes one value"),
        (
            "[defaults.make]\njobs = 1970-01-01\n",
            "jobs must be text, a number, true, false or a list of texts",
        ),
        ("defaults = 3\n", "defaults must be a table"),
        (
            "[defaults.make]\ndry-rum = true\n",
            "line 2: make has no option --dry-rum; did you mean --dry-run?",
        ),
        ("jobs = 1\nx = 3 4\n", "config.toml: line 2: not TOML: Expected newline or end of document"),
        ("[defaults]\n\n[stores.x\n", "config.toml: line 3: not TOML: Expected ']'"),
        ('[stores.x]\npassword-file = "nowhere"\n', "names a file that has no secret: nowhere: No such file"),
    ],
)
def test_what_is_wrong(fails: Callable[..., str], configured: Configured, text: str, says: str) -> None:
    """What the file says wrongly is told with the file, the line and the key."""
    configured(text)
    assert says in fails("make", "x.catar", "tree")


def test_what_is_in_force(
    ok: Run, configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value stands with where it is from, secrets are not shown, and the text can be put into the file."""
    (tmp_path / "token").write_text("Bearer geheim\n")
    path = configured(
        'chunk-cache = "/cache"\n[defaults.make]\njobs = 3\n'
        '[stores."https://*/*"]\nauthorization-file = "token"\nretries = 7\n'
    )
    said = ok("config", "https://example.com/store").out.decode()
    assert said.splitlines()[0] == f"# {path}"
    assert f'chunk-cache = "/cache"  # {path}: line 1' in said
    assert f'[defaults.make]\njobs = "3"  # {path}: line 3' in said
    assert f'[stores."https://example.com/store"]\nauthorization = "(hidden)"  # {path}: line 5' in said
    assert f"retries = 7  # {path}: line 6" in said
    assert f"# PYCASYNC_CONFIG={path}" in said
    assert "geheim" not in said
    (tmp_path / "again.toml").write_text(said.replace("(hidden)", "Bearer other"))
    (tmp_path / "again.toml").chmod(0o600)
    monkeypatch.setenv("PYCASYNC_CONFIG", str(tmp_path / "again.toml"))
    again = ok("config", "https://example.com/store").out.decode()
    assert [line.split("  # ")[0] for line in again.splitlines()[1:10]] == [
        line.split("  # ")[0] for line in said.splitlines()[1:10]
    ]


def test_secrets_of_the_environment(ok: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and logins in variables are told to be there, and not shown."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("CASYNC_STORE", "https://me:geheim@example.com/store")
    found = json.loads(ok("config", "--json", "s3://bucket/store").out)
    assert found["environment"]["AWS_SECRET_ACCESS_KEY"] == "(hidden)"
    assert "geheim" not in json.dumps(found)
    origins = {one["name"]: one["origin"] for one in found["settings"]}
    assert origins["secret-key"] == "the environment"


def test_what_nobody_asks_for(run: Run, configured: Configured) -> None:
    """`config` warns of verbs and options that there are not."""
    configured(
        '[defaults]\nchunk-sise = "1M"\n[defaults.mak]\njobs = 1\n[defaults."oci ls"]\ndelete = true\n'
    )
    said = run("config").err.decode()
    assert "line 2: no verb has an option --chunk-sise; did you mean --chunk-size?" in said
    assert "line 4: there is no verb mak; did you mean make?" in said
    assert said.count("\n") == 3
    assert "line 6: oci ls has no option --delete" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[defaults]\nstroe = "x"\n', "line 2: no verb has an option --stroe; did you mean --store?"),
        ("[defaults.maek]\njobs = 1\n", "line 2: there is no verb maek; did you mean make?"),
        ("[default]\njobs = 1\n", "line 1: unknown table 'default'; did you mean 'defaults'?"),
        ('[store."s3://*"]\njobs = 1\n', "line 1: unknown table 'store'; did you mean 'stores'?"),
        ('chunk-cach = "x"\n', "line 1: unknown key 'chunk-cach'; did you mean 'chunk-cache'?"),
        ('[stores."s3://*"]\nretry = 1\n', "line 2: unknown key 'retry'; did you mean 'retries'?"),
        ('[stores."s3://*"]\ncolour = 1\n', "line 2: unknown key 'colour'\n"),
    ],
)
def test_what_is_not_known(run: Run, tree: Path, configured: Configured, text: str, says: str) -> None:
    """What no run asks for is told by every run, in a line with the file, the place and the name that is near."""
    path = configured(text)
    done = run("make", "x.catar", "tree")
    assert done.status == 0
    assert f"warning: {path}: {says}" in done.err.decode()
    assert done.err.count(b"warning") == 1


def test_options_of_images(run: Run, tree: Path, configured: Configured) -> None:
    """An option that only some verbs have is nothing wrong in the table of all."""
    configured('[defaults]\nplatform = "linux/amd64"\nkey = "k"\nlisten = "localhost:1"\n')
    assert b"warning" not in run("make", "x.catar", "tree").err


def test_a_verb_of_a_group(ok: Run, run: Run, configured: Configured) -> None:
    """Verbs of images have defaults, too, in a table with both words."""
    configured('[defaults."oci ls"]\njson = true\nlong = true\n')
    assert b"--json and --long contradict each other" in run("oci", "ls", "oci:x").err
