"""Files from strangers: no code in them runs, no name in them leaves the store, no size of them fills memory, and what they say
steers no page and no terminal."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

import harness
import toys
from conftest import Lab, toy_file
from faults.forged_specs import SETTING, SPECS
from faults.rig import some
from harness.api.task import canonical_json, key_of
from harness.benchmark.yaml_source import read_source
from harness.cli import cli
from harness.cli.members import members as members_command
from harness.errors import BenchmarkError, DamagedObject, StoreError, UserError
from harness.execution.batching import GroupRunner
from harness.execution.context import RunContext
from harness.execution.task_files import task_from_json
from harness.plan.graph import Graph
from harness.store import Store, objects
from harness.telemetry.events import ObjectQuarantined

ROOT = Path(__file__).resolve().parents[2]
GraphOf = Callable[..., Graph]
KEY = key_of("one")
NAMES = {
    "up": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "device": "CON",
    "device file": "/dev/zero",
    "drive": "C:\\Windows",
    "long": "a" * 300,
    "empty": "",
    "control": "a\x00b",
    "line break": "a" * 63 + "\n",
    "escape": "\x1b[2J",
    "capital": "A" * 64,
    "look-alike": "а" * 64,  # Cyrillic
    "full width": "ａ" * 64,
    "digits of another script": "١" * 64,
    "short": "0" * 63,
    "surrogate": "\ud800" * 64,
}


@pytest.mark.parametrize("case", NAMES)
def test_no_name_leaves_the_store(tmp_path: Path, case: str) -> None:
    """Whatever is given for a key or a part, nothing outside is touched and nothing but a `ValueError` or a line comes."""
    store, name = Store(tmp_path / "store"), NAMES[case]
    store.put(KEY, {}, {"weights": {"a": torch.zeros(1)}})
    for use in (store.has, store.meta, store.tensors, store.path, store.quarantine, store.epochs, store.failure):
        with pytest.raises(ValueError, match="is not a key"):
            use(name)
    for use in (lambda: store.put(name, {}), lambda: store.record_failure(name, {}), lambda: store.write_task(name, {})):
        with pytest.raises(ValueError, match="is not a key"):
            use()
    with pytest.raises(ValueError, match="is not a key"), store.lease(name):
        pass
    with pytest.raises(ValueError, match="is not the name of a part"):
        store.path(KEY, name if case != "short" else f"../{name}")
    with pytest.raises(ValueError, match="is not the name of a part"):
        store.put(key_of("two"), {}, {f"{name}!": {"a": torch.zeros(1)}})
    with pytest.raises(StoreError) as caught:
        store.resolve(name)
    assert str(caught.value).isprintable()
    assert {path.name for path in tmp_path.iterdir()} == {"store"}
    assert not store.has(key_of("two"))


def forge(store: Store, key: str, meta: Any, files: dict[str, bytes] | None = None) -> None:
    """Write an object whose digests are right, whatever it says."""
    folder = store.path(key).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (files or {}).items():
        (folder / name).write_bytes(data)
    if isinstance(meta, dict):
        meta = {"key": key, "files": {}, **meta}
        meta = json.dumps({**meta, "sha256": hashlib.sha256(canonical_json(meta).encode()).hexdigest()}).encode()
    (folder / "meta.json").write_bytes(meta)


def described(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Evil:
    """A pickle that runs code."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/harness-was-here",)


