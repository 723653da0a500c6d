"""The report: a page that stands alone and cannot be broken into, figures whose numbers are the rows', gaps that are told."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli.report import report
from harness.errors import UserError
from harness.leaderboard import board, plain
from harness.report import Figure, make_figures, make_page, read_run, write_figures
from harness.report.drawing import csv as as_csv
from harness.report.drawing import look
from harness.report.drawing import svg as as_svg
from harness.results import Row, frame, write_rows

KEY = "ab" * 32
Facts = dict[str, Any]
Event = dict[str, Any]


def row(
    method: str = "deep", seed: int = 0, value: float | None = 94.0, metric: str = "ensemble_accuracy", **changes: Any
) -> Row:
    """Return a row of cifar10 and resnet20; one without a value is missing unless said otherwise."""
    status = changes.pop("status", "done" if value is not None else "missing")
    place = {"benchmark": "paper", "dataset": "cifar10", "architecture": "resnet20", "members": 3, "options": "{}"}
    plain = {**place, "unit": "percent", "better": "higher", "metric_version": "m@1", "cell": KEY, "key": KEY[::-1]}
    return Row(**{**plain, **changes}, method=method, seed=seed, metric=metric, value=value, status=status)


def rows_of_method(method: str, shift: float = 0.0, seeds: Sequence[int] = (0, 1, 2), **changes: Any) -> list[Row]:
    """Return rows of every metric that figures show; values depend on seed, pair and λ, and on the method by the shift."""
    found = []
    for seed in seeds:
        for n, metric in enumerate(("joint_connectivity", "mean_member_accuracy", "ensemble_accuracy")):
            found.append(row(method, seed, 10 * n + shift + seed**2, metric, **changes))
        for n, metric in enumerate(("predictive_variance", "jensen_shannon_divergence")):
            found.append(row(method, seed, 0.1 * n + 0.01 * shift + 0.001 * seed, metric, unit="", better="", **changes))
        for pair, share in ((p, s) for p in ("0-1", "0-2", "1-2") for s in ("0", "0.5", "1")):
            value = 90 + shift + seed - 3 * float(pair[-1]) * float(share) ** 2
            found.append(row(method, seed, value, f"pairwise_curve/{pair}/{share}", main=False, **changes))
    return found


def forked(method: str, t: int | None, shift: float = 0.0, **options: Any) -> list[Row]:
    """Return rows of a method with a fork epoch and other options."""
    return rows_of_method(method, shift, options=json.dumps({"fork_epoch": t, **options}, sort_keys=True))


PLAIN = [*rows_of_method("deep", -20), *rows_of_method("swe", 1)]
FACTS: Facts = {
    "benchmark": {"name": "paper", "description": "Tables of the paper", "seeds": [0, 1, 2]},
    "status": "done",
    "failures": [],
    "epochs_trained": 30.0,
    "device": "cpu",
    "command": ["/usr/bin/harness", "run", "benchmarks/my paper.yaml"],
    "provenance": {
        "python": "3.11.2",
        "packages": {"torch": "2.6.0", "numpy": "2.1"},
        "machine": "x86_64",
        "processor": "Testium",
        "threads": 2,
        "device": "cpu",
        "cuda": None,
        "git": {"commit": "c0ffee", "clean": False},
    },
    "members": [],
}


def epochs(task: str, count: int = 3, first: int = 1, loss: float = 2.0) -> list[Event]:
    """Return the events of a training's epochs."""
    return [
        {"event": "epoch", "task": task, "kind": "train", "epoch": e, "loss": loss / e, "accuracy": 10.0 * e, "until": count}
        for e in range(first, count + 1)
    ]


