"""The command line as a user meets it, in processes of its own: real plugins, real digits, tiny networks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cli.command_line import FILE, run_harness


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark file and a finished run."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.yaml").write_text(yaml.safe_dump(FILE))
    run_harness("run", "small.yaml", cwd=folder)
    return folder


def test_run_writes_the_four_files(home: Path) -> None:
    """Rows, board, provenance and events lie in the run's folder."""
    assert {p.name for p in (home / "runs" / "small").iterdir()} == {
        "results.csv",
        "leaderboard.md",
        "run.json",
        "events.jsonl",
    }
    run = json.loads((home / "runs" / "small" / "run.json").read_text())
    assert run["status"] == "done"
    assert run["benchmark"]["pairs"][0]["recipe"]["epochs"] == 2
    assert run["provenance"]["packages"]["torch"]
    header = (home / "runs" / "small" / "results.csv").read_text().splitlines()[0]
    assert header.startswith("benchmark,dataset,architecture,method,seed,metric,value,")
    events = [json.loads(line)["event"] for line in (home / "runs" / "small" / "events.jsonl").read_text().splitlines()]
    assert {"run_started", "planned", "train_started", "epoch", "task_ended", "run_ended"} <= set(events)


def test_running_again_trains_nothing_and_says_so(home: Path) -> None:
    """The board is printed, and that all was there."""
    done = run_harness("run", "small.yaml", cwd=home)
    assert "nothing to train: all" in done.stdout
    assert "| deep" in done.stdout


def test_other_folder_for_rows_and_store(home: Path, tmp_path: Path) -> None:
    """--out moves the rows, --store the objects; HARNESS_STORE does so too."""
    store = home / "runs" / "store"
    run_harness("run", home / "small.yaml", "--out", "there", "--store", store, cwd=tmp_path)
    assert (tmp_path / "there" / "results.csv").exists()
    done = run_harness("plan", home / "small.yaml", "--json", cwd=tmp_path, HARNESS_STORE=str(store))
    assert json.loads(done.stdout)["total"]["epochs_new"] == 0


def test_two_worker_processes_give_the_same_weights(home: Path, tmp_path: Path) -> None:
    """The local engine's processes train what the run in one process trained, to the bit."""
    done = run_harness("run", home / "small.yaml", "--workers", 2, cwd=tmp_path)
    assert "local engine: 2 worker processes, 1 CPU thread each, siblings on a core each\n" in done.stderr
    ours = json.loads(run_harness("members", "runs/small", "--json", cwd=tmp_path).stdout)
    theirs = json.loads(run_harness("members", "runs/small", "--json", cwd=home).stdout)
    assert [m["key"] for m in ours] == [m["key"] for m in theirs]
    assert all(Path(a["path"]).read_bytes() == Path(b["path"]).read_bytes() for a, b in zip(ours, theirs, strict=True))


def test_members_are_named_with_their_files(home: Path) -> None:
    """Each entry has its place, key and path, and the file opens as a plain state dict."""
    from safetensors.torch import load_file

    members = json.loads(run_harness("members", "runs/small", "--json", cwd=home).stdout)
    assert len(members) == 4
    assert {"dataset", "architecture", "method", "seed", "member", "key", "path"} <= set(members[0])
    assert all(m["state"] == "good" for m in members)
    assert any(name.endswith("weight") for name in load_file(members[0]["path"]))
    assert members[0]["key"] == members[2]["key"]  # the reference is the first constrained member


def test_plan_counts_and_trains_nothing(home: Path, tmp_path: Path) -> None:
    """Costs alone and shared, in JSON and in words; no store is made."""
    plan = json.loads(run_harness("plan", home / "small.yaml", "--json", cwd=tmp_path).stdout)
    assert [(c["method"], c["epochs_alone"], c["epochs_new"]) for c in plan["cells"]] == [("deep", 4, 4), ("constrained", 3, 1)]
    assert plan["total"]["epochs_alone"] == 7
    assert plan["total"]["epochs_new"] == 5
    assert not (tmp_path / "runs").exists()
    assert (
        "epochs with sharing, from an empty store:  5 (2 saved)"
        in run_harness("plan", home / "small.yaml", cwd=tmp_path).stdout
    )


def test_check_reports_all_problems_at_once(tmp_path: Path) -> None:
    """Every mistake with its place; exit code 2; JSON on request."""
    wrong = {**FILE, "methods": ["deap"], "metrics": ["ensemble_acuracy"], "recipe": {"epoch": 3}}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    done = run_harness("check", "wrong.yaml", cwd=tmp_path, code=2)
    assert len(done.stderr.splitlines()) == 3
    assert "did you mean 'deep'?" in done.stderr
    assert "did you mean 'ensemble_accuracy'?" in done.stderr
    assert "did you mean 'epochs'?" in done.stderr
    facts = json.loads(run_harness("check", "wrong.yaml", "--json", cwd=tmp_path, code=2).stdout)
    assert len(facts["problems"]) == 3
    assert not facts["ok"]