PICKLE = pickle.dumps(Evil())
FORGED: dict[str, tuple[Any, dict[str, bytes]]] = {
    "not json": (b"{", {}),
    "a list": (b"[]", {}),
    "nested without end": (b"[" * 100_000, {}),
    "nested objects": (b'{"a":' * 100_000, {}),
    "a huge number": (b'{"sha256": ' + b"9" * 10_000 + b"}", {}),
    "nan": (b'{"sha256": "", "key": NaN, "files": {}}', {}),
    "not utf-8": (b"\xff\xfe\x00", {}),
    "another key": ({"key": key_of("two")}, {}),
    "no files": ({"files": None}, {}),
    "files as a list": ({"files": ["weights"]}, {}),
    "a part outside": ({"files": {"../../../../etc/passwd": described(b"")}}, {}),
    "a part with a device": ({"files": {"con.": described(b"")}}, {}),
    "a size that is no number": ({"files": {"weights": {"bytes": "1", "sha256": "0" * 64}}}, {}),
    "a negative size": ({"files": {"weights": {"bytes": -1, "sha256": "0" * 64}}}, {}),
    "a size beyond memory": ({"files": {"weights": {"bytes": 1 << 60, "sha256": "0" * 64}}}, {"weights.safetensors": b"x"}),
    "a pickle for weights": ({"files": {"weights": described(PICKLE)}}, {"weights.safetensors": PICKLE}),
    "a header beyond memory": (
        {"files": {"weights": described(b"\xff" * 64)}},
        {"weights.safetensors": b"\xff" * 64},
    ),
    "a header that lies": (
        {"files": {"weights": described(b"\x08" + b"\x00" * 7 + b'{"a":{}}')}},
        {"weights.safetensors": b"\x08" + b"\x00" * 7 + b'{"a":{}}'},
    ),
    "nothing for weights": ({"files": {"weights": described(b"")}}, {"weights.safetensors": b""}),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_object_is_damaged(tmp_path: Path, case: str) -> None:
    """Digests that fit do not make an object: it is refused in a line, at once, and nothing of it runs."""
    store = Store(tmp_path)
    meta, files = FORGED[case]
    forge(store, KEY, meta, files)
    began = time.monotonic()
    with pytest.raises(DamagedObject) as caught:
        store.tensors(KEY)
    assert "\n" not in str(caught.value)
    store.has(KEY)
    list(store.maintenance.find_corruption())
    assert time.monotonic() - began < 5
    assert not Path("/tmp/harness-was-here").exists()


@pytest.mark.parametrize("file", ["meta.json", "weights.safetensors"])
@pytest.mark.parametrize("what", ["pipe", "device", "loop", "folder", "sparse"])
def test_file_that_is_none(tmp_path: Path, file: str, what: str) -> None:
    """A pipe would hang, a device never end, a sparse file fill memory: none of them is read."""
    store = Store(tmp_path)
    store.put(KEY, {}, {"weights": {"a": torch.zeros(1)}})
    path = store.path(KEY).parent / file
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    assert not store.has(KEY)
    with pytest.raises(DamagedObject):
        store.tensors(KEY)
    assert store.damage(KEY)


def test_meta_data_beyond_any_size_is_not_read(tmp_path: Path) -> None:
    """More than an object's meta-data can be is refused by its size."""
    store = Store(tmp_path)
    forge(store, KEY, b" " * (objects.MAX_META + 1))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedObject):
            store.meta(KEY)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "task",
    [
        {"kind": "attempt", "spec": {}},
        {"kind": "__init__", "spec": {}},
        {"kind": "let_go", "spec": {}},
        {"kind": "train", "spec": []},
        {"kind": ["train"], "spec": {}},
        {},
    ],
)
def test_forged_task_calls_nothing(tmp_path: Path, task: dict[str, Any]) -> None:
    """Only the four kinds of tasks are ones."""
    store = Store(tmp_path)
    store.write_task(KEY, {**task, "key": KEY})
    with pytest.raises(StoreError, match="its file describes no task"):
        task_from_json(store.read_task(KEY))


def test_forged_task_says_no_more_than_what_to_do(tmp_path: Path) -> None:
    """A worker needs no parents, groups and costs, and does not read them."""
    store = Store(tmp_path)
    store.write_task(KEY, {"key": KEY, "kind": "check", "spec": SPECS["check"], "parents": 5, "group": {}, "cost": "x"})
    assert task_from_json(store.read_task(KEY)).parents == ()


@pytest.mark.parametrize("value", [10**400, "one", None, [], {}])
def test_forged_values_are_measured_again(graph_of: GraphOf, lab: Lab, value: Any) -> None:
    """A measurement that holds no number is set aside, as one that is damaged."""
    graph = graph_of(methods=["deep"], metrics=["ensemble_accuracy"])
    lab.run(graph)
    rows = (lab.out / "results.csv").read_bytes()
    key = graph.cells[0].measures["ensemble_accuracy"].key
    said = {"metric": "ensemble_accuracy", "value": value, "standard_error": None, "unit": "", "better": ""}
    forge(lab.store, key, {"kind": "measure", "values": [said]})
    lab.events.clear()
    lab.run(graph)
    assert (lab.out / "results.csv").read_bytes() == rows
    assert [event.key for event in lab.events if isinstance(event, ObjectQuarantined)] == [key]