EVENTS: list[Event] = [
    {"event": "run_started", "time": 0.0},
    *epochs("t1"),
    *epochs("t2", loss=3.0),
    {"event": "run_ended", "time": 90.0, "status": "done"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def made(path: Path, rows: list[Row] | None = None, facts: Facts | None = FACTS, events: list[Event] | None = EVENTS) -> Path:
    """Write a run's folder; None leaves the file out."""
    path.mkdir(exist_ok=True)
    write_rows(path / "results.csv", PLAIN if rows is None else rows)
    if facts is not None:
        (path / "run.json").write_text(json.dumps(facts))
    if events is not None:
        (path / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return path


def figures_of(folder: Path) -> list[Figure]:
    """Return the figures of a run."""
    run = read_run(folder)
    return make_figures(run, board({"run": run.rows}))


def page_of(folder: Path) -> str:
    """Return the page of a run."""
    run = read_run(folder)
    ours = board({"run": run.rows})
    return make_page(run, ours, make_figures(run, ours))


def text_of(folder: Path) -> Page:
    """Return the page of a run without its figures, which take their time, as a browser sees it."""
    run = read_run(folder)
    return Page(make_page(run, board({"run": run.rows}), []))


def table(figures: list[Figure], start: str) -> pd.DataFrame:
    """Return the data of the one figure whose name starts so, read back from its CSV."""
    (figure,) = (figure for figure in figures if figure.name.startswith(start))
    return pd.read_csv(io.StringIO(as_csv(figure)))


class Page(HTMLParser):
    """What a browser sees: tags with their attributes, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.text += data

    def values(self, name: str) -> Iterator[str]:
        """Yield every value of an attribute."""
        for _, attributes in self.tags:
            if attributes.get(name) is not None:
                yield str(attributes[name])

    def banner(self) -> str:
        """Return the text at the top, before the board."""
        return self.text.partition("Board\n")[0]


# The page


def test_page_of_a_complete_run(folder: Path) -> None:
    """Board, figures, training and provenance are there, and nothing is said to be lacking."""
    page = Page(page_of(folder))
    assert "incomplete" not in page.text
    assert "Tables of the paper" in page.text
    assert "cifar10 · resnet20 · 2 methods · 3 seeds · ensembles of 3" in page.text
    for told in ("torch 2.6.0", "Testium (x86_64)", "c0ffee, with changes that were not committed", "1970-01-01 00:00"):
        assert told in page.text
    assert "harness run 'benchmarks/my paper.yaml'" in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 3
    assert "description: Tables of the paper" in page.text


def test_page_stands_alone(folder: Path) -> None:
    """No script, no link but to places on the page, no resource from anywhere; a policy forbids them besides."""
    text = page_of(folder)
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    for name in ("href", "xlink:href", "src"):
        assert all(value.startswith("#") for value in page.values(name)), name
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert "@import" not in text
    assert any(value.startswith("default-src 'none'") for value in page.values("content"))


def test_ids_on_the_page_are_unique(folder: Path) -> None:
    """Figures inlined side by side do not share ids, and what refers to an id finds it."""
    page = Page(page_of(folder))
    ids = list(page.values("id"))
    assert len(ids) == len(set(ids))
    assert {value[1:] for name in ("href", "xlink:href") for value in page.values(name)} <= set(ids)


HOSTILE = [
    "<script>alert('x')</script>",
    "</svg></style><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "{{ 7 * 7 }}",
    "$\\frac{",
    "_underscored",
    "--> ]]> <!--",
    "../../etc/passwd",
    "🐳 \u202eevil\x00\x1b[31m",
    "100% & more",
    "x" * 300,
    "=1+1",
]


@pytest.fixture(scope="module")
def calm_tags(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tags of a page of plain names."""
    return {tag for tag, _ in Page(page_of(made(tmp_path_factory.mktemp("calm") / "run"))).tags}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(tmp_path: Path, calm_tags: set[str], name: str) -> None:
    """Whatever names and messages hold, no tag and no attribute comes of it, neither on the page nor in a figure."""
    rows = forked(name, 1, beta=name) + forked(f"{name}2", 2, beta=name)
    rows = [Row(**{**vars(r), "dataset": name, "architecture": name, "benchmark": name}) for r in rows]
    rows.append(row(f"{name}3", 3, None, benchmark=name, dataset=name, architecture=name, status="failed", message=name))
    pairs = [{"dataset": name, "methods": [{"label": label, "name": name} for label in (name, f"{name}2")]}]
    failure = {"dataset": name, "architecture": name, "method": name, "seed": 0, "message": name}
    facts = {
        **FACTS,
        "status": name,
        "benchmark": {"name": name, "description": name, "pairs": pairs},
        "failures": [failure],
        "command": [name, name],
        "provenance": {"packages": {name: name}, "processor": name, "machine": name, "git": {"commit": name}},
        "members": [{"object": "t1", "dataset": name, "architecture": name}],
    }
    folder = made(tmp_path / "run", rows, facts, [{**event, "task": name} if "task" in event else event for event in EVENTS])
    text = page_of(folder)
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= calm_tags | {"ul", "li", "strong"}
    assert page.text.count(plain(name)) > 9
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not set(text) & set("\x00\x1b\u202e")
    for figure in figures_of(folder):
        assert re.fullmatch(r"[A-Za-z0-9_-]{5,110}", figure.name)
        ElementTree.fromstring(as_svg(figure))


def test_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Page and figures depend on nothing but the folder: not on the process, hash seeds, the clock or a matplotlibrc."""
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\nsvg.hashsalt: other\n")
    outputs = []
    for turn, extra in enumerate(
        ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")})
    ):
        out = tmp_path / str(turn)
        out.mkdir()
        arguments = [str(folder), "--out", str(out / "page.html"), "--figures", str(out / "figures")]
        code = f"from harness.cli.report import report; report({arguments!r})"
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **extra, "TZ": f"UTC{turn}"}, check=True, capture_output=True
        )
        outputs.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.*"))})
    assert len(outputs[0]) == 10
    assert outputs[0] == outputs[1]


def test_report_needs_no_torch(folder: Path) -> None:
    """It reads rows; the machine that shows results need not be able to train."""
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom harness.cli.report import report\n"
        f"report([{str(folder)!r}], standalone_mode=False)\n"
        "sys.exit(' '.join({'harness.worker', 'harness.graph', 'timm'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# What is lacking


def test_folder_without_rows(tmp_path: Path) -> None:
    """One line names what to give instead."""
    with pytest.raises(UserError) as error:
        read_run(tmp_path)
    assert str(error.value) == f"{tmp_path}: no results.csv; name a folder that `harness run FILE --out DIR` has written"


def test_a_file_in_place_of_a_folder(folder: Path) -> None:
    """The rows alone are no run."""
    path = folder / "results.csv"
    with pytest.raises(UserError) as error:
        read_run(path)
    assert str(error.value) == f"{path}: not a folder; name the one that `harness run FILE --out DIR` has written"


def test_without_run_json(tmp_path: Path) -> None:
    """The page is made, says at the top that the run has no end, and under provenance what it does not know."""
    page = text_of(made(tmp_path / "run", facts=None))
    assert "There is no run.json: the run has not ended, or the file was not copied along." in page.banner()
    assert "not in the folder: nothing is known of packages, hardware and benchmark" in page.text


def test_without_events(tmp_path: Path) -> None:
    """The page says in a line why there are no training curves."""
    page = text_of(made(tmp_path / "run", events=None))
    assert "There is no events.jsonl in the folder, so there are no training curves." in page.text
    assert "incomplete" not in page.text


def test_a_run_that_trained_nothing(tmp_path: Path) -> None:
    """All of it was in the store: no curves, and a line that says so."""
    page = text_of(made(tmp_path / "run", events=[EVENTS[0], EVENTS[-1]]))
    assert "Nothing was trained for this run that its events tell of: no training curves." in page.text


def test_no_rows_at_all(tmp_path: Path) -> None:
    """An empty file of rows makes a page that says it is empty."""
    text = Page(page_of(made(tmp_path / "run", rows=[], facts=None, events=None))).text
    assert "No rows to show." in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", ": not readable as JSON: .*; remove it to make a report without it$"),
        ("[]", ": holds no JSON object; remove it to make a report without it$"),
    ],
)
def test_a_damaged_run_json(folder: Path, content: str, message: str) -> None:
    """The file is named, with a way out."""
    (folder / "run.json").write_text(content)
    with pytest.raises(UserError, match=f"run\\.json{message}"):
        read_run(folder)


def test_files_that_are_folders(folder: Path) -> None:
    """The system's reason is passed on."""
    for name in ("events.jsonl", "run.json"):
        (folder / name).unlink()
        (folder / name).mkdir()
        with pytest.raises(UserError, match=rf"{name}: cannot be read: Is a directory$"):
            read_run(folder)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {
            "status": "done",
            "provenance": [],
            "benchmark": 3,
            "command": "x",
            "failures": [1],
            "members": {},
            "epochs_trained": "x",
        },
        {"benchmark": {"pairs": [{"methods": [{"label": "deep"}, 1]}, 2]}, "provenance": {"git": "x", "packages": []}},
        {"command": [], "provenance": {"git": None}},
    ],
)
def test_a_run_json_of_another_shape(tmp_path: Path, facts: Facts) -> None:
    """What cannot be made sense of is left out; the page is made all the same."""
    assert text_of(made(tmp_path / "run", facts=facts)).text


def test_lines_that_are_no_events(folder: Path) -> None:
    """A killed run leaves half a line: it is counted and left out."""
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "epoch", "task": "t1"}\n[1]\n{"event": "epo\xff')
    page = text_of(folder)
    assert "3 lines of events.jsonl are no event and left out." in page.text


# A run that is not complete


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            "failed",
            "Some cells failed: the numbers they would have given are lacking, the reasons are listed under Provenance.",
        ),
        ("interrupted", "The run was interrupted. The command that started it goes on where it stopped."),
        ("odd", "run.json gives the run no known status, but 'odd'."),
    ],
)
def test_a_status_that_is_not_done(tmp_path: Path, status: str, told: str) -> None:
    """The top of the page says what is the matter."""
    page = text_of(made(tmp_path / "run", facts={**FACTS, "status": status}))
    assert "This run is incomplete." in page.banner()
    assert told in page.banner()