def test_check_of_a_good_file(home: Path) -> None:
    """A good file is said to be good."""
    assert run_harness("check", "small.yaml", cwd=home).stdout == "small.yaml: good; 2 cells\n"


def test_set_changes_the_file(home: Path) -> None:
    """--set takes dotted keys, and its mistakes are the user's."""
    plan = json.loads(
        run_harness("plan", "small.yaml", "--json", "--set", "recipe.epochs=5", "--set", "seeds=[0, 1]", cwd=home).stdout
    )
    assert plan["total"]["epochs_alone"] == 2 * (10 + 1 + 8)
    assert "recipe.epoch" in run_harness("plan", "small.yaml", "--set", "recipe.epoch=5", cwd=home, code=2).stderr


def test_list_names_plugins_and_options(tmp_path: Path) -> None:
    """By kind, with distribution and defaults."""
    entries = json.loads(run_harness("list", "methods", "--json", cwd=tmp_path).stdout)
    swe = next(e for e in entries if e["name"] == "swe")
    assert swe["options"][0]["name"] == "floor"
    assert swe["options"][0]["default"] == 0.01
    assert swe["distribution"].startswith("basin-harness ")
    text = run_harness("list", cwd=tmp_path).stdout
    assert "joint_connectivity" in text
    assert "batchnorm" in text
    assert "did you mean 'metric'" in run_harness("list", "metrix", cwd=tmp_path, code=2).stderr


def test_leaderboard_is_made_from_rows_alone(home: Path, tmp_path: Path) -> None:
    """A copy of results.csv is enough, in every format."""
    (tmp_path / "results.csv").write_bytes((home / "runs" / "small" / "results.csv").read_bytes())
    for form in ("markdown", "html", "csv", "json", "latex"):
        assert "deep" in run_harness("leaderboard", tmp_path, "--format", form, cwd=tmp_path).stdout
    assert "no results.csv" in run_harness("leaderboard", "nowhere", cwd=tmp_path, code=2).stderr


def test_explain_and_diff(home: Path) -> None:
    """A key says what it is made of; two keys why they differ."""
    members = json.loads(run_harness("members", "runs/small", "--json", cwd=home).stdout)
    first, second = members[0]["key"], members[1]["key"]
    facts = json.loads(run_harness("explain", first[:10], cwd=home).stdout)
    assert facts["spec"]["setting"]["dataset"]["name"] == "digits"
    assert facts["spec"]["trajectory"]["order"] == ["order", 0, 0]
    assert 'trajectory.init: ["init", 0, 0] → ["init", 0, 1]' in run_harness("diff", first, second, cwd=home).stdout
    assert "nothing under 'ffffff'" in run_harness("explain", "ffffff", cwd=home, code=2).stderr