@pytest.mark.parametrize("key", ["", "x", "../../../etc/passwd", "A" * 64, "0" * 65])
def test_forged_notes_name_nothing_but_keys(tmp_path: Path, key: str) -> None:
    """A trajectory's notes whose digests fit, but which name what is no key, are passed over."""
    store = Store(tmp_path)
    store.note_epoch(KEY, 1, key)
    assert store.epochs(KEY) == {}
    assert [damage.path for damage in store.maintenance.find_corruption()] == [f"trajectories/{KEY[:2]}/{KEY}"]


@pytest.mark.parametrize("kind", ["check", "train", "derive", "predict", "measure"])
@pytest.mark.parametrize("setting", [{}, {"dataset": {"name": "blobs"}}, {"recipe": {"epochs": 1e9}}])
def test_forged_spec_fails_in_a_line(lab: Lab, kind: str, setting: dict[str, Any]) -> None:
    """A worker that is given a task of the right form that makes no sense reports it in a line, and goes on."""
    context = RunContext(toys.catalogue(), lab.store.root, lab.folder, "cpu", lambda event: None, lambda: False)
    forged = {**SPECS[kind], "setting": {**SETTING, **setting}}
    [outcome] = GroupRunner(context).run([task_from_json({"key": KEY, "kind": kind, "spec": forged})])
    assert outcome.status == "failed"
    assert "\n" not in outcome.message


@pytest.mark.parametrize("kind", ["train", "derive", "predict", "measure"])
@pytest.mark.parametrize("spec", [{}, {"setting": None}, {"setting": {"dataset": {}}}])
def test_spec_of_another_form_is_refused(tmp_path: Path, kind: str, spec: dict[str, Any]) -> None:
    """A task file whose spec lacks fields, or has others, is named before any work."""
    store = Store(tmp_path)
    store.write_task(KEY, {"key": KEY, "kind": kind, "spec": {"kind": kind, **spec}})
    with pytest.raises(StoreError, match="its file describes no task"):
        task_from_json(store.read_task(KEY))


@pytest.mark.parametrize(
    "facts",
    [
        [],
        {},
        {"store": 3, "members": []},
        {"store": "x", "members": 3},
        {"store": "x", "members": [{}]},
        {"store": "x", "members": [3]},
        {"store": "x", "members": [{"object": "../../etc/passwd", "part": "weights"}]},
        {"store": "x\0", "members": [{"object": KEY, "part": "../../../etc/passwd"}]},
    ],
)
def test_run_of_a_stranger(tmp_path: Path, facts: Any) -> None:
    """`harness members` of a folder with a hostile run.json is a line."""
    (tmp_path / "run.json").write_text(json.dumps(facts))
    done = CliRunner().invoke(members_command, [str(tmp_path)])
    assert isinstance(done.exception, UserError), done.output
    assert "run.json: " in str(done.exception)


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels else 0


@pytest.mark.parametrize("said", [{}, {"kind": 3, "spec": {}}, {"kind": "train"}, {"kind": "train", "spec": []}])
def test_explaining_what_a_stranger_made(tmp_path: Path, said: dict[str, Any]) -> None:
    """`harness explain` and `diff` of a forged object, or of a forged task, are a line."""
    store = Store(tmp_path)
    forge(store, KEY, said)
    store.write_task(key_of("two"), {"key": key_of("two"), **said})
    for words in (["explain", KEY], ["explain", key_of("two")], ["diff", KEY, key_of("two")]):
        done = CliRunner().invoke(cli, [*words, "--store", str(tmp_path)])
        assert isinstance(done.exception, UserError), done.output


def test_differences_steer_no_terminal_and_end(tmp_path: Path) -> None:
    """Names in a spec are printed as text, and one that is nested without end is refused."""
    store = Store(tmp_path)
    for name, spec in (("one", {"\x1b[2J": "\x1b[2J"}), ("two", {}), ("three", deep(800)), ("four", deep(801))):
        store.write_task(key_of(name), {"key": key_of(name), "kind": "train", "spec": spec})
    done = CliRunner().invoke(cli, ["diff", key_of("one"), key_of("two"), "--store", str(tmp_path)])
    assert done.exit_code == 0
    assert done.output.splitlines()[1:] == ['\\x1b[2J: "\\u001b[2J" → absent']
    assert done.output.splitlines()[0].endswith(": these differ in \\x1b[2J")
    done = CliRunner().invoke(cli, ["diff", key_of("three"), key_of("four"), "--store", str(tmp_path)])
    assert done.exit_code == 0 or isinstance(done.exception, UserError), done.exception