def test_numbers_that_are_lacking(tmp_path: Path) -> None:
    """They are counted at the top; the reasons stand below the board and under provenance."""
    rows = [*PLAIN, row("late", 0, None), row("bad", 0, None, status="failed", message="diverged")]
    failure = {"dataset": "cifar10", "architecture": "resnet20", "method": "bad", "seed": 0, "message": "diverged in epoch 7"}
    page = text_of(made(tmp_path / "run", rows, {**FACTS, "status": "failed", "failures": [failure]}))
    assert "1 of 32 numbers could not be computed." in page.banner()
    assert "1 of 32 numbers have not been computed yet." in page.banner()
    assert "seed 0 of bad" in page.text
    assert "cifar10, resnet20, bad, seed 0" in page.text
    assert "diverged in epoch 7" in page.text


def test_a_run_that_was_resumed_and_killed(tmp_path: Path) -> None:
    """What run.json said of the run before it no longer holds."""
    page = text_of(made(tmp_path / "run", events=[*EVENTS, {"event": "run_started", "time": 100.0}]))
    assert "The latest run on this folder has not ended: it is under way, or it was killed." in page.banner()


# Figures against the rows, averaged by pandas


def test_pairwise_curves_are_means_over_pairs_and_seeds(folder: Path) -> None:
    """Mean, deviation and count at every λ, for every method."""
    data = table(figures_of(folder), "pairwise_curves").set_index(["method", "lambda"])
    rows = frame(PLAIN)
    curves = rows[rows["metric"].str.startswith("pairwise_curve/")]
    share = curves["metric"].str.rpartition("/")[2].astype(float)
    expected = curves.groupby([curves["method"], share.rename("lambda")])["value"].agg(["mean", "std", "count"])
    assert len(data) == len(expected) == 6
    for column, statistic in (("accuracy", "mean"), ("accuracy_std", "std"), ("n", "count")):
        pd.testing.assert_series_equal(data[column].sort_index(), expected[statistic], check_names=False, check_dtype=False)


