"""Figures by plugins: their order and names, and what happens to one that fails."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness import Epoch, Figure, FigureData, Options, Plot, drawing
from harness.errors import PluginFailed
from harness.leaderboard import board
from harness.report import DrawnFigures, Run, make_figures, make_page, read_run, write_figures
from run_folder import EVENTS, FACTS, PLAIN, Facts, Page, figures_of, made, row, rows_of_method


def plot(title: str = "Rows", caption: str = "How many.", **changes: Any) -> Plot:
    """Return a plot of one bar."""
    fields = {"columns": ("n",), "records": ((1,),), "paint": lambda canvas: canvas.subplots().bar([0], [1])}
    return Plot(title, caption, **{**fields, **changes})


class RowCount(Figure):
    """How many rows each method has."""

    name = "row_count"

    def draw(self, data: FigureData) -> Iterable[Plot]:
        counts = data.rows.groupby("method").size()

        def paint(canvas: Any) -> None:
            canvas.subplots().barh([drawing.label(method) for method in counts.index], counts)

        yield plot(columns=("method", "rows"), records=tuple(counts.items()), paint=paint)


def figure(draw: Callable[[FigureData], Any], name: str = "toy") -> type[Figure]:
    """Return a figure class that draws so."""
    return type("Toy", (Figure,), {"name": name, "draw": lambda self, data: draw(data)})


def drawn(folder: Path, *figures: Callable[[], Figure]) -> tuple[Run, DrawnFigures]:
    """Return a run and what these figures draw of it; messages call them a, b, …"""
    run = read_run(folder)
    plugins = dict(zip("abcdef", figures))
    return run, make_figures(run, board({"run": run.rows}), plugins)


def test_a_figure_of_a_third_party_is_on_the_page(tmp_path: Path) -> None:
    """Its title, caption, alternative text, data and picture."""
    run, found = drawn(made(tmp_path / "run", events=None), RowCount)
    page = Page(make_page(run, board({"run": run.rows}), found))
    assert found.problems == ()
    assert "cifar10, resnet20\n" in page.text
    assert "Rows. How many." in page.text
    assert "method,rows\ndeep,42\nswe,42\n" in page.text
    assert "Rows" in page.values("aria-label")
    assert "row_count-cifar10-resnet20" in page.values("id")


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


def test_sections_hold_all_figures_in_order(tmp_path: Path) -> None:
    """The figures of a table as they were registered, plots as they were returned, training curves last."""
    rows = [*PLAIN, *rows_of_method("deep", dataset="digits")]
    members = [{"object": "t1", "dataset": "cifar10", "architecture": "resnet20"}]
    folder = made(tmp_path / "run", rows, {**FACTS, "members": members})
    _, found = drawn(folder, figure(lambda data: [plot("one"), plot("two")], "zebra"), figure(lambda data: [plot()], "ant"))
    assert [f.name for f in found.figures] == [
        "zebra-cifar10-resnet20",
        "zebra-cifar10-resnet20-2",
        "ant-cifar10-resnet20",
        "training_curves-cifar10-resnet20",
        "zebra-digits-resnet20",
        "zebra-digits-resnet20-2",
        "ant-digits-resnet20",
        "training_curves-trainings-that-several-ensembles-share",
    ]


@pytest.mark.parametrize("name", ["2 fast/../x", "<b>", "ä", "x" * 100, "Row_Count"])
def test_any_registered_name_makes_files_and_ids(tmp_path: Path, name: str) -> None:
    """Files and ids are letters, digits, dashes and underscores, no digit first, even if case alone tells them apart."""
    _, found = drawn(made(tmp_path / "run", events=None), figure(lambda data: [plot()], name), RowCount)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{1,110}", f.name) for f in found.figures)
    assert len({f.name.lower() for f in found.figures}) == 2
    assert len(write_figures(found.figures, tmp_path / "figures")) == len(list((tmp_path / "figures").iterdir())) == 6


def test_what_a_figure_is_given(tmp_path: Path) -> None:
    """One table of the board, its rows with details, the builders behind labels, its trainings, the facts and the folder."""
    seen: list[FigureData] = []
    rows = [*PLAIN, *rows_of_method("deep", dataset="digits")]
    pairs = [{"methods": [{"label": "mine", "name": "deep"}]}]
    members = [{"object": "t1", "dataset": "cifar10", "architecture": "resnet20"}]
    facts: Facts = {**FACTS, "benchmark": {"pairs": pairs}, "members": members}
    folder = made(tmp_path / "run", rows, facts)
    drawn(folder, figure(lambda data: seen.append(data) or []))
    first, second = seen
    assert (first.table.dataset, second.table.dataset) == ("cifar10", "digits")
    assert set(first.rows["dataset"]) == {"cifar10"}
    assert len(first.rows) == len(PLAIN)
    assert first.rows["metric"].str.startswith("pairwise_curve/").any()
    assert first.builders == {"mine": "deep"}
    assert [training.task for training in first.trainings] == ["t1"]
    assert first.trainings[0].epochs[1] == Epoch(2, 1.0, 20.0)
    assert second.trainings == ()
    assert first.facts == facts
    assert first.folder == folder


def test_without_run_json_there_are_no_facts(tmp_path: Path) -> None:
    """A mapping all the same."""
    seen: list[FigureData] = []
    drawn(made(tmp_path / "run", facts=None), figure(lambda data: seen.append(data) or []))
    assert seen[0].facts == {}
    assert seen[0].builders == {}


def spoil(data: FigureData) -> list[Plot]:
    """Change all that can be changed."""
    data.rows["value"] = 0.0
    data.rows.drop(data.rows.index, inplace=True)
    data.facts.clear()  # type: ignore[attr-defined]
    data.builders.clear()  # type: ignore[attr-defined]
    return []


def test_a_figure_that_changes_its_data(tmp_path: Path) -> None:
    """Neither the other figures nor the page are affected."""
    folder = made(tmp_path / "run", events=None)
    run, found = drawn(folder, figure(spoil), RowCount)
    assert found.figures[0].csv == "method,rows\ndeep,42\nswe,42\n"
    assert "Tables of the paper" in Page(make_page(run, board({"run": run.rows}), found)).text


def explode(*_: object) -> Any:
    """Raise as a plugin may."""
    raise ValueError("no\x1b[31m luck\n<b>")


def leave(*_: object) -> Any:
    """Exit as a plugin may."""
    raise SystemExit(3)


class NeedsOptions(RowCount):
    """A figure that cannot be made with default options."""

    class Options(Options):
        """Options."""

        bins: int


class Stubborn:
    """A value that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


