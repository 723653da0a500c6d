"""Figures for papers: formats, exact sizes, embedded fonts, reproducible bytes, and options that are refused."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.report import report
from harness.errors import UserError
from harness.report import PrintStyle, check_font, parse_width, write_figures
from harness.report.figures import DrawnFigure
from run_folder import figures_of, made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run."""
    return made(tmp_path_factory.mktemp("print") / "run")


@pytest.fixture(scope="module")
def figure(folder: Path) -> DrawnFigure:
    """A figure of that run."""
    return next(figure for figure in figures_of(folder) if figure.name.startswith("accuracy_connectivity"))


def run(*arguments: str | Path) -> str:
    """Return what the command prints. A `UserError` is raised, as the command group expects it."""
    result = CliRunner().invoke(report, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_chosen_formats(folder: Path, tmp_path: Path) -> None:
    """Only these files are written, and the command says so."""
    figures = tmp_path / "figures"
    output = run(folder, "--out", tmp_path / "page.html", "--figures", figures, "--format", "pdf", "--format", "svg")
    assert re.search(r"figures: \d in .*, each as PDF and SVG\n", output)
    assert {path.suffix for path in figures.iterdir()} == {".pdf", ".svg"}


@pytest.mark.parametrize(("width", "inches"), [("3.25in", 3.25), ("8.255cm", 3.25), ("82.55 mm", 3.25), ("234.8775pt", 3.25)])
def test_width_in_every_format(figure: DrawnFigure, tmp_path: Path, width: str, inches: float) -> None:
    """PNG, SVG and PDF have exactly this width; `pt` is TeX's point."""
    style = PrintStyle(parse_width(width))
    assert style.width == pytest.approx(inches)
    png, svg, pdf = write_figures([figure], tmp_path, ("png", "svg", "pdf"), style)
    pixels = struct.unpack(">II", png.read_bytes()[16:24])[0]
    assert pixels == round(200 * inches)
    found = re.search(r'<svg [^>]*width="([0-9.]+)pt"', svg.read_text())
    assert found is not None
    assert float(found[1]) == pytest.approx(72 * inches)
    box = re.search(rb"/MediaBox\s*\[\s*0 0 ([0-9.]+) ([0-9.]+)\s*\]", pdf.read_bytes())
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * inches)


@pytest.mark.parametrize("font", ["", "serif", "monospace", "DejaVu Sans"])
def test_fonts_of_a_pdf(figure: DrawnFigure, tmp_path: Path, font: str) -> None:
    """They are embedded as TrueType; none is of type 3, which publishers refuse."""
    (pdf,) = write_figures([figure], tmp_path, ("pdf",), PrintStyle(3.25, font))
    content = pdf.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    if font == "serif":
        assert b"DejaVuSerif" in content


def test_same_bytes(figure: DrawnFigure, tmp_path: Path) -> None:
    """Writing twice gives the same files, without times and versions."""
    style = PrintStyle(3.25, "serif")
    first = write_figures([figure], tmp_path / "a", ("pdf", "svg", "png"), style)
    second = write_figures([figure], tmp_path / "b", ("pdf", "svg", "png"), style)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"CreationDate" not in first[0].read_bytes()


def test_every_figure_of_a_run_in_a_column(folder: Path, tmp_path: Path) -> None:
    """All of them can be drawn narrow, and high enough for their legend."""
    written = write_figures(figures_of(folder), tmp_path, ("png",), PrintStyle(1.5))
    for path in written:
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert width == 300
        assert height > 0.5 * width


@pytest.mark.parametrize("text", ["3.25", "in", "", "3,25in", "-3in", "nanin", "infin", "3 feet", "3.25 in wide", "1e3in"])
def test_width_without_a_unit_or_number(text: str) -> None:
    """The message shows how to write it."""
    expected = rf"^--width: {re.escape(repr(text))} is no width; write a number with a unit: 3.25in, 8.2cm, 82mm or 234.8pt$"
    with pytest.raises(UserError, match=expected):
        parse_width(text)


@pytest.mark.parametrize(
    ("text", "inches"), [("0in", "0"), ("1mm", "0.03937"), ("1000in", "1000"), ("99999999cm", "3.937e\\+07")]
)
def test_width_out_of_range(text: str, inches: str) -> None:
    """The message has the limits."""
    with pytest.raises(UserError, match=rf"^--width: {text} is {inches} inches; from 1.5 to 60 are allowed$"):
        parse_width(text)


def test_font_that_is_not_installed() -> None:
    """The message suggests one, and lists known ones."""
    with pytest.raises(
        UserError, match=r"^--font: no font 'DejaVu Serrif' is installed; did you mean 'DejaVu Serif'\? known: "
    ):
        check_font("DejaVu Serrif")
    with pytest.raises(UserError, match=r"^--font: no font '\$\{x\} y' is installed; (did you mean .*\? )?known: .*serif"):
        check_font("${x}\ny")


def test_name_of_a_font_in_other_letters() -> None:
    """Case does not count."""
    assert check_font("dejavu sans mono") == "DejaVu Sans Mono"


@pytest.mark.parametrize(("option", "value"), [("--format", "pdf"), ("--width", "3in"), ("--font", "serif")])
def test_option_without_figures(folder: Path, option: str, value: str) -> None:
    """The message names the option that it needs."""
    with pytest.raises(UserError, match=rf"^{option}: it is for figures as files; add --figures FOLDER$"):
        run(folder, option, value)


def test_unknown_format(folder: Path, tmp_path: Path) -> None:
    """The message lists the known ones."""
    result = CliRunner().invoke(report, [str(folder), "--figures", str(tmp_path), "--format", "gif"])
    assert result.exit_code == 2
    assert "'gif' is not one of 'pdf', 'svg', 'png'" in result.output