def test_accuracy_against_connectivity_has_the_boards_numbers(folder: Path) -> None:
    """Mean, deviation and count over seeds of each of the three metrics."""
    data = table(figures_of(folder), "accuracy_connectivity").set_index("method")
    rows = frame(PLAIN)
    for metric in ("joint_connectivity", "ensemble_accuracy", "mean_member_accuracy"):
        expected = rows[rows["metric"] == metric].groupby("method")["value"].agg(["mean", "std", "count"])
        for column, statistic in ((metric, "mean"), (f"{metric}_std", "std"), (f"{metric}_n", "count")):
            found = data[column].sort_index()
            pd.testing.assert_series_equal(found, expected[statistic], check_names=False, check_dtype=False)


def test_diversity_against_the_fork_epoch(tmp_path: Path) -> None:
    """A curve for each β, in order of t; a method at one t and one without t have none."""
    rows = [*PLAIN, *forked("alone", 3, gamma=1)]
    for t in (10, 5):
        for beta in (0.2, 0.5):
            rows += forked(f"distilled(fork_epoch={t},beta={beta})", t, t * beta, beta=beta, temperature=3.0)
        rows += forked(f"constrained(fork_epoch={t})", t, -t)
    data = table(figures_of(made(tmp_path / "run", rows)), "fork_epochs")
    assert list(dict.fromkeys(data["metric"])) == ["predictive_variance", "jensen_shannon_divergence", "joint_connectivity"]
    part = data[data["metric"] == "predictive_variance"]
    assert list(zip(part["curve"], part["fork_epoch"])) == [
        (curve, t) for curve in ("distilled, beta = 0.2", "distilled, beta = 0.5", "constrained") for t in (5, 10)
    ]
    measured = frame(rows)
    for record in data.itertuples():
        values = measured[(measured["method"] == record.method) & (measured["metric"] == record.metric)]["value"]
        assert (record.mean, record.std, record.n) == (pytest.approx(values.mean()), pytest.approx(values.std()), 3)