BROKEN: list[tuple[Callable[[], Figure], str]] = [
    (figure(explode), r"ValueError: no\ufffd\[31m luck <b> \(test_figures.py:\d+\)"),
    (figure(leave), r"SystemExit: 3 \(test_figures.py:\d+\)"),
    (figure(lambda data: None), r"draw returned NoneType; an iterable of harness.Plot is expected"),
    (figure(lambda data: 3), r"draw returned int; an iterable of harness.Plot is expected"),
    (figure(lambda data: ["x"]), r"draw gave str; only harness.Plot is expected"),
    (figure(lambda data: (explode() for _ in "x")), r"ValueError: no"),
    (figure(lambda data: [plot(paint=explode)]), r"ValueError: no"),
    (figure(lambda data: [plot(paint=leave)]), r"SystemExit: 3"),
    (figure(lambda data: [plot(title=3)]), r"ValueError: plot: title is 3; a text is needed"),
    (figure(lambda data: [plot(records=((1, 2),))]), r"ValueError: plot 'Rows': a record has 2 fields, the columns are 1"),
    (figure(lambda data: [plot(paint=None)]), r"ValueError: plot 'Rows': paint is None; a function of the canvas is needed"),
    (figure(lambda data: [plot(size=(1e9, 1))]), r"ValueError: plot 'Rows': size is .*; inches above 0 and up to 300"),
    (figure(lambda data: [plot(records=((Stubborn(),),))]), r"RuntimeError: no text"),
    (figure(lambda data: [MemoryError("none left")]), r"draw gave MemoryError; only harness.Plot is expected"),
    (NeedsOptions, r"ValidationError: 1 validation error for Options bins Field required"),
    (explode, r"ValueError: no"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN)
def test_a_figure_that_fails_is_named_once(tmp_path: Path, broken: Callable[[], Figure], said: str) -> None:
    """One line on the page, and every other figure of every table."""
    rows = [*PLAIN, *rows_of_method("deep", dataset="digits")]
    run, found = drawn(made(tmp_path / "run", rows, events=None), broken, RowCount)
    (problem,) = found.problems
    assert re.match(f"a is left out: {said}", problem)
    assert problem.isprintable()
    assert [f.name for f in found.figures] == ["row_count-cifar10-resnet20", "row_count-digits-resnet20"]
    page = Page(make_page(run, board({"run": run.rows}), found))
    assert problem in page.text


def test_a_figure_out_of_memory_is_named(tmp_path: Path) -> None:
    """It is no reason to go without the page."""

    def exhaust(data: FigureData) -> Any:
        raise MemoryError("none left")

    _, found = drawn(made(tmp_path / "run", events=None), figure(exhaust), RowCount)
    assert re.match("a is left out: MemoryError: none left", found.problems[0])
    assert len(found.figures) == 1


def test_what_a_figure_prints_is_no_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the command."""

    def talk(data: FigureData) -> list[Plot]:
        print("drawing")
        return [plot(paint=lambda canvas: print("painting"))]

    _, found = drawn(made(tmp_path / "run", events=None), figure(talk))
    write_figures(found.figures, tmp_path / "figures")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "drawing\npainting\npainting\npainting\n"


def test_a_figure_that_fails_only_as_a_file(tmp_path: Path) -> None:
    """The figure and the reason are named in one line."""
    times: list[int] = []

    def once(canvas: Any) -> None:
        times.append(1)
        if len(times) > 1:
            raise ValueError("again?")

    _, found = drawn(made(tmp_path / "run", events=None), figure(lambda data: [plot(paint=once)]))
    with pytest.raises(PluginFailed, match=r"^a: paint raised ValueError: again\? \(test_figures.py:\d+\)$"):
        write_figures(found.figures, tmp_path / "figures")


def test_a_figure_cannot_change_the_style_of_the_next(tmp_path: Path) -> None:
    """Settings of matplotlib end with the plot."""

    def restyle(canvas: Any) -> None:
        import matplotlib

        matplotlib.rcParams["font.size"] = 40
        canvas.subplots()

    folder = made(tmp_path / "run", events=None)
    _, alone = drawn(folder, RowCount)
    _, after = drawn(folder, figure(lambda data: [plot(paint=restyle)]), RowCount)
    assert after.figures[1].svg == alone.figures[0].svg


def test_numbers_of_numpy_are_written_as_numbers(tmp_path: Path) -> None:
    """Their type is not part of the CSV."""
    import numpy as np

    records = ((np.float64(0.1), np.int64(2), None, "x"),)
    _, found = drawn(
        made(tmp_path / "run", events=None), figure(lambda data: [plot(columns=("a", "b", "c", "d"), records=records)])
    )
    assert found.figures[0].csv == "a,b,c,d\n0.1,2,,x\n"


def test_figures_that_warn_are_still_drawn(tmp_path: Path) -> None:
    """Letters that the font lacks are boxes, without a warning."""
    whale = figure(lambda data: [plot(paint=lambda canvas: canvas.subplots().set_title("🐳"))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, found = drawn(made(tmp_path / "run", [row()], events=EVENTS), whale)
    assert found.problems == ()
