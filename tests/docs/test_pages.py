"""The pages agree with the code: links, method cards, costs, quoted messages, versions."""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.benchmark import load_benchmark
from harness.plan.planner import plan
from harness.registry.catalogue import Registration, load_catalogue

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
METHODS = DOCS / "methods"
QUICKSTART = ROOT / "benchmarks" / "quickstart.yaml"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
CARDS = sorted(path for path in METHODS.glob("*.md") if path.name != "README.md")
CATALOGUE = load_catalogue()

FENCE = re.compile(r"^( *)(```+|~~~+)[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")
PLACEHOLDER_OR_PUNCTUATION = re.compile(r"<[^<>]*>|[;:,(] ")
SHORTEST_FRAGMENT = 12
"""Fragments of a quoted message with fewer characters occur in the code by chance."""


def relative(path: Path) -> str:
    """Return a path below the root of the repository, as a test's name."""
    return path.relative_to(ROOT).as_posix()


def links(page: Path) -> list[str]:
    """Return the targets of a page's links to files and headings. Code has no links."""
    text = INLINE_CODE.sub("code", FENCE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\[\]]*)\]\([^()]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        anchor = slug
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{slug}-{number}"
        found.add(anchor)
    return found


def problem_of_link(page: Path, target: str) -> str:
    """Return what is wrong with a link, or nothing."""
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    if file.is_dir():
        file = file / "README.md"
    if not file.is_file():
        return f"{target}: no such file"
    if anchor and anchor not in anchors(file):
        return f"{target}: no such heading"
    return ""


def built_in_methods() -> list[Registration]:
    """Return the methods that this distribution registers; there are some."""
    found = []
    for registration in CATALOGUE.in_order("ensemble_builder"):
        if registration.source.distribution.startswith("basin-harness "):
            found.append(registration)
    assert found
    return found


def table_rows(page: Path) -> Iterator[list[str]]:
    """Yield the cells of each row of a page's tables, headers included."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def documented_options(card: Path) -> dict[str, str]:
    """Return the default of each option in a card's table, by the option's name, both without backquotes."""
    found = {}
    in_table = False
    for cells in table_rows(card):
        if cells[0] == "option":
            assert cells == ["option", "type", "default", "meaning"]
            in_table = True
        elif in_table and re.fullmatch(r"`\w+`", cells[0]):
            assert len(cells) == 4
            assert cells[1]
            assert cells[3]
            found[cells[0].strip("`")] = cells[2].strip("`")
        elif not cells[0].startswith("---"):
            in_table = False
    return found


def examples(card: Path) -> list[str]:
    """Return the YAML blocks of a card."""
    return re.findall(r"^```yaml\n(.*?)^```$", card.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def quoted_messages() -> list[str]:
    """Return the messages that the page on troubleshooting quotes; there are some."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found = [line for block in blocks for line in block.splitlines()]
    assert found
    return found


def texts_of_code() -> str:
    """Return all texts in the sources of the harness and its plugins, one per line."""
    found = []
    for folder in ("harness", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.Constant) and isinstance(node.value, bytes):
                    found.append(node.value.decode("latin-1"))
    return "\n".join(found)


def numbers(text: str) -> list[tuple[float, float]]:
    """Return the values with their spreads in a text, such as `−0.10 ± 0.10`, in order."""
    found = re.findall(r"([-−]?\d+\.\d+) ± (\d+\.\d+)", text)
    return [(float(value.replace("−", "-")), float(spread)) for value, spread in found]


def numbers_of_the_paper() -> set[tuple[float, float]]:
    """Return the values with their spreads in the file of the paper's numbers."""
    with (ROOT / "benchmarks" / "reference" / "paper.csv").open(encoding="utf-8", newline="") as file:
        return {(float(row["value"]), float(row["spread"])) for row in csv.DictReader(file) if row["spread"]}


def is_in_code(fragment: str, texts: str) -> bool:
    """Return whether a fragment of a message is a text of the code, or two texts put together at a space."""
    if fragment in texts:
        return True
    halves = [(fragment[: space.start()], fragment[space.end() :]) for space in re.finditer(" ", fragment)]
    return any(before in texts and after in texts for before, after in halves)


def planned_epochs(store: Path) -> dict[str, tuple[float, float]]:
    """Return epochs alone and new of each method of the quickstart, for ResNet20 and seed 0 on an empty store."""
    command = [sys.executable, "-m", "harness", "plan", str(QUICKSTART), "--json", "--store", str(store)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {}
    for cell in json.loads(done.stdout)["cells"]:
        if cell["architecture"] == "resnet20" and cell["seed"] == 0:
            found[cell["method"]] = (cell["epochs_alone"], cell["epochs_new"])
    return found


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_of_a_page(page: Path) -> None:
    """Each relative link names a file that is there, and a heading of it."""
    problems = [problem_of_link(page, target) for target in links(page)]
    assert [problem for problem in problems if problem] == []


def test_link_to_a_heading_that_is_not_there() -> None:
    """The check of links tells good anchors and files from bad ones."""
    page = DOCS / "index.md"
    assert links(page)
    assert problem_of_link(page, "glossary.md#joint-connectivity-q-bar") == ""
    assert problem_of_link(page, "glossary.md#joint") == "glossary.md#joint: no such heading"
    assert problem_of_link(page, "glossar.md") == "glossar.md: no such file"


def test_index_links_every_page() -> None:
    """A page that the index lacks is found by nobody."""
    index = DOCS / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert sorted(relative(page) for page in set(DOCS.rglob("*.md")) - linked - {index}) == []


@pytest.mark.parametrize("registration", built_in_methods(), ids=lambda registration: registration.name)
def test_card_of_a_method(registration: Registration) -> None:
    """Every built-in method has a card, which the table of methods links and which names all options with their defaults."""
    card = METHODS / f"{registration.name}.md"
    assert card.is_file()
    assert card.name in links(METHODS / "README.md")
    assert card.read_text(encoding="utf-8").startswith(f"# `{registration.name}`")
    defaults: dict[str, str] = {}
    for name, field in registration.cls.Options.model_fields.items():
        required = field.is_required()
        defaults[name] = "required" if required else json.dumps(field.get_default(call_default_factory=True))
    assert documented_options(card) == defaults


@pytest.mark.parametrize("card", CARDS, ids=relative)
def test_example_of_a_card(card: Path, tmp_path: Path) -> None:
    """Every YAML block on a card is a benchmark, and the card's method is in it."""
    blocks = examples(card)
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"example-{number}.yaml"
        path.write_text(block, encoding="utf-8")
        benchmark = load_benchmark(path, CATALOGUE)
        assert card.stem in {method.plugin.name for setup in benchmark.setups for method in setup.methods}


@pytest.mark.parametrize("card", CARDS, ids=relative)
def test_example_that_claims_to_be_part_of_the_quickstart(card: Path, tmp_path: Path) -> None:
    """Its members are members of the quickstart, so that nothing is trained after it."""
    if "The cells of this file are also in `benchmarks/quickstart.yaml`" not in card.read_text(encoding="utf-8"):
        pytest.skip("this card claims no such thing")
    path = tmp_path / "example.yaml"
    path.write_text(examples(card)[0], encoding="utf-8")
    known = {member.key for cell in plan(load_benchmark(QUICKSTART, CATALOGUE)).cells for member in cell.members}
    assert {member.key for cell in plan(load_benchmark(path, CATALOGUE)).cells for member in cell.members} <= known


@pytest.mark.parametrize("card", CARDS, ids=relative)
def test_numbers_on_a_card(card: Path) -> None:
    """Numbers of the quickstart are on its measured board, and numbers of the paper in the file of the paper's numbers."""
    board = (ROOT / "benchmarks" / "results" / "quickstart" / "leaderboard.md").read_text(encoding="utf-8")
    known = {"quickstart": set(numbers(board)), "paper": numbers_of_the_paper()}
    unknown = []
    for cells in table_rows(card):
        source = cells[0].partition(" ")[0].rstrip(",")
        if source in known:
            unknown += [number for number in numbers(" ".join(cells)) if number not in known[source]]
    assert unknown == []


def test_costs_in_the_table_of_methods(tmp_path: Path) -> None:
    """The table's last two columns are what `harness plan` prints for the quickstart."""
    found: dict[str, tuple[float, float]] = {}
    for cells in table_rows(METHODS / "README.md"):
        if len(cells) == 5 and cells[0].startswith("`"):
            found[cells[0].strip("`")] = (float(cells[3]), float(cells[4]))
    assert found == planned_epochs(tmp_path / "store")


def test_quoted_messages_are_those_of_the_code() -> None:
    """Every fragment of a quoted message, between placeholders and punctuation, is a text of the sources."""
    texts = texts_of_code()
    missing = []
    for message in quoted_messages():
        for fragment in PLACEHOLDER_OR_PUNCTUATION.split(message):
            words = fragment.strip(" '")
            if len(words) >= SHORTEST_FRAGMENT and not is_in_code(words, texts):
                missing.append((words, message))
    assert missing == []


def test_citation_has_the_version_and_the_license_of_the_package() -> None:
    """CITATION.cff, pyproject.toml and LICENSE agree."""
    citation: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert citation["license"] == project["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_board_of_the_readme_is_the_recorded_one() -> None:
    """Accuracy, q̄ and epochs of every method are those of the board under benchmarks/results."""
    recorded = (ROOT / "benchmarks/results/quickstart/leaderboard.md").read_text(encoding="utf-8").split("### ")[1]
    expected = {}
    for line in recorded.replace("**", "").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and "±" in line:
            expected[cells[0]] = [cells[1], cells[3], cells[4].split()[0]]
    found = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        match = re.match(r"\| \[`(\w+)`\]\(docs/methods", line)
        if match:
            found[match.group(1)] = [cell.strip() for cell in line.split("|")[3:-1]]
    assert len(found) == 7
    assert found == expected