def test_labels_of_ones_own_are_known_from_run_json(tmp_path: Path) -> None:
    """`early` and `late` are one plugin and so one curve; without run.json they are two methods."""
    rows = forked("early", 1) + forked("late", 5, 1.0)
    methods = [{"label": "early", "name": "constrained"}, {"label": "late", "name": "constrained"}]
    facts = {**FACTS, "benchmark": {"pairs": [{"methods": methods}]}}
    assert set(table(figures_of(made(tmp_path / "one", rows, facts)), "fork_epochs")["curve"]) == {"constrained"}
    assert not [f for f in figures_of(made(tmp_path / "two", rows, None)) if f.name.startswith("fork_epochs")]


def test_a_fork_epoch_that_is_not_known(tmp_path: Path) -> None:
    """`null` stands for a default that the rows do not tell: the method is on no curve, and options may be anything."""
    rows = [*forked("m(1)", 1), *forked("m(2)", 2, 1.0), *forked("m", None, 2.0)]
    rows += rows_of_method("n", options="not JSON") + rows_of_method("o", options="[1]")
    data = table(figures_of(made(tmp_path / "run", rows)), "fork_epochs")
    assert set(data["method"]) == {"m(1)", "m(2)"}


def test_ensembles_of_two_sizes_are_two_curves(tmp_path: Path) -> None:
    """M is an option like any other."""
    rows = []
    for members, t in ((3, 1), (3, 2), (5, 1), (5, 2)):
        options = json.dumps({"fork_epoch": t})
        rows += rows_of_method(f"m(fork_epoch={t},{members})", t, options=options, members=members)
    data = table(figures_of(made(tmp_path / "run", rows)), "fork_epochs")
    assert set(data["curve"]) == {"m, M = 3", "m, M = 5"}


def test_values_that_cannot_be_drawn(tmp_path: Path) -> None:
    """NaN and infinite means are in the data as such; the figure shows the others, or is left out if there are none."""
    rows = [*PLAIN, *rows_of_method("lost", math.nan), *rows_of_method("far", math.inf), row("half", 0, 90.0)]
    figures = figures_of(made(tmp_path / "run", rows))
    data = table(figures, "accuracy_connectivity").set_index("method")
    assert math.isnan(data.loc["lost", "ensemble_accuracy"])
    assert math.isinf(data.loc["far", "ensemble_accuracy"])
    assert data.loc["half", "joint_connectivity_n"] == 0
    write_figures(figures, tmp_path / "figures")
    assert [f.name for f in figures_of(made(tmp_path / "only", rows_of_method("nan", math.nan), FACTS, None))] == []


