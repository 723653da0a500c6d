"""The subcommands in processes of their own, with the installed plugins, real digits and tiny networks."""

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

from cli.command_line import FILE, run_harness, write_plugin


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a benchmark file and a finished run."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "small.yaml").write_text(yaml.safe_dump(FILE))
    run_harness("run", "small.yaml", cwd=folder)
    return folder


def weights(folder: str, cwd: Path) -> list[tuple[str, bytes]]:
    """Return the key and the weights file of each member of a run."""
    members = json.loads(run_harness("members", folder, "--json", cwd=cwd).stdout)
    return [(member["key"], Path(member["path"]).read_bytes()) for member in members]


def test_files_of_a_run(home: Path) -> None:
    """The run's folder holds rows, contributions of test images, board, provenance and events."""
    assert {p.name for p in (home / "runs" / "small").iterdir()} == {
        "results.csv",
        "examples.npz",
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


def test_run_again(home: Path) -> None:
    """The command prints the board and says that nothing was left to train."""
    done = run_harness("run", "small.yaml", cwd=home)
    assert "nothing to train: all" in done.stdout
    assert "| deep" in done.stdout


def test_other_folder_for_rows_and_store(home: Path, tmp_path: Path) -> None:
    """`--out` sets the folder of the rows, `--store` and HARNESS_STORE that of the objects."""
    store = home / "runs" / "store"
    run_harness("run", home / "small.yaml", "--out", "there", "--store", store, cwd=tmp_path)
    assert (tmp_path / "there" / "results.csv").exists()
    done = run_harness("plan", home / "small.yaml", "--json", cwd=tmp_path, HARNESS_STORE=str(store))
    assert json.loads(done.stdout)["total"]["epochs_new"] == 0


def test_two_worker_processes(home: Path, tmp_path: Path) -> None:
    """The weights are those of a run in one process, to the last bit."""
    done = run_harness("run", home / "small.yaml", "--workers", 2, cwd=tmp_path)
    assert "local engine: 2 worker processes, 1 CPU thread each, siblings on a core each\n" in done.stderr
    assert weights("runs/small", tmp_path) == weights("runs/small", home)


def test_members(home: Path) -> None:
    """Each entry has cell, key and path, and the file is a plain state dict."""
    from safetensors.torch import load_file

    members = json.loads(run_harness("members", "runs/small", "--json", cwd=home).stdout)
    assert len(members) == 4
    assert {"dataset", "architecture", "method", "seed", "member", "key", "path"} <= set(members[0])
    assert all(m["state"] == "good" for m in members)
    assert any(name.endswith("weight") for name in load_file(members[0]["path"]))
    assert members[0]["key"] == members[2]["key"]  # the reference is the first constrained member


def test_plan(home: Path, tmp_path: Path) -> None:
    """The command gives the cost with and without sharing, in JSON and as text, and creates no store."""
    plan = json.loads(run_harness("plan", home / "small.yaml", "--json", cwd=tmp_path).stdout)
    assert [(c["method"], c["epochs_alone"], c["epochs_new"]) for c in plan["cells"]] == [("deep", 4, 4), ("constrained", 3, 1)]
    assert plan["total"]["epochs_alone"] == 7
    assert plan["total"]["epochs_new"] == 5
    assert not (tmp_path / "runs").exists()
    assert (
        "epochs with sharing, from an empty store:  5 (2 saved)"
        in run_harness("plan", home / "small.yaml", cwd=tmp_path).stdout
    )


def test_check_of_an_invalid_file(tmp_path: Path) -> None:
    """The command lists every problem, as text or JSON, with exit code 2."""
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


def test_check_of_a_valid_file(home: Path) -> None:
    """The command says that the file is good and counts its cells."""
    assert run_harness("check", "small.yaml", cwd=home).stdout == "small.yaml: good; 2 cells\n"


def test_set(home: Path) -> None:
    """`--set` changes the value at a dotted key; an unknown key is an error."""
    plan = json.loads(
        run_harness("plan", "small.yaml", "--json", "--set", "recipe.epochs=5", "--set", "seeds=[0, 1]", cwd=home).stdout
    )
    assert plan["total"]["epochs_alone"] == 2 * (10 + 1 + 8)
    assert "recipe.epoch" in run_harness("plan", "small.yaml", "--set", "recipe.epoch=5", cwd=home, code=2).stderr


def test_list(tmp_path: Path) -> None:
    """The command lists plugins by kind, with distribution, options and defaults."""
    entries = json.loads(run_harness("list", "methods", "--json", cwd=tmp_path).stdout)
    swe = next(e for e in entries if e["name"] == "swe")
    assert swe["options"][0]["name"] == "floor"
    assert swe["options"][0]["default"] == 0.01
    assert swe["distribution"].startswith("basin-harness ")
    text = run_harness("list", cwd=tmp_path).stdout
    assert "joint_connectivity" in text
    assert "batchnorm" in text
    assert "did you mean 'metrics'?" in run_harness("list", "metrix", cwd=tmp_path, code=2).stderr


def test_leaderboard(home: Path, tmp_path: Path) -> None:
    """The command needs results.csv only, in every format."""
    (tmp_path / "results.csv").write_bytes((home / "runs" / "small" / "results.csv").read_bytes())
    for form in ("markdown", "html", "csv", "json", "latex"):
        assert "deep" in run_harness("leaderboard", tmp_path, "--format", form, cwd=tmp_path).stdout
    assert "no results.csv" in run_harness("leaderboard", "nowhere", cwd=tmp_path, code=2).stderr


def test_explain_and_diff(home: Path) -> None:
    """`explain` prints a sentence and the specification behind a key, and `diff` the differences between two."""
    members = json.loads(run_harness("members", "runs/small", "--json", cwd=home).stdout)
    first = members[0]["key"]
    second = members[1]["key"]
    facts = json.loads(run_harness("explain", first[:10], "--json", cwd=home).stdout)
    assert facts["spec"]["setting"]["dataset"]["name"] == "digits"
    assert facts["spec"]["trajectory"]["order"] == ["order", 0, 0]
    said, text = run_harness("explain", first[:10], cwd=home).stdout.split("\n", 1)
    assert said == "training of resnet20 on digits, seed 0 member 0, cross-entropy, up to epoch 2"
    assert json.loads(text) == facts
    assert 'trajectory.init: ["init", 0, 0] → ["init", 0, 1]' in run_harness("diff", first, second, cwd=home).stdout
    assert "nothing under 'ffffff'" in run_harness("explain", "ffffff", cwd=home, code=2).stderr


def test_worker(home: Path, tmp_path: Path) -> None:
    """The command repeats a task whose object was removed from the store, to the last bit."""
    import shutil

    shutil.copytree(home / "runs" / "store", tmp_path / "store")
    member = json.loads(run_harness("members", "runs/small", "--json", cwd=home).stdout)[1]
    path = tmp_path / "store" / "objects" / member["object"][:2] / member["object"]
    shutil.rmtree(path)
    run_harness("worker", "--task", member["object"], "--store", "store", cwd=tmp_path)
    assert (path / "weights.safetensors").read_bytes() == Path(member["path"]).read_bytes()


def start_run(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start `harness run long.yaml`, and return when its first training has finished an epoch."""
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
def test_stop_signal(tmp_path: Path, number: int, code: int) -> None:
    """The run saves its state and prints the command that continues, which ends with the weights of a run without a stop."""
    long = {**FILE, "recipe": {**FILE["recipe"], "epochs": 120, "learning_rate": 0.02}}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(long))
    process = start_run(tmp_path, "--set", "methods=[deep]")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "harness run long.yaml --set 'methods=[deep]'" in errors
    assert "Traceback" not in errors
    assert list((tmp_path / "runs" / "store" / "progress").rglob("weights.safetensors"))
    assert json.loads((tmp_path / "runs" / "small" / "run.json").read_text())["status"] == "interrupted"
    run_harness("run", "long.yaml", "--set", "methods=[deep]", cwd=tmp_path)
    run_harness("run", "long.yaml", "--set", "methods=[deep]", "--store", "fresh", "--out", "again", cwd=tmp_path)
    assert weights("runs/small", tmp_path) == weights("again", tmp_path)


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
    "unknown command": (["rum"], "no such command 'rum'"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_mistake_on_the_command_line(tmp_path: Path, case: str) -> None:
    """The message says what is wrong and what to do, and the exit code is 2."""
    import torch

    if case == "no cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(FILE))
    words, message = BAD_CALLS[case]
    assert message in run_harness(*words, cwd=tmp_path, code=2).stderr


def test_missing_data(tmp_path: Path) -> None:
    """Without network and file, the cells fail, the message names the missing file, and the exit code is 1."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**FILE, "datasets": ["digits", "cifar10"]}))
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = run_harness("run", "c.yaml", "--data", "empty", cwd=tmp_path, code=1, **proxies)
    assert "cifar-10-python.tar.gz" in done.stderr
    assert "failed" in done.stdout
    assert json.loads((tmp_path / "runs" / "small" / "run.json").read_text())["status"] == "failed"


def test_schema(tmp_path: Path) -> None:
    """The command prints a JSON schema with the options of the installed plugins."""
    schema = json.loads(run_harness("schema", cwd=tmp_path).stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "fork_epoch" in json.dumps(schema)


def test_doctor(home: Path) -> None:
    """The command reports packages, plugins, device, store and data."""
    text = run_harness("doctor", cwd=home).stdout
    assert all(word in text for word in ("packages", "plugins", "device", "store", "data"))


def test_plugin_that_cannot_be_imported(tmp_path: Path) -> None:
    """The command warns on standard error and lists the other plugins."""
    write_plugin(tmp_path, "bad", "import no_such_module")
    done = run_harness("list", "metrics", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "warning: plugin 'bad' of distribution 'bad 1.0' does not import" in done.stderr
    assert "brier_score" in done.stdout
    silent = run_harness("list", "metrics", cwd=tmp_path, PYTHONPATH=str(tmp_path), HARNESS_DISABLED_PLUGINS="bad")
    assert silent.stderr == ""


def test_second_stop_signal(tmp_path: Path) -> None:
    """The process ends at once without a traceback; the store stays intact, and the same command continues."""
    long = {**FILE, "recipe": {**FILE["recipe"], "epochs": 40, "learning_rate": 0.02}, "methods": ["deep"]}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(long))
    process = start_run(tmp_path)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    run_harness("run", "long.yaml", cwd=tmp_path)


def test_new_plugin(tmp_path: Path) -> None:
    """The folder holds a plugin that registers and plans as its README says; an existing folder or invalid name is an error."""
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
