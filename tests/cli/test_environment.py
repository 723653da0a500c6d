"""The command line in odd surroundings: the working folder, standard streams, home folder, paths, plugins left out.

Most runs train one linear network on a few points: what they show is how processes are started, and torch's import takes
longer than all training. With `--workers 2` and one member, one worker process is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from cli.test_commands import FILE, harness

COMMAND = [sys.executable, "-P", "-m", "harness"]
SMALL = {
    **FILE,
    "members": 1,
    "datasets": ["points"],
    "architectures": ["line"],
    "methods": ["deep"],
    "metrics": ["ensemble_accuracy"],
}
DIGITS = {**SMALL, "datasets": FILE["datasets"]}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc, user namespaces and /dev/full are Linux's")


POINTS = """
import harness

class Points(harness.Dataset):
    name = "points"
    shape, num_classes, fingerprint = (1, 2, 2), 2, "points-1"
    normalization = ((0.5,), (0.25,))
    train_size = 64

    def load(self, root):
        import torch
        labels = torch.arange(64) % 2
        images = (100 * labels[:, None, None, None] + 10).expand(-1, 1, 2, 2).to(torch.uint8).contiguous()
        return harness.Split(images, labels), harness.Split(images, labels)

class Line(harness.Architecture):
    name = "line"

    def build(self, shape, num_classes):
        import math
        from torch import nn
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), num_classes))

@harness.hookimpl
def register_datasets(register):
    register(Points)

@harness.hookimpl
def register_architectures(register):
    register(Line)
"""


def write_plugin(folder: Path, name: str, code: str) -> None:
    """Write a plugin of one module, its entry point in group `harness` beside it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[harness]\n{name} = {name}\n")
    (folder / f"{name}.py").write_text(code)


def with_path(*folders: Path | str) -> str:
    """Return PYTHONPATH with folders before it."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="module", autouse=True)
def points_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put the plugin with `points` and `line` on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("points")
    write_plugin(folder, "points", POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", with_path(folder))
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark file and a finished run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    harness("run", "small.yaml", "--workers", "1", cwd=folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a benchmark file."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return tmp_path


def rows(folder: Path) -> bytes:
    return (folder / "runs" / "small" / "results.csv").read_bytes()


SHADOWS = ["random.py", "numpy.py", "torch.py", "json.py", "platform.py", "yaml.py", "harness_basin/__init__.py"]


def write_shadows(folder: Path) -> None:
    for name in SHADOWS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("import pathlib\npathlib.Path('imported.txt').open('a').write(__file__)\n")


def test_files_named_as_libraries_are_not_imported(folder: Path, undisturbed: Path) -> None:
    """Neither by the command nor by its workers, and the rows are those of any other folder."""
    write_shadows(folder)
    command = [sys.executable, "-m", "harness", "run", "small.yaml", "--workers", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (folder / "imported.txt").exists()
    assert rows(folder) == rows(undisturbed)


def test_launch_script_called_harness_runs_once(folder: Path, undisturbed: Path) -> None:
    """Workers do not run it again, nor what else lies there, where the command is started as an installed script is."""
    write_shadows(folder)
    script = f"""
import os, subprocess
open("calls.txt", "a").write("called ")
if open("calls.txt").read().count("called") < 3:
    subprocess.run({[*COMMAND, "run", "small.yaml", "--workers", "2"]!r}, check=True)
"""
    (folder / "harness.py").write_text(script)
    subprocess.run([sys.executable, "harness.py"], cwd=folder, check=True, capture_output=True)
    assert (folder / "calls.txt").read_text() == "called "
    assert not (folder / "imported.txt").exists()
    assert rows(folder) == rows(undisturbed)


def test_user_path_stays_in_force(tmp_path: Path) -> None:
    """PYTHONPATH is what the user wants, the working folder by a relative name too."""
    write_plugin(tmp_path, "mine", "raise ImportError")
    for relative in (".", "", str(tmp_path)):
        path = os.pathsep.join([with_path(relative), ""])
        assert "plugin 'mine' of distribution 'mine 1.0'" in harness("list", "engine", cwd=tmp_path, PYTHONPATH=path).stderr
    assert harness("list", "engine", cwd=tmp_path).stderr == ""


@pytest.mark.parametrize("workers", [1, 2])
def test_closed_streams(folder: Path, undisturbed: Path, workers: int) -> None:
    """The run does its work, and nothing that is meant for a closed stream ends up in a file."""
    command = f"exec {' '.join(COMMAND)} run small.yaml --workers {workers} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], cwd=folder, check=False).returncode == 0
    assert rows(folder) == rows(undisturbed)
    assert (folder / "runs" / "small" / "events.jsonl").read_text().startswith("{")


DESCRIPTORS = """
import os, subprocess, sys
from harness.cli.standard_streams import repair_standard_streams
repair_standard_streams()
file = open("file.txt", "w")
print("hidden"); print("hidden", file=sys.stderr); assert sys.stdin.read() == ""
os.write(2, b"hidden")
subprocess.run([sys.executable, "-c", "import sys; print('hidden', file=sys.stderr)"], check=True)
file.write(str(file.fileno() > 2))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_not_given_to_files(tmp_path: Path, closed: str) -> None:
    """A file gets none of the numbers 0 to 2, and what libraries and other processes print there does not end up in it."""
    (tmp_path / "try.py").write_text(DESCRIPTORS)
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} try.py {closed}"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file.txt").read_text() == "True"