def test_one_seed_and_one_method(tmp_path: Path) -> None:
    """No spread anywhere, and the captions say so."""
    figures = figures_of(made(tmp_path / "run", rows_of_method("deep", seeds=[0])))
    captions = {figure.name.partition("-")[0]: figure.caption for figure in figures}
    assert "One seed, so no spread." in captions["accuracy_connectivity"]
    write_figures(figures, tmp_path / "figures")


def test_tables_have_figures_of_their_own(tmp_path: Path) -> None:
    """Data sets do not mix, and names that look alike as files are told apart."""
    rows = [*PLAIN, *rows_of_method("deep", 3, dataset="a/b"), *rows_of_method("deep", 4, dataset="a:b")]
    names = [figure.name for figure in figures_of(made(tmp_path / "run", rows, events=None))]
    assert names == [
        "pairwise_curves-cifar10-resnet20",
        "accuracy_connectivity-cifar10-resnet20",
        "pairwise_curves-a-b-resnet20",
        "accuracy_connectivity-a-b-resnet20",
        "pairwise_curves-a-b-resnet20-2",
        "accuracy_connectivity-a-b-resnet20-2",
    ]


def test_a_curve_looks_alike_in_every_figure_and_unlike_the_others() -> None:
    """Forty methods can be told apart, and of one method twenty fork epochs."""
    assert len({look(i) for i in range(40)}) == 40
    assert len({look(3, step) for step in range(20)}) == 20


# Training curves


def test_training_curves_have_the_events_numbers(folder: Path) -> None:
    """Every epoch of every task, as it was reported."""
    data = table(figures_of(folder), "training_curves")
    expected = pd.DataFrame([event for event in EVENTS if event["event"] == "epoch"])[["task", "epoch", "loss", "accuracy"]]
    pd.testing.assert_frame_equal(data, expected)


def test_an_epoch_that_was_trained_again(tmp_path: Path) -> None:
    """A resumed training repeats what was not saved: the last report of an epoch counts, once."""
    again = epochs("t1", 4, first=3, loss=5.0)
    data = table(figures_of(made(tmp_path / "run", events=[*EVENTS, *again])), "training_curves")
    assert list(data[data["task"] == "t1"]["epoch"]) == [1, 2, 3, 4]
    assert list(data[data["task"] == "t1"]["loss"]) == [2.0, 1.0, 5 / 3, 5 / 4]


def test_trainings_of_several_data_sets(tmp_path: Path) -> None:
    """A member's own training is known by run.json; what several ensembles share stands apart."""
    rows = [*PLAIN, *rows_of_method("deep", dataset="digits")]
    members = [{"object": "t1", "dataset": "digits", "architecture": "resnet20", "method": "deep"}]
    figures = figures_of(made(tmp_path / "run", rows, {**FACTS, "members": members}))
    assert [figure.name for figure in figures if figure.name.startswith("training")] == [
        "training_curves-digits-resnet20",
        "training_curves-trainings-that-several-ensembles-share",
    ]


def test_many_trainings_stay_readable_and_small(tmp_path: Path) -> None:
    """Beyond a hundred lines a band stands for them, and the picture does not grow with them; the data are complete."""
    events = [event for task in range(150) for event in epochs(f"t{task}", 40, loss=1.0 + task % 7)]
    (figure,) = (f for f in figures_of(made(tmp_path / "run", events=events)) if f.name.startswith("training"))
    assert "From the 10% to the 90% quantile of all trainings, in bold their median." in figure.caption
    assert len(figure.lines) == 150 * 40
    svg = next(path for path in write_figures([figure], tmp_path / "figures") if path.suffix == ".svg")
    assert svg.stat().st_size < 200_000


