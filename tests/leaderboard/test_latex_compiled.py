"""Boards compiled with pdfLaTeX: they fit the text width of `article` and need booktabs alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.leaderboard import PaperOptions, read_reference, render
from harness.leaderboard import compare as compare_with
from harness.results.rows import Row
from leaderboard.rows_and_boards import PAPER, board_of, row

METHODS = ("deep", "swe", "constrained", "permuted", "multi_permuted", "distilled", "distilled_deep")
METRICS = {
    "ensemble_accuracy": ("percent", "higher", "Accuracy", "Acc", 95.0),
    "mean_member_accuracy": ("percent", "higher", "Member accuracy", "Acc₁", 93.0),
    "joint_connectivity": ("percent", "higher", "Connectivity", "q̄", -71.0),
    "negative_log_likelihood": ("nats", "lower", "Log-likelihood loss", "NLL", 0.2),
    "training_epochs": ("epochs", "", "Training", "Training", 550.0),
    "expected_calibration_error": ("", "lower", "Calibration error", "ECE", 0.01),
    "metric_of_a_third_party_without_a_title": ("", "higher", "", "", 12345.678),
}
HOSTILE = (
    "x" * 300,
    "学習" * 40,
    "a_b" * 60,
    r"\input{secret} $x$ #1 & 50% ~^{}[3em]",
    "Größe–naïve 'q̄' \"λ\" β",
)


def rows_of(datasets: Sequence[str], methods: Sequence[str], metrics: int, seeds: int = 7) -> list[Row]:
    """Return rows of the first metrics, with values that differ between methods."""
    rows = []
    for dataset in datasets:
        for number, method in enumerate(methods):
            for metric, (unit, better, title, symbol, base) in list(METRICS.items())[:metrics]:
                for seed in range(seeds):
                    value = base * (1 + 0.001 * number + 0.0005 * ((seed * 7 + number) % 5))
                    changes = {"unit": unit, "better": better, "title": title, "symbol": symbol, "dataset": dataset}
                    rows.append(row(method, seed, value, metric, **changes))
    return rows


def compile_in(folder: Path, sources: Sequence[str], options: str = "") -> tuple[str, int]:
    """Compile an article with some tables; return the log and the number of pages."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-base, texlive-latex-recommended)")
    body = "\n\\clearpage\n".join(sources)
    document = (
        f"\\documentclass{options}{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    (folder / "paper.tex").write_text(document, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    log = (folder / "paper.log").read_text(encoding="latin-1")
    assert done.returncode == 0, log[-2000:]
    found = re.search(r"\((\d+) pages?,", log)
    assert found is not None, log[-2000:]
    return log, int(found[1])


def assert_fits(log: str) -> None:
    """Assert that no box is too wide or too high, and no float too large."""
    assert re.findall(r"(?:Overfull|Float too large).*", log) == []


def test_boards_of_all_shapes(tmp_path: Path) -> None:
    """One or three data sets, few or all metrics, two, seven or fifty methods, with and without spread: none is too wide."""
    sources = []
    for datasets in (("cifar10",), ("cifar10", "cifar100", "tiny_imagenet")):
        for methods in (METHODS[:2], METHODS, tuple(f"method_number_{n}" for n in range(50))):
            for metrics in (1, 3, 7):
                board = board_of(rows_of(datasets, methods, metrics))
                sources.append(render(board, "latex"))
                sources.append(render(board, "latex", PaperOptions(std=False, digits=1, caption="Ours.", label="tab:ours")))
    log, _ = compile_in(tmp_path, sources)
    assert_fits(log)


def test_wide_tables(tmp_path: Path) -> None:
    """A `table*` fits both columns of a two-column article."""
    board = board_of(rows_of(("cifar10", "cifar100"), METHODS, 4))
    log, _ = compile_in(tmp_path, [render(board, "latex", PaperOptions(wide=True))], "[twocolumn,a4paper]")
    assert_fits(log)


def test_hostile_names_compiled(tmp_path: Path) -> None:
    """Names of 300 letters, in other scripts, and with LaTeX's special characters are printed within the text width."""
    rows = []
    for name in HOSTILE:
        rows += [row(name), row(name, metric=name[:100], unit=name[:100]), row(name, 1, None, message=name)]
        rows.append(row("deep", dataset=name, benchmark="b", architecture=name))
    log, _ = compile_in(tmp_path, [render(board_of([*rows, row("deep")]), "latex")])
    assert_fits(log)


def test_letters_and_comparison_compiled(tmp_path: Path) -> None:
    """Letters, and a comparison with published numbers, fit too."""
    lettered = board_of(rows_of(("cifar10",), METHODS, 4), letters=True)
    compared = compare_with(board_of(rows_of(("cifar10",), METHODS, 3)), read_reference(PAPER))
    log, _ = compile_in(tmp_path, [render(lettered, "latex"), render(compared, "latex")])
    assert_fits(log)