def test_characters_that_standard_output_lacks(undisturbed: Path) -> None:
    """The board is printed, with escapes for them."""
    done = harness("leaderboard", "runs/small", cwd=undisturbed, PYTHONIOENCODING="latin-1")
    assert "ensemble_accuracy (%) \\u2191" in done.stdout


UNWRITABLE = {"full": "2>/dev/full", "read-only": "2</dev/null", "nobody reads": "2> >(exec true)"}


@LINUX
@pytest.mark.parametrize("redirection", UNWRITABLE.values(), ids=UNWRITABLE)
def test_standard_error_that_cannot_be_written(undisturbed: Path, redirection: str) -> None:
    """Neither the work nor the exit code depends on it."""
    environment = {**os.environ, "HARNESS_DISABLED_PLUGINS": "no_such_plugin"}  # warned of before anything else
    codes = []
    for words in ("check small.yaml", "check missing.yaml"):
        command = f"exec {' '.join(COMMAND)} {words} {redirection}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=undisturbed, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        codes.append((done.returncode, "good" in done.stdout))
    assert codes == [(0, True), (2, False)]


def test_interrupted_while_modules_are_imported(tmp_path: Path) -> None:
    """No traceback, and the exit code of every interrupted command."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    path = with_path(tmp_path)
    done = harness("list", cwd=tmp_path, code=130, PYTHONPATH=path)
    assert (done.stdout, done.stderr) == ("", "")
    library = [sys.executable, "-c", "import harness.cli"]
    other = subprocess.run(library, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert "KeyboardInterrupt" in other.stderr


@LINUX
def test_full_disk_behind_standard_output(undisturbed: Path) -> None:
    """One line."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "list"], cwd=undisturbed, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: standard output cannot be written: No space left on device\n")


def test_nobody_reads_standard_output(undisturbed: Path) -> None:
    """`| head` ends the command as any other one, without a word."""
    process = subprocess.Popen([*COMMAND, "list"], cwd=undisturbed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, b"")


@LINUX
def test_working_folder_that_is_gone(tmp_path: Path) -> None:
    """One line for every command: relative paths mean nothing, and torch does not load."""
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", f"rmdir {gone}; exec {' '.join(COMMAND)} list"], cwd=gone, capture_output=True, text=True, check=False
    )
    said = "error: the working folder cannot be used: No such file or directory; change to one that is there\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_run_without_a_home_folder(tmp_path: Path) -> None:
    """Digits need no data root."""
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(DIGITS))
    harness("run", "digits.yaml", "--workers", "1", cwd=tmp_path, HOME="", XDG_CACHE_HOME="")


NO_ROOT = (
    "data set 'cifar10': there is no data root, since HOME is not set and the user has no home folder; "
    "name a folder with --data or HARNESS_DATA"
)