def test_losses_that_are_not_finite_or_not_positive(tmp_path: Path) -> None:
    """They are in the data; the curves go without them."""
    odd = [{**event, "loss": value} for event, value in zip(epochs("t3"), (math.nan, -1.0, 0.0))]
    write_figures(figures_of(made(tmp_path / "run", events=[*EVENTS, *odd])), tmp_path / "figures")
    only = [{**event, "loss": math.inf, "accuracy": math.nan} for event in epochs("t3")]
    write_figures(figures_of(made(tmp_path / "only", events=only)), tmp_path / "figures")


# Anything at all

any_text = st.text(st.characters(exclude_categories=()), max_size=5)


@st.composite
def runs(draw: st.DrawFn) -> list[Row]:
    """Rows with any names and values."""
    found = {}
    metrics = ["ensemble_accuracy", "joint_connectivity", "predictive_variance", "pairwise_curve/0-1/0.5", "pairwise_curve/x"]
    for method in draw(st.lists(any_text, min_size=1, max_size=3, unique=True)):
        t = draw(st.none() | st.integers(0, 5) | st.floats(0, 1) | any_text)
        for metric in metrics:
            for seed in draw(st.sets(st.integers(0, 2), max_size=2)):
                value = draw(st.none() | st.floats())
                options = json.dumps({"fork_epoch": t})
                found[method, metric, seed] = row(method, seed, value, metric, options=options, dataset="d", unit="", better="")
    return list(found.values())


def test_numbers_near_the_largest_break_no_report(tmp_path: Path) -> None:
    """Sums of them overflow: no axis shows them, the board does."""
    huge = 1.7976931348623157e308
    rows = [
        row("deep", seed, value, metric, dataset="d", unit="", better="")
        for metric in ("ensemble_accuracy", "joint_connectivity", "pairwise_curve/0-1/0.0", "pairwise_curve/0-1/0.5")
        for seed, value in enumerate((huge, -huge, 0.0))
    ]
    assert Page(page_of(made(tmp_path / "run", rows, events=None))).tags


@given(runs())
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_rows_break_a_report(tmp_path: Path, rows: list[Row]) -> None:
    """The page and every file are made, and are well formed."""
    folder = made(tmp_path / "run", rows, events=None)
    assert Page(page_of(folder)).tags
    for path in write_figures(figures_of(folder), tmp_path / "figures"):
        if path.suffix == ".svg":
            ElementTree.parse(path)
        elif path.suffix == ".csv":
            assert len(list(csv.reader(io.StringIO(path.read_text(), newline=""), strict=True))) > 1


# The command


def run(*arguments: str | Path) -> str:
    """Return what the command prints; an error of the user's is raised as it is, for the command group to print."""
    result = CliRunner().invoke(report, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_writes_the_page_into_the_folder(folder: Path) -> None:
    """It prints where the page is."""
    assert run(folder) == f"page: {folder / 'report.html'}\n"
    assert (folder / "report.html").read_text(encoding="utf-8") == page_of(folder)


def test_the_command_writes_figures_and_their_data(folder: Path, tmp_path: Path) -> None:
    """A PNG, an SVG and a CSV of each, in a folder that is made."""
    shelf, page = tmp_path / "new" / "figures", tmp_path / "page.html"
    told = run(folder, "--out", page, "--figures", shelf)
    assert told == f"page: {page}\nfigures: 3 in {shelf}, each as PNG, SVG and CSV\n"
    names = ["accuracy_connectivity-cifar10-resnet20", "pairwise_curves-cifar10-resnet20", "training_curves-cifar10-resnet20"]
    assert sorted(path.name for path in shelf.iterdir()) == [f"{n}.{e}" for n in names for e in ("csv", "png", "svg")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in shelf.glob("*.png"))
    assert not (folder / "report.html").exists()


def test_places_that_cannot_be_written(folder: Path) -> None:
    """One line says which."""
    with pytest.raises(UserError, match=r"page\.html: cannot be written: "):
        run(folder, "--out", folder / "nowhere" / "page.html")
    with pytest.raises(UserError, match=r"results\.csv: cannot be made: File exists; name another folder$"):
        run(folder, "--figures", folder / "results.csv")
