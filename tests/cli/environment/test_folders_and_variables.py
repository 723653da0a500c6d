"""The working folder, the home folder, paths and environment variables."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cli.command_line import run_harness
from cli.environment.small_benchmark import COMMAND, DIGITS, LINUX, SMALL


@LINUX
def test_removed_working_folder(tmp_path: Path) -> None:
    """Every command ends with one line: relative paths mean nothing there, and torch cannot be imported."""
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", f"rmdir {gone}; exec {' '.join(COMMAND)} list"], cwd=gone, capture_output=True, text=True, check=False
    )
    message = "error: the working folder cannot be used: No such file or directory; change to one that is there\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_run_without_a_home_folder(tmp_path: Path) -> None:
    """The data set `digits` needs no data root."""
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(DIGITS))
    run_harness("run", "digits.yaml", "--workers", "1", cwd=tmp_path, HOME="", XDG_CACHE_HOME="")


NO_ROOT = (
    "data set 'cifar10': there is no data root, since HOME is not set and the user has no home folder; "
    "name a folder with --data or HARNESS_DATA"
)


@LINUX
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs user namespaces")
def test_user_without_home_and_name(folder: Path) -> None:
    """`digits` works; for a data set that needs the data root, the run and the doctor say how to name one."""
    unknown = ["unshare", "--user", "--map-user=54321", "env", "-u", "HOME", "-u", "XDG_CACHE_HOME"]
    if subprocess.run([*unknown, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not create user namespaces")
    options = {"cwd": folder, "capture_output": True, "text": True, "check": False}
    (folder / "cifar.yaml").write_text(yaml.safe_dump({**DIGITS, "datasets": [*DIGITS["datasets"], "cifar10"]}))
    done = subprocess.run([*unknown, *COMMAND, "run", "cifar.yaml", "--workers", "2"], **options)
    assert done.returncode == 1, done.stderr
    assert f"failed: {NO_ROOT}\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "digits ×" not in done.stderr
    doctor = subprocess.run([*unknown, *COMMAND, "doctor"], **options)
    assert "data      no data root, since there is no home folder; name one with --data or HARNESS_DATA\n" in doctor.stdout


def test_home_folder_that_does_not_exist(tmp_path: Path) -> None:
    """For a data set that needs the data root, the message names the options that set it."""
    (tmp_path / "cifar.yaml").write_text(yaml.safe_dump({**SMALL, "datasets": ["cifar10"]}))
    (tmp_path / "file").touch()
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    home = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": ""}
    done = run_harness("run", "cifar.yaml", "--workers", "1", cwd=tmp_path, code=1, **home, **offline)
    root = tmp_path / "file" / ".cache" / "basin-harness" / "data"
    assert f"or name another data root with --data or HARNESS_DATA, since {root} cannot be written" in done.stderr


def test_tilde(folder: Path, finished_run: Path) -> None:
    """It is the home folder in options, arguments and variables that the shell does not expand."""
    home = folder / "home"
    shutil.copytree(finished_run, home)
    store = home / "runs" / "store"
    run_harness("run", "~/small.yaml", "--store=~/runs/store", "--out=~/out", "--data=~/data", cwd=folder, HOME=str(home))
    assert (home / "out" / "results.csv").exists()
    assert not list(folder.glob("~*"))
    board = run_harness("leaderboard", "~/out", "--out=~/board.md", cwd=folder, HOME=str(home))
    assert board.stderr == ""
    assert (home / "board.md").exists()
    plan = run_harness("plan", "~/small.yaml", cwd=folder, HOME=str(home), HARNESS_STORE="~/runs/store", HARNESS_DATA="~/data")
    assert "epochs to train now:                       0" in plan.stdout
    task = next(path.name for path in store.glob("objects/*/*"))
    run_harness("worker", "--task", task, "--store=~/runs/store", cwd=folder, HOME=str(home))
    assert not list(folder.glob("~*"))


BAD_PATHS: dict[str, tuple[list[str], dict[str, str], str]] = {
    "no home": (
        ["run", "small.yaml", "--store=~/x"],
        {"HOME": ""},
        "--store ~/x: there is no home folder (HOME names none); write the path in full, or ./~/x for a folder of that name",
    ),
    "relative home": (["plan", "~/x.yaml"], {"HOME": "home"}, "FILE ~/x.yaml: there is no home folder (HOME names none)"),
    "unknown user": (
        ["run", "small.yaml", "--out=~no_such_user/x"],
        {},
        "--out ~no_such_user/x: there is no user 'no_such_user' here; write the path in full",
    ),
    "unknown user in a variable": (
        ["plan", "small.yaml"],
        {"HARNESS_STORE": "~no_such_user"},
        "HARNESS_STORE ~no_such_user: there is no user 'no_such_user' here",
    ),
    "worker": (["worker", "--task", "a", "--data=~/x"], {"HOME": ""}, "--data ~/x: there is no home folder"),
    "empty": (["run", "small.yaml", "--store="], {}, "--store: the path is empty; name a file or folder"),
}


@pytest.mark.parametrize("case", BAD_PATHS)
def test_invalid_path(folder: Path, case: str) -> None:
    """One line names the option or variable, what is wrong and the next step; no file is created."""
    words, environment, message = BAD_PATHS[case]
    done = run_harness(*words, cwd=folder, code=2, **environment)
    assert f"error: {message}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


def test_blank_variables(finished_run: Path) -> None:
    """They count as not set: store and data root are the defaults, and no plugin is disabled."""
    blank = dict.fromkeys(("HARNESS_STORE", "HARNESS_DATA", "HARNESS_DISABLED_PLUGINS"), " ")
    done = run_harness("plan", "small.yaml", cwd=finished_run, **blank)
    assert "epochs to train now:                       0" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", [["list", "engine"], ["check", "small.yaml"], ["plan", "small.yaml"]], ids=" ".join)
def test_unknown_name_of_a_disabled_plugin(finished_run: Path, command: list[str]) -> None:
    """Every command that loads plugins warns, suggests the nearest name, and continues."""
    done = run_harness(*command, cwd=finished_run, HARNESS_DISABLED_PLUGINS="metrix")
    warning = (
        "warning: HARNESS_DISABLED_PLUGINS names 'metrix', which no plugin or distribution is called; did you mean 'metrics'?"
    )
    assert done.stderr.startswith(warning)
    assert len(done.stderr.splitlines()) == 1
