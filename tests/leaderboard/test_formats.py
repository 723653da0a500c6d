"""A board as HTML, LaTeX, CSV and JSON."""

from __future__ import annotations

import json
import math

import pytest

from harness.errors import UserError
from harness.leaderboard import render
from leaderboard.html_and_markdown import parse_html
from leaderboard.rows_and_boards import board_of, row, seed_rows


def test_html_classes():
    """Cells have classes for the best, failed and incomplete entries; the best is `<strong>`."""
    rows = [
        *seed_rows("deep", 94.0, 95.0, 94.0, 95.0, 94.0, 95.0),
        *seed_rows("swe", 84.0, 84.0, 84.0, 85.0, 85.0, 85.0),
        *seed_rows("lost", None, None),
        row("mine", value=99.0),
    ]
    text = render(board_of(rows, letters=True), "html")
    assert '<td class="done best"><strong>94.50 ± 0.55</strong> <sup>a</sup></td>' in text
    assert '<td class="done">84.50 ± 0.55 <sup>b</sup></td>' in text
    assert '<td class="failed">failed</td>' in text
    assert '<td class="incomplete">99.00 (1/6)</td>' in text
    assert '<th scope="row">deep</th>' in text
    assert parse_html(text).classes[:2] == ["leaderboard", "board"]


def test_the_whole_latex_of_a_small_board():
    """The table uses booktabs, and numbers have minus signs."""
    rows = [row(metric="q", value=-71.74), row("swe", metric="q", value=None, message="out of memory")]
    assert render(board_of(rows), "latex").split("\n") == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\sloppy",
        r"\caption{paper: cifar10, resnet20. M = 5. One seed (0), so no spread. No best is marked below 6 seeds.}",
        r"\smallskip",
        r"\begin{tabular}{@{}lr@{}}",
        r"\toprule",
        r"Method & q (\%) $\uparrow$ \\",
        r"\midrule",
        r"deep & $-$71.74 \\",
        r"swe & failed \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip{\footnotesize\raggedright seed 0 of swe: failed: out of memory\par}",
        r"\end{table}",
        "",
    ]


def test_the_tidy_csv():
    """The file has one line per entry; numbers have all digits, and a field without a number is empty."""
    rows = [*seed_rows("deep", 94.0, 95.0), row("swe", 0, 0.1 + 0.2), row("swe", 1, None), *seed_rows("permuted", None, None)]
    assert render(board_of(rows), "csv").split("\n") == [
        "benchmark,dataset,architecture,method,metric,mean,std,n,expected,best,status,warning",
        "paper,cifar10,resnet20,deep,ensemble_accuracy,94.5,0.7071067811865476,2,2,false,done,",
        "paper,cifar10,resnet20,swe,ensemble_accuracy,0.30000000000000004,,1,2,false,incomplete,",
        "paper,cifar10,resnet20,permuted,ensemble_accuracy,,,0,2,false,failed,",
        "",
    ]


def test_the_nested_json():
    """It nests entries in methods in tables; NaN is null, since JSON lacks it, and the status says so."""
    rows = [*seed_rows("deep", 94.0, math.nan), *seed_rows("swe", 1.0, None, message="diverged")]
    assert json.loads(render(board_of(rows), "json")) == {
        "tables": [
            {
                "benchmark": "paper",
                "dataset": "cifar10",
                "architecture": "resnet20",
                "seeds": [0, 1],
                "ddof": 1,
                "columns": [
                    {
                        "metric": "ensemble_accuracy",
                        "unit": "percent",
                        "better": "higher",
                        "version": "ensemble_accuracy@1",
                        "title": "",
                        "symbol": "",
                    }
                ],
                "methods": [
                    {
                        "name": "deep",
                        "members": 5,
                        "options": "{}",
                        "entries": [
                            {
                                "method": "deep",
                                "metric": "ensemble_accuracy",
                                "mean": None,
                                "std": None,
                                "n": 2,
                                "expected": 2,
                                "status": "nan",
                                "best": False,
                                "warnings": [],
                                "letters": "",
                                "text": "nan †",
                            }
                        ],
                    },
                    {
                        "name": "swe",
                        "members": 5,
                        "options": "{}",
                        "entries": [
                            {
                                "method": "swe",
                                "metric": "ensemble_accuracy",
                                "mean": 1.0,
                                "std": None,
                                "n": 1,
                                "expected": 2,
                                "status": "incomplete",
                                "best": False,
                                "warnings": [],
                                "letters": "",
                                "text": "1.00 (1/2)",
                            }
                        ],
                    },
                ],
                "problems": [
                    {"method": "deep", "seeds": [1], "metrics": [], "message": "the value is nan"},
                    {"method": "swe", "seeds": [1], "metrics": [], "message": "failed: diverged"},
                ],
                "warnings": [],
            }
        ]
    }


def test_an_unknown_format():
    """The error suggests the nearest one."""
    with pytest.raises(UserError) as error:
        render(board_of([row()]), "markdwon")
    assert str(error.value) == "unknown format 'markdwon'; did you mean 'markdown'? known: csv, html, json, latex, markdown"
