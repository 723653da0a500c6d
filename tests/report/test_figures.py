"""Figures of plugins: their data, order and names, and figures that fail."""

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
    """Return a figure class with this `draw`."""
    return type("Toy", (Figure,), {"name": name, "draw": lambda self, data: draw(data)})


def drawn(folder: Path, *figures: Callable[[], Figure]) -> tuple[Run, DrawnFigures]:
    """Return a run and its drawn figures, whose labels are a, b, …"""
    run = read_run(folder)
    plugins = dict(zip("abcdef", figures))
    return run, make_figures(run, board({"run": run.rows}), plugins)


def test_figure_of_a_third_party(tmp_path: Path) -> None:
    """The page has its title, caption, alternative text, data and picture."""
    run, found = drawn(made(tmp_path / "run", events=None), RowCount)
    page = Page(make_page(run, board({"run": run.rows}), found))
    assert found.problems == ()
    assert "cifar10, resnet20\n" in page.text
    assert "Rows. How many." in page.text
    assert page.tables[1] == [["method", "rows"], ["deep", "42"], ["swe", "42"]]
    assert "Rows" in page.values("aria-label")
    assert "row_count-cifar10-resnet20" in page.values("id")


def test_figures_of_several_data_sets(tmp_path: Path) -> None:
    """Each table has its own figures; a number distinguishes names that would be equal as files."""
    rows = [*PLAIN, *rows_of_method("deep", 3, dataset="a/b"), *rows_of_method("deep", 4, dataset="a:b")]
    names = [figure.name for figure in figures_of(made(tmp_path / "run", rows, events=None))]
    assert names == [
        "pairwise_curves-cifar10-resnet20",
        "accuracy_connectivity-cifar10-resnet20",
        "pairwise_barriers-cifar10-resnet20",
        "pairwise_curves-a-b-resnet20",
        "accuracy_connectivity-a-b-resnet20",
        "pairwise_barriers-a-b-resnet20",
        "pairwise_curves-a-b-resnet20-2",
        "accuracy_connectivity-a-b-resnet20-2",
        "pairwise_barriers-a-b-resnet20-2",
    ]


def test_order_of_figures(tmp_path: Path) -> None:
    """A section has the figures in order of registration, their plots in order, and training curves last."""
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
def test_names_of_files_and_ids(tmp_path: Path, name: str) -> None:
    """They consist of letters, digits, dashes and underscores, begin with no digit, and differ by more than case."""
    _, found = drawn(made(tmp_path / "run", events=None), figure(lambda data: [plot()], name), RowCount)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{1,110}", f.name) for f in found.figures)
    assert len({f.name.lower() for f in found.figures}) == 2
    assert len(write_figures(found.figures, tmp_path / "figures")) == len(list((tmp_path / "figures").iterdir())) == 6


def test_data_of_a_figure(tmp_path: Path) -> None:
    """It gets one table, its rows with details, the builders of labels, its trainings, the facts and the folder."""
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


def test_data_without_run_json(tmp_path: Path) -> None:
    """Facts and builders are empty mappings."""
    seen: list[FigureData] = []
    drawn(made(tmp_path / "run", facts=None), figure(lambda data: seen.append(data) or []))
    assert seen[0].facts == {}
    assert seen[0].builders == {}


def spoil(data: FigureData) -> list[Plot]:
    """Change everything that can be changed."""
    data.rows["value"] = 0.0
    data.rows.drop(data.rows.index, inplace=True)
    data.facts.clear()  # type: ignore[attr-defined]
    data.builders.clear()  # type: ignore[attr-defined]
    return []


def test_figure_that_changes_its_data(tmp_path: Path) -> None:
    """Other figures and the page are not affected."""
    folder = made(tmp_path / "run", events=None)
    run, found = drawn(folder, figure(spoil), RowCount)
    assert found.figures[0].csv == "method,rows\ndeep,42\nswe,42\n"
    assert "Tables of the paper" in Page(make_page(run, board({"run": run.rows}), found)).text


def explode(*_: object) -> Any:
    """Raise an error as a plugin may."""
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
    (NeedsOptions, r"ValidationError: Options\.bins: Field required"),
    (explode, r"ValueError: no"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_figure_that_fails(tmp_path: Path, broken: Callable[[], Figure], message: str) -> None:
    """The page has one line about it, and the other figures of every table."""
    rows = [*PLAIN, *rows_of_method("deep", dataset="digits")]
    run, found = drawn(made(tmp_path / "run", rows, events=None), broken, RowCount)
    (problem,) = found.problems
    assert re.match(f"a is left out: {message}", problem)
    assert problem.isprintable()
    assert [f.name for f in found.figures] == ["row_count-cifar10-resnet20", "row_count-digits-resnet20"]
    page = Page(make_page(run, board({"run": run.rows}), found))
    assert problem in page.text


def test_figure_that_runs_out_of_memory(tmp_path: Path) -> None:
    """It is left out, and the other figures are drawn."""

    def exhaust(data: FigureData) -> Any:
        raise MemoryError("none left")

    _, found = drawn(made(tmp_path / "run", events=None), figure(exhaust), RowCount)
    assert re.match("a is left out: MemoryError: none left", found.problems[0])
    assert len(found.figures) == 1


def test_figure_that_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its text goes to standard error."""

    def talk(data: FigureData) -> list[Plot]:
        print("drawing")
        return [plot(paint=lambda canvas: print("painting"))]

    _, found = drawn(made(tmp_path / "run", events=None), figure(talk))
    write_figures(found.figures, tmp_path / "figures")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "drawing\npainting\npainting\npainting\n"


def test_figure_that_fails_when_drawn_again(tmp_path: Path) -> None:
    """The error names the figure and the reason."""
    times: list[int] = []

    def once(canvas: Any) -> None:
        times.append(1)
        if len(times) > 1:
            raise ValueError("again?")

    _, found = drawn(made(tmp_path / "run", events=None), figure(lambda data: [plot(paint=once)]))
    with pytest.raises(PluginFailed, match=r"^a: paint raised ValueError: again\? \(test_figures.py:\d+\)$"):
        write_figures(found.figures, tmp_path / "figures")


def test_figure_that_changes_matplotlib_settings(tmp_path: Path) -> None:
    """The next figure has the report's style."""

    def restyle(canvas: Any) -> None:
        import matplotlib

        matplotlib.rcParams["font.size"] = 40
        canvas.subplots()

    folder = made(tmp_path / "run", events=None)
    _, alone = drawn(folder, RowCount)
    _, after = drawn(folder, figure(lambda data: [plot(paint=restyle)]), RowCount)
    assert after.figures[1].svg == alone.figures[0].svg


def test_records_of_numpy_numbers(tmp_path: Path) -> None:
    """The CSV holds the numbers without their type."""
    import numpy as np

    records = ((np.float64(0.1), np.int64(2), None, "x"),)
    _, found = drawn(
        made(tmp_path / "run", events=None), figure(lambda data: [plot(columns=("a", "b", "c", "d"), records=records)])
    )
    assert found.figures[0].csv == "a,b,c,d\n0.1,2,,x\n"


def test_letters_that_the_font_lacks(tmp_path: Path) -> None:
    """The figure is drawn without a warning."""
    whale = figure(lambda data: [plot(paint=lambda canvas: canvas.subplots().set_title("🐳"))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, found = drawn(made(tmp_path / "run", [row()], events=EVENTS), whale)
    assert found.problems == ()
