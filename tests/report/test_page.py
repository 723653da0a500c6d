"""The HTML page: complete, self-contained, safe against hostile names, and explicit about missing parts."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import harness.report
from harness.leaderboard import board
from harness.report import DrawnFigures, make_page, read_run
from harness.report.rendering import svg
from harness.report.scripts import page_scripts
from harness.results.rows import Row
from harness.text import plain_line
from run_folder import (
    EVENTS,
    FACTS,
    PLAIN,
    Facts,
    Page,
    epochs,
    figures_of,
    forked,
    made,
    page_of,
    row,
    text_of,
    without_scripts,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def test_page_of_a_complete_run(folder: Path) -> None:
    """It has board, figures, training curves and provenance, and no note about missing parts."""
    page = Page(page_of(folder))
    assert "incomplete" not in page.text
    assert "Tables of the paper" in page.text
    assert "cifar10 · resnet20 · 2 methods · 3 seeds · ensembles of 3" in page.text
    for text in ("torch 2.6.0", "Testium (x86_64)", "c0ffee, with changes that were not committed", "1970-01-01 00:00"):
        assert text in page.text
    assert "harness run 'benchmarks/my paper.yaml'" in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 4
    assert "description: Tables of the paper" in page.text


def test_plugins_of_a_run(tmp_path: Path) -> None:
    """The provenance names each distribution of plugins once, with its version and its plugins."""
    plugins = [
        {"plugin": "basin", "distribution": "basin-harness", "version": "0.1.0"},
        {"plugin": "mine", "distribution": "my-method", "version": "2.1"},
        {"plugin": "vision", "distribution": "basin-harness", "version": "0.1.0"},
    ]
    facts = {**FACTS, "provenance": {"plugins": plugins}}
    page = Page(page_of(made(tmp_path / "run", facts=facts)))
    assert "basin-harness 0.1.0 (basin, vision), my-method 2.1 (mine)" in page.text


def test_page_is_self_contained(folder: Path) -> None:
    """It has no scripts but its own, and no external link or resource; its content security policy forbids them."""
    text = without_scripts(page_of(folder))
    page = Page(text)
    forbidden = {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert {tag for tag, _ in page.tags}.isdisjoint(forbidden)
    for name in ("href", "xlink:href", "src"):
        assert all(value.startswith(("#", "data:image/png;base64,")) for value in page.values(name)), name
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert "@import" not in text


def test_content_security_policy(folder: Path) -> None:
    """It allows the page's scripts by their digests, and no others, no network and no evaluation of text."""
    text = page_of(folder)
    [policy] = [value for value in Page(text).values("content") if value.startswith("default-src 'none'")]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 3
    assert policy.partition("script-src ")[2] == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert "unsafe-eval" not in policy


def test_scripts_cannot_end_early() -> None:
    """No script holds what would end its element or begin a comment."""
    for script in page_scripts():
        assert "</script" not in script.lower()
        assert "<!--" not in script
        assert "\r" not in script


def test_vendored_scripts() -> None:
    """They are the files of the recorded digests, each with its licence, which is on the page too."""
    folder = Path(harness.report.__file__).parent / "vendor"
    digests = {}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        digests[name] = digest
    scripts = {path.name for path in folder.glob("*.js")}
    assert scripts == {"dataTables.min.js"}
    assert set(digests) == scripts | {name.replace(".min.js", ".LICENSE.txt") for name in scripts}
    for name, digest in digests.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert "Permission is hereby granted, free of charge" in page_scripts()[0]
    assert "DataTables 3.1.5" in page_scripts()[0]


def test_board_is_the_first_table(folder: Path) -> None:
    """The page's first table is the board: heads with a scope, the number of name columns, a title and a caption."""
    page = Page(page_of(folder))
    tables = [attributes for tag, attributes in page.tags if tag == "table"]
    assert tables[0]["class"] == "board"
    assert tables[0]["data-labels"] == "1"
    ids = set(page.values("id"))
    for name in ("aria-labelledby", "aria-describedby"):
        assert tables[0][name] in ids


def test_data_behind_a_figure(folder: Path) -> None:
    """Each figure has a table of its data."""
    board_table, curves, accuracy, _, trainings, _ = Page(page_of(folder)).tables
    assert board_table[0][0] == "method"
    assert curves[0] == ["method", "lambda", "accuracy", "accuracy_std", "n"]
    assert curves[1][:3] == ["deep", "0", "71"]
    assert [line[1] for line in accuracy] == ["method", "deep", "swe"]
    assert [line[:4] for line in trainings[:2]] == [["task", "epoch", "loss", "accuracy"], ["t1", "1", "2", "10"]]