@LINUX
@pytest.mark.skipif(shutil.which("unshare") is None, reason="user namespaces are not to be had")
def test_user_without_home_and_name(folder: Path) -> None:
    """Digits work; a data set that needs the data root says in one line how to name one, and so does the doctor."""
    unknown = ["unshare", "--user", "--map-user=54321", "env", "-u", "HOME", "-u", "XDG_CACHE_HOME"]
    if subprocess.run([*unknown, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("user namespaces are not to be had")
    options = {"cwd": folder, "capture_output": True, "text": True, "check": False}
    (folder / "cifar.yaml").write_text(yaml.safe_dump({**DIGITS, "datasets": [*DIGITS["datasets"], "cifar10"]}))
    done = subprocess.run([*unknown, *COMMAND, "run", "cifar.yaml", "--workers", "2"], **options)
    assert done.returncode == 1, done.stderr
    assert f"failed: {NO_ROOT}\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "digits ×" not in done.stderr
    doctor = subprocess.run([*unknown, *COMMAND, "doctor"], **options)
    assert "data      no data root, since there is no home folder; name one with --data or HARNESS_DATA\n" in doctor.stdout


def test_home_folder_that_is_not_there(tmp_path: Path) -> None:
    """A data set that needs the data root names the way out, beside the file that is missing."""
    (tmp_path / "cifar.yaml").write_text(yaml.safe_dump({**SMALL, "datasets": ["cifar10"]}))
    (tmp_path / "file").touch()
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    home = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": ""}
    done = harness("run", "cifar.yaml", "--workers", "1", cwd=tmp_path, code=1, **home, **offline)
    root = tmp_path / "file" / ".cache" / "basin-harness" / "data"
    assert f"or name another data root with --data or HARNESS_DATA, since {root} cannot be written" in done.stderr


def test_tilde_is_the_home_folder(folder: Path, undisturbed: Path) -> None:
    """In options, arguments and variables, where the shell leaves it as it is."""
    home = folder / "home"
    shutil.copytree(undisturbed, home)
    store = home / "runs" / "store"
    harness("run", "~/small.yaml", "--store=~/runs/store", "--out=~/out", "--data=~/data", cwd=folder, HOME=str(home))
    assert (home / "out" / "results.csv").exists()
    assert not list(folder.glob("~*"))
    board = harness("leaderboard", "~/out", "--out=~/board.md", cwd=folder, HOME=str(home))
    assert board.stderr == ""
    assert (home / "board.md").exists()
    plan = harness("plan", "~/small.yaml", cwd=folder, HOME=str(home), HARNESS_STORE="~/runs/store", HARNESS_DATA="~/data")
    assert "epochs to train now:                       0" in plan.stdout
    task = next(path.name for path in store.glob("objects/*/*"))
    harness("worker", "--task", task, "--store=~/runs/store", cwd=folder, HOME=str(home))
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
def test_paths_that_mean_nothing_are_one_line(folder: Path, case: str) -> None:
    """The option or variable, what is wrong, and the next step; nothing is made."""
    words, environment, said = BAD_PATHS[case]
    done = harness(*words, cwd=folder, code=2, **environment)
    assert f"error: {said}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["small.yaml"]


def test_blank_variables_are_as_if_not_set(undisturbed: Path) -> None:
    """The store and the data root are the default ones, and no plugin is left out."""
    blank = dict.fromkeys(("HARNESS_STORE", "HARNESS_DATA", "HARNESS_DISABLED_PLUGINS"), " ")
    done = harness("plan", "small.yaml", cwd=undisturbed, **blank)
    assert "epochs to train now:                       0" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("command", [["list", "engine"], ["check", "small.yaml"], ["plan", "small.yaml"]], ids=" ".join)
def test_disabled_name_that_nothing_has_is_warned_of(undisturbed: Path, command: list[str]) -> None:
    """With the nearest one, by every command that loads plugins; it goes on."""
    done = harness(*command, cwd=undisturbed, HARNESS_DISABLED_PLUGINS="metrix")
    said = (
        "warning: HARNESS_DISABLED_PLUGINS names 'metrix', which no plugin or distribution is called; did you mean 'metrics'?"
    )
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


PLUGIN = """
import os, pathlib
import harness
from torch import nn

HERE = pathlib.Path(__file__)

class Linear(harness.Architecture):
    name = "linear_of_mine"

    def build(self, shape, num_classes):
        {trap}
        return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))

@harness.hookimpl
def register_architectures(register):
    register(Linear)
"""
EDIT = """
        if "worker" in __import__("sys").argv and not HERE.with_name("edited").exists():
            HERE.with_name("edited").touch()
            HERE.write_text(HERE.read_text() + "# edited")
            os._exit(3)
"""
SCRIPT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from harness.cli import main
main()
"""


@pytest.fixture
def plugin(folder: Path) -> Callable[[str], Path]:
    """Return a function that makes a plugin in a folder of its own, and the benchmark use it."""

    def make(trap: str = "") -> Path:
        home = folder / "plugins"
        write_plugin(home, "linear_of_mine", PLUGIN.replace("{trap}", trap.strip()))
        (folder / "small.yaml").write_text(yaml.safe_dump({**SMALL, "architectures": ["linear_of_mine"]}))
        return home

    return make


def test_plugin_that_only_the_run_finds(folder: Path, plugin: Callable[[str], Path]) -> None:
    """Workers would lack what a script has put on its own path: one line, before anything is trained."""
    home = plugin("")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-P", "script.py", str(home), "run", "small.yaml", "--workers", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "error: a worker process runs other code than the run: plugin 'linear_of_mine': the run uses linear_of_mine 1.0 from "
        f"{home / 'linear_of_mine.py'}, the worker does not find it; install what the run uses where workers find it"
    ) in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "runs" / "store" / "objects").rglob("*.safetensors"))
    alone = subprocess.run([*command[:-1], "1"], cwd=folder, capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr


def test_plugin_edited_while_a_run_goes_on(folder: Path, plugin: Callable[[str], Path]) -> None:
    """A worker started in place of another would run the new code; the same command goes on with it."""
    home = plugin(EDIT)
    path = with_path(home)
    done = harness("run", "small.yaml", "--workers", "2", cwd=folder, code=1, PYTHONPATH=path)
    place = f"linear_of_mine 1.0 from {home / 'linear_of_mine.py'}"
    assert f"plugin 'linear_of_mine': the run uses {place} (sources " in done.stderr
    assert f"), the worker {place} (sources " in done.stderr
    assert "), whose sources have changed since the run began; " in done.stderr
    harness("run", "small.yaml", "--workers", "2", cwd=folder, PYTHONPATH=path)


def test_worker_refuses_code_that_it_cannot_compare(tmp_path: Path) -> None:
    """By hand, too."""
    done = harness("worker", "--task", "a", "--run-code", "{}", cwd=tmp_path, code=1)
    assert "error: the run's code version is not readable" in done.stderr
