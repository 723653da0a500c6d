"""`harness report`: its files, its output, and what it imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.report import report
from harness.errors import UserError
from run_folder import PLAIN, Page, made, page_of, row

EXAMPLE = Path(__file__).resolve().parents[1] / "example_plugin" / "src" / "basin_example" / "__init__.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete run."""
    return made(tmp_path / "run")


def run(*arguments: str | Path) -> str:
    """Return what the command prints. A `UserError` is raised, as the command group expects it."""
    result = CliRunner().invoke(report, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_page(folder: Path) -> None:
    """The command writes the page to the run's folder and prints its path."""
    assert run(folder) == f"page: {folder / 'report.html'}\n"
    assert (folder / "report.html").read_text(encoding="utf-8") == page_of(folder, with_differences=True)


def test_published_bundle(folder: Path, tmp_path: Path) -> None:
    """The page of a bundle has a digest, so a new one needs a name of its own."""
    for name in ("digests.json", "benchmark.json", "report.html"):
        (folder / name).write_text("{}")
    with pytest.raises(UserError) as error:
        run(folder)
    expected = f"{folder}: is a published bundle, whose report.html must not change; name the new page with --out FILE"
    assert str(error.value) == expected
    assert (folder / "report.html").read_text() == "{}"
    assert run(folder, "--out", tmp_path / "page.html") == f"page: {tmp_path / 'page.html'}\n"


def test_figures(folder: Path, tmp_path: Path) -> None:
    """The command creates a folder with a PNG, an SVG and a CSV of each figure."""
    figures = tmp_path / "new" / "figures"
    page = tmp_path / "page.html"
    output = run(folder, "--out", page, "--figures", figures)
    assert output == f"page: {page}\nfigures: 4 in {figures}, each as PNG, SVG and CSV\n"
    names = ["accuracy_connectivity", "pairwise_barriers", "pairwise_curves", "training_curves"]
    expected = [f"{name}-cifar10-resnet20.{ending}" for name in names for ending in ("csv", "png", "svg")]
    assert sorted(path.name for path in figures.iterdir()) == expected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures.glob("*.png"))
    assert not (folder / "report.html").exists()


def test_letters(tmp_path: Path) -> None:
    """With the option, entries have the letters of their groups, as on the board."""
    rows = []
    for seed in range(6):
        rows += [row("deep", seed, 90 + 0.1 * seed), row("swe", seed, 95 - 0.1 * seed)]
    folder = made(tmp_path / "run", rows)
    run(folder, "--letters")
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert [line[1] for line in page.tables[0][1:]] == ["90.25 ± 0.19 b", "94.75 ± 0.19 a"]


def test_paths_that_cannot_be_written(folder: Path) -> None:
    """The error names the path."""
    with pytest.raises(UserError, match=r"page\.html: cannot be written: "):
        run(folder, "--out", folder / "nowhere" / "page.html")
    with pytest.raises(UserError, match=r"results\.csv: cannot be made: File exists; name another folder$"):
        run(folder, "--figures", folder / "results.csv")


def test_same_files_in_two_processes(folder: Path, tmp_path: Path) -> None:
    """Page and figures have the same bytes, whatever the hash seed, the time zone and the user's matplotlibrc."""
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\nsvg.hashsalt: other\n")
    environments = ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")})
    outputs = []
    for turn, extra in enumerate(environments):
        out = tmp_path / str(turn)
        out.mkdir()
        arguments = [str(folder), "--out", str(out / "page.html"), "--figures", str(out / "figures")]
        code = f"from harness.cli.report import report; report({arguments!r})"
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **extra, "TZ": f"UTC{turn}"}, check=True, capture_output=True
        )
        outputs.append({path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*.*"))})
    assert len(outputs[0]) == 13
    assert outputs[0] == outputs[1]


def test_without_torch(folder: Path) -> None:
    """The command imports neither torch nor the modules that train."""
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom harness.cli.report import report\n"
        f"report([{str(folder)!r}], standalone_mode=False)\n"
        "sys.exit(' '.join({'harness.execution.worker', 'harness.plan.graph', 'timm'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


ODD = """
import harness


class Odd(harness.Figure):
    name = "odd"

    def draw(self, data):
        return data.table.color


@harness.hookimpl
def register_figures(register):
    register(Odd)
"""


def install(site: Path, distribution: str, module: str, source: str) -> None:
    """Write a distribution with one plugin module to a folder."""
    info = site / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[harness]\n{module} = {module}\n")
    (site / f"{module}.py").write_text(source)


def report_with(site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that also finds the distributions of the folder `site`."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "harness", "report", str(folder)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)


def test_figure_of_a_third_party(tmp_path: Path) -> None:
    """The page shows the example plugin's figure, with title, data and alternative text."""
    install(tmp_path / "site", "basin-example", "basin_example", EXAMPLE.read_text(encoding="utf-8"))
    rows = [*PLAIN, row("deep", 0, 4.0, "weight_spread"), row("deep", 1, 6.0, "weight_spread")]
    folder = made(tmp_path / "run", rows)
    done = report_with(tmp_path / "site", folder)
    assert (done.returncode, done.stderr) == (0, "")
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert "Spread by method. Mean over seeds." in page.text
    assert [["method", "weight_spread"], ["deep", "5"]] in page.tables
    assert page.pictures() == [
        "Accuracy between two members",
        "Accuracy against connectivity",
        "Spread by method",
        "Barriers between pairs of members",
        "2 trainings",
    ]


def test_figure_that_fails(tmp_path: Path) -> None:
    """Page and standard error name figure, plugin, distribution and reason; the other figures are drawn."""
    install(tmp_path / "site", "odd-dist", "odd_module", ODD)
    folder = made(tmp_path / "run")
    done = report_with(tmp_path / "site", folder)
    message = (
        "figure 'odd' of plugin 'odd_module' of distribution 'odd-dist 1.0' is left out: "
        "AttributeError: 'Table' object has no attribute 'color' (odd_module.py:9)"
    )
    assert (done.returncode, done.stderr) == (0, f"warning: {message}\n")
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert message in page.text
    assert [tag for tag, _ in page.tags].count("svg") == 4


def test_figures_of_a_disabled_plugin(folder: Path) -> None:
    """The page has board, training curves, provenance and figures of other plugins."""
    command = [sys.executable, "-m", "harness", "report", str(folder)]
    environment = {**os.environ, "HARNESS_DISABLED_PLUGINS": "basin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.pictures() == ["Barriers between pairs of members", "2 trainings"]