def test_worker_reproduces_a_task(home: Path, tmp_path: Path) -> None:
    """One line does a task against a store from which the object was taken away."""
    import shutil

    shutil.copytree(home / "runs" / "store", tmp_path / "store")
    member = json.loads(run_harness("members", "runs/small", "--json", cwd=home).stdout)[1]
    path = tmp_path / "store" / "objects" / member["object"][:2] / member["object"]
    shutil.rmtree(path)
    run_harness("worker", "--task", member["object"], "--store", "store", cwd=tmp_path)
    assert (path / "weights.safetensors").read_bytes() == Path(member["path"]).read_bytes()


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start `harness run long.yaml` and come back when it is in the middle of a training."""
    command = [sys.executable, "-m", "harness", "run", "long.yaml", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, stderr=pipe, stdout=pipe, text=True, env=environment)
    events = folder / "runs" / "small" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not (events.exists() and '"event": "epoch"' in events.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_and_prints_the_command_that_resumes(tmp_path: Path, number: int, code: int) -> None:
    """A run that is asked to stop saves, says how to go on, and going on ends with the same weights."""
    long = {**FILE, "recipe": {**FILE["recipe"], "epochs": 30, "learning_rate": 0.02}}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(long))
    process = started(tmp_path, "--set", "methods=[deep]")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "harness run long.yaml --set 'methods=[deep]'" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "runs" / "store" / "progress").rglob("weights.safetensors"))
    assert json.loads((tmp_path / "runs" / "small" / "run.json").read_text())["status"] == "interrupted"
    run_harness("run", "long.yaml", "--set", "methods=[deep]", cwd=tmp_path)
    run_harness("run", "long.yaml", "--set", "methods=[deep]", "--store", "fresh", "--out", "again", cwd=tmp_path)
    ours = json.loads(run_harness("members", "runs/small", "--json", cwd=tmp_path).stdout)
    theirs = json.loads(run_harness("members", "again", "--json", cwd=tmp_path).stdout)
    assert all(Path(a["path"]).read_bytes() == Path(b["path"]).read_bytes() for a, b in zip(ours, theirs, strict=True))


BAD_CALLS: dict[str, tuple[list[str], str]] = {
    "missing file": (["run", "nowhere.yaml"], "nowhere.yaml"),
    "no cuda": (["run", "small.yaml", "--device", "cuda"], "--device cuda: no CUDA device is available here"),
    "unknown engine": (["run", "small.yaml", "--engine", "locl"], "unknown engine 'locl'; did you mean 'local'?"),
    "store is a file": (
        ["run", "small.yaml", "--store", "small.yaml"],
        "a file is in the way; choose another folder with --store",
    ),
    "out is a file": (["run", "small.yaml", "--out", "small.yaml"], "--out small.yaml: cannot be written"),
    "no run": (["members", "."], "no run.json"),
    "unknown command": (["rum"], "No such command 'rum'"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_are_one_line(tmp_path: Path, case: str) -> None:
    """A user's mistake is named with what to do about it, and the exit code is 2."""
    import torch

    if case == "no cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(FILE))
    words, message = BAD_CALLS[case]
    assert message in run_harness(*words, cwd=tmp_path, code=2).stderr


def test_missing_data_fails_the_cells_with_directions(tmp_path: Path) -> None:
    """Without the net and the file, the board says which file goes where, and the exit code is 1."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**FILE, "datasets": ["digits", "cifar10"]}))
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = run_harness("run", "c.yaml", "--data", "empty", cwd=tmp_path, code=1, **proxies)
    assert "cifar-10-python.tar.gz" in done.stderr
    assert "failed" in done.stdout
    assert json.loads((tmp_path / "runs" / "small" / "run.json").read_text())["status"] == "failed"


def test_schema_is_json_schema(tmp_path: Path) -> None:
    """An editor gets names and options of the installed plugins."""
    schema = json.loads(run_harness("schema", cwd=tmp_path).stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "fork_epoch" in json.dumps(schema)


def test_doctor_looks_around(home: Path) -> None:
    """Packages, plugins, device, store and data are reported."""
    text = run_harness("doctor", cwd=home).stdout
    assert all(word in text for word in ("packages", "plugins", "device", "store", "data"))


def test_broken_plugins_are_warned_of(tmp_path: Path) -> None:
    """A plugin that does not import is named on standard error; the list is there."""
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nbad = no_such_module\n")
    done = run_harness("list", "metrics", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "warning: plugin 'bad' of distribution 'bad 1.0' does not import" in done.stderr
    assert "brier_score" in done.stdout
    silent = run_harness("list", "metrics", cwd=tmp_path, PYTHONPATH=str(tmp_path), HARNESS_DISABLED_PLUGINS="bad")
    assert silent.stderr == ""


def test_second_signal_stops_at_once(tmp_path: Path) -> None:
    """Ctrl-C twice ends the process in one line; the store stays whole, and the same command goes on."""
    long = {**FILE, "recipe": {**FILE["recipe"], "epochs": 40, "learning_rate": 0.02}, "methods": ["deep"]}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(long))
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    run_harness("run", "long.yaml", cwd=tmp_path)


def test_new_plugin_works(tmp_path: Path) -> None:
    """The folder holds a plugin that registers, checks and runs as its README says; a name that is taken is refused."""
    run_harness("new-plugin", "my-method", cwd=tmp_path)
    folder = tmp_path / "my-method"
    info = tmp_path / "my_method-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-method\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nmy_method = my_method\n")
    path = f"{tmp_path}{os.pathsep}{folder}"
    assert "my_method" in run_harness("list", "methods", cwd=tmp_path, PYTHONPATH=path).stdout
    plan = json.loads(run_harness("plan", folder / "try.yaml", "--json", cwd=tmp_path, PYTHONPATH=path).stdout)
    assert [(c["method"], c["epochs_new"]) for c in plan["cells"]] == [("deep", 18), ("my_method", 0)]
    assert "is there already" in run_harness("new-plugin", "my-method", cwd=tmp_path, code=2).stderr
    for name in ("../up", "harness", "class", "1st", "x" * 80):
        run_harness("new-plugin", name, cwd=tmp_path, code=2)