def test_members_of_a_stranger_steer_no_terminal(tmp_path: Path) -> None:
    """What run.json calls a member is printed as text, whatever it is."""
    where = dict.fromkeys(("dataset", "architecture", "method", "seed", "member", "key"), "\x1b[2J\n")
    members = [{**where, "object": KEY, "part": "weights"}, {**where, "key": 3, "object": KEY, "part": "weights"}]
    (tmp_path / "run.json").write_text(json.dumps({"store": "\x1b[2J", "members": members}))
    done = CliRunner().invoke(members_command, [str(tmp_path)])
    assert done.exit_code == 0
    assert "\x1b" not in done.output
    assert len(done.output.splitlines()) == 3


BOMBS = {
    "billion laughs": "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9) if i else 'lol'}]" for i in range(12)),
    "quadratic": "a: &a " + "x" * 60_000 + "\nb: [" + "*a, " * 45_000 + "]",
    "merges": "k0: &k0 {" + ", ".join(f"x{i}: 1" for i in range(5000)) + "}\nb: {<<: [" + ", ".join(["*k0"] * 5000) + "]}",
    "merge chain": "\n".join(f"k{i}: &k{i} {{{f'<<: [*k{i - 1}, *k{i - 1}], ' if i else ''}y{i}: 1}}" for i in range(40)),
    "deep flow": "a: " + "[" * 120_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(600)),
    "deep sequences": "- " * 120_000,
    "wide": "a: [" + "x," * 120_000 + "]",
    "keys": "\n".join(f"k{i}: {i}" for i in range(20_000)),
    "same keys": "a: 1\n" * 50_000,
    "anchors": "\n".join(f"k{i}: &a{i} 1" for i in range(15_000)),
    "tags": "a: " + "!x " * 80_000,
    "escapes": 'a: "' + "\\U0001F4A9" * 20_000 + '"',
    "directives": "%TAG ! x\n" * 20_000 + "--- a",
    "documents": "---\n" * 60_000,
    "question marks": "? " * 120_000,
    "quotes": "a: '" + "''" * 120_000,
    "comments": "# x\n" * 60_000,
    "block scalar": "a: |\n" + " x\n" * 80_000,
    "folded": "a: >\n" + "  \n x\n" * 40_000,
    "long numbers": "a: " + "9" * 200_000,
    "colons": "a" + ": a" * 80_000,
}


def read_bomb(folder: Path, case: str) -> None:
    """Read a bomb, or have it refused in short lines."""
    (folder / "b.yaml").write_text(BOMBS[case])
    said: tuple[str, ...] = ()
    try:
        read_source(folder / "b.yaml")
    except BenchmarkError as error:
        said = error.problems
    assert all(len(line) < 1000 for line in said)


@pytest.mark.parametrize("case", some(BOMBS, 5))
def test_yaml_bomb_is_bounded_in_time(tmp_path: Path, case: str) -> None:
    """Ten seconds are more than any file of any shape may cost, expanded or refused."""
    began = time.process_time()
    read_bomb(tmp_path, case)
    assert time.process_time() - began < 10


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("case", BOMBS)
def test_yaml_bomb_is_bounded_in_memory(tmp_path: Path, case: str) -> None:
    """200 MiB are more than any file of any shape may take."""
    tracemalloc.start()
    try:
        read_bomb(tmp_path, case)
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()


HOSTILE = "<img src=x onerror=alert(1)> ${7*7} {{7*7}} [x](javascript:alert(1)) `x` \\input{x} \x1b[31m \u202e & \"'"