def test_long_data_behind_a_figure(tmp_path: Path) -> None:
    """The table has the first 400 lines, and the page says how many more there are."""
    events = []
    for task in range(21):
        events += epochs(f"t{task}", 20)
    page = Page(page_of(made(tmp_path / "run", events=events)))
    assert len(page.tables[-2]) == 401
    assert "20 more lines: harness report --figures writes all." in page.text


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
def usual_tags(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tags of a page with harmless names."""
    return {tag for tag, _ in Page(page_of(made(tmp_path_factory.mktemp("usual") / "run"))).tags}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(tmp_path: Path, usual_tags: set[str], name: str) -> None:
    """Names and messages add no tag and no attribute, neither to the page nor to a figure."""
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
    run, figures = read_run(folder), figures_of(folder)
    text = make_page(run, board({"run": run.rows}), DrawnFigures(figures))
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= usual_tags | {"ul", "li", "strong"}
    assert "<script" not in without_scripts(text)
    assert page.text.count(plain_line(name)) > 9
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]
    assert not set(text) & set("\x00\x1b\u202e")
    for figure in figures:
        assert re.fullmatch(r"[A-Za-z0-9_-]{5,110}", figure.name)
        ElementTree.fromstring(svg(figure.plot))


def test_without_run_json(tmp_path: Path) -> None:
    """The page says at the top that the run has not ended, and under provenance what is unknown."""
    page = text_of(made(tmp_path / "run", facts=None))
    assert "There is no run.json: the run has not ended, or the file was not copied along." in page.banner()
    assert "not in the folder: nothing is known of packages, hardware and benchmark" in page.text


def test_without_events(tmp_path: Path) -> None:
    """The page says why there are no training curves."""
    page = text_of(made(tmp_path / "run", events=None))
    assert "There is no events.jsonl in the folder, so there are no training curves." in page.text
    assert "incomplete" not in page.text


def test_run_that_trained_nothing(tmp_path: Path) -> None:
    """The page says why there are no training curves."""
    page = text_of(made(tmp_path / "run", events=[EVENTS[0], EVENTS[-1]]))
    assert "Nothing was trained for this run that its events tell of: no training curves." in page.text


def test_no_rows(tmp_path: Path) -> None:
    """The page says that there are no rows."""
    text = Page(page_of(made(tmp_path / "run", rows=[], facts=None, events=None))).text
    assert "No rows to show." in text


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
def test_run_json_with_other_types(tmp_path: Path, facts: Facts) -> None:
    """The page leaves out values of unexpected types."""
    assert text_of(made(tmp_path / "run", facts=facts)).text


def test_lines_that_are_no_events(folder: Path) -> None:
    """They are counted and left out; a killed run may leave half a line."""
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "epoch", "task": "t1"}\n[1]\n{"event": "epo\xff')
    page = text_of(folder)
    assert "3 lines of events.jsonl are no event and left out." in page.text


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            "failed",
            "Some cells failed: the numbers they would have given are lacking, the reasons are listed under Provenance.",
        ),
        ("interrupted", "The run was interrupted. The command that started it goes on where it stopped."),
        ("odd", "run.json gives the run no known status, but 'odd'."),
    ],
)
def test_status_other_than_done(tmp_path: Path, status: str, message: str) -> None:
    """The top of the page explains the status."""
    page = text_of(made(tmp_path / "run", facts={**FACTS, "status": status}))
    assert "This run is incomplete." in page.banner()
    assert message in page.banner()


def test_missing_numbers(tmp_path: Path) -> None:
    """The top of the page counts them; the reasons stand below the board and under provenance."""
    rows = [*PLAIN, row("late", 0, None), row("bad", 0, None, status="failed", message="diverged")]
    failure = {"dataset": "cifar10", "architecture": "resnet20", "method": "bad", "seed": 0, "message": "diverged in epoch 7"}
    page = text_of(made(tmp_path / "run", rows, {**FACTS, "status": "failed", "failures": [failure]}))
    assert "1 of 32 numbers could not be computed." in page.banner()
    assert "1 of 32 numbers have not been computed yet." in page.banner()
    assert "seed 0 of bad" in page.text
    assert "cifar10, resnet20, bad, seed 0" in page.text
    assert "diverged in epoch 7" in page.text


def test_run_that_was_resumed_and_killed(tmp_path: Path) -> None:
    """The page says that the latest run has not ended, whatever run.json says."""
    page = text_of(made(tmp_path / "run", events=[*EVENTS, {"event": "run_started", "time": 100.0}]))
    assert "The latest run on this folder has not ended: it is under way, or it was killed." in page.banner()