def test_boards_and_pages_escape_what_plugins_say(graph_of: GraphOf, lab: Lab, tmp_path: Path) -> None:
    """A message full of markup of every kind, and a label as far as labels may go, come out as text in every format."""
    from harness.cli.report import figure_plugins
    from harness.leaderboard import FORMATS, board, render
    from harness.report import make_figures, make_page, read_run
    from harness.results.rows import read_rows

    class Loud(harness.Metric):
        name = "loud"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Any:
            raise RuntimeError(HOSTILE)

    class Own(harness.Metric):
        name = "own"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Any:
            raise harness.TaskFailed(f"{HOSTILE}\n{HOSTILE}")

    class Odd(harness.Metric):
        name = "odd <script>alert(1)</script>"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Any:
            unit = HOSTILE.replace("\x1b", "").replace("\u202e", "")[:90]
            return [harness.MetricValue(self.name, 1.0, unit=unit), harness.MetricValue("odd/[x](javascript:y) <img>", 2.0)]

    catalogue = toys.catalogue(("metric", Loud), ("metric", Own), ("metric", Odd))
    label = "<blink>x</blink>&\"'`$\\{{7*7}}*_[a](b)"
    methods = [{"deep": {"label": label}}, "deep"]
    metrics = ["ensemble_accuracy", "loud", "own", "odd <script>alert(1)</script>"]
    graph = graph_of(catalogue, methods=methods, metrics=metrics, description=HOSTILE)
    said = lab.run(graph, catalogue).failures.values()
    assert len(said) == 2
    assert all(message.isprintable() for message in said)
    (lab.out / "run.json").write_text(json.dumps({"benchmark": graph.benchmark.resolved(), "command": [HOSTILE, HOSTILE]}))
    ours = board({str(lab.out): read_rows(lab.out)}, "all")
    run = read_run(lab.out)
    figures = make_figures(run, ours, figure_plugins(catalogue))
    texts = {form: render(ours, form) for form in FORMATS} | {"page": make_page(run, ours, figures)}
    for form in ("html", "page", "markdown"):
        for tag in ("<img", "<blink", "<script"):
            assert tag not in texts[form], form
    for form, text in texts.items():
        assert "\x1b" not in text, form
    assert "[x](javascript" not in texts["markdown"]
    assert "[a](b)" not in texts["markdown"]
    assert "\\input" not in texts["latex"]


def test_no_code_in_data() -> None:
    """No source evaluates text, loads YAML's objects, or unpickles, but for CIFAR's batches after their md5."""
    allowed = {("plugins/harness_vision/cifar.py", "loads")}
    found = set()
    for path in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "torch.load", "os.system"):
                found.add((str(path.relative_to(ROOT)), name))
            if name.startswith(("pickle.", "dill.", "joblib.", "marshal.", "shelve.")):
                found.add((str(path.relative_to(ROOT)), name.split(".")[1]))
            shell = [
                k for k in node.keywords if k.arg == "shell" or (k.arg == "weights_only" and "False" in ast.unparse(k.value))
            ]
            assert not shell, path
    assert found == allowed


def test_store_and_benchmark_are_read_without_torch_or_pickle(tmp_path: Path) -> None:
    """Verifying a store needs no library that could run what it reads."""
    code = (
        "import sys; from pathlib import Path; from harness.store import Store\n"
        f"print(list(Store(Path({str(tmp_path)!r})).maintenance.find_corruption()))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("entry", ["\u2028\x1b[2J", {"blobs": {"label": "\u2028\x1b[2J"}}])
def test_problems_of_a_file_are_printable_lines(tmp_path: Path, entry: Any) -> None:
    """A name or a label that cannot be printed is quoted with escapes, in whatever message it stands."""
    from harness.benchmark import load_benchmark

    with pytest.raises(BenchmarkError) as caught:
        load_benchmark(toy_file(tmp_path, datasets=[entry], methods=[{"constrained": {"fork_epoch": 99}}]), toys.catalogue())
    assert len(caught.value.problems) > 1
    assert all(problem.isprintable() for problem in caught.value.problems)


def test_names_of_benchmarks_are_names_of_folders(tmp_path: Path) -> None:
    """A benchmark's name becomes a folder's: nothing else fits."""
    from harness.benchmark import load_benchmark

    for name in [*NAMES.values(), "con", "nul.txt", "com7", "..", ".hidden", "a/b", "dеep"]:
        if any(ord(c) >= 0xD800 and ord(c) < 0xE000 for c in name) or not name:
            continue
        (tmp_path / "b.yaml").write_text(yaml.safe_dump({"name": name, "seeds": [0], "datasets": [], "methods": []}))
        with pytest.raises(BenchmarkError) as caught:
            load_benchmark(tmp_path / "b.yaml", toys.catalogue())
        assert any("name" in problem for problem in caught.value.problems)
