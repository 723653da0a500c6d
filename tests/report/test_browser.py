"""The page in a browser: sort, filter, columns, values on hover, methods to hide, dark mode, phone, print, keyboard.

Skipped without Playwright and a Chromium on the PATH (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.results.rows import Row
from run_folder import made, page_of, row, rows_of_method

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH: apt-get install chromium")

PHONE = {"width": 400, "height": 800}
SHEET = {"width": 965, "height": 725}  # letter, landscape, less margins of 12 mm, at 96 pixels per inch; A4 is wider
MARKUP = "<img src=x onerror=document.title='run'>\"'"
NAMES = [
    "<script>document.title='run'</script>",
    MARKUP,
    "x" * 300,
    "שיטה-א (t=1)",
    "طريقة 2",
    "a & b &lt;c&gt;",
    "\u202eevil\x00\x1b[31m",
    "constructor",
    "__proto__",
]


class Opened:
    """A page in a browser, with the messages of its console and the addresses that it requested."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def heads(self, table: int = 0) -> Any:
        """Return the heads of a table."""
        return self.page.locator("table").nth(table).locator("thead th")

    def column(self, index: int) -> list[str]:
        """Return the texts of a column of the board."""
        return self.page.locator("table").first.locator(f"tbody tr > :nth-child({index + 1})").all_inner_texts()

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without network."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three methods and six seeds; one of them has failed."""
    seeds = range(6)
    rows = [*rows_of_method("deep", -20, seeds), *rows_of_method("swe", 1, seeds), *rows_of_method("fge(t=10)", 0.5, seeds)]
    rows += [replace(one, method="broken", value=None, status="failed") for one in rows_of_method("swe", 1, seeds)]
    folder = made(tmp_path_factory.mktemp("browser") / "run", rows)
    written = folder / "report.html"
    written.write_text(page_of(folder, with_differences=True), encoding="utf-8")
    return written


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Opened]:
    """The page in a window as wide as a laptop's. Afterwards: nothing on the console, and no request but the page itself."""
    shown = Opened(browser, path, viewport={"width": 1280, "height": 900})
    yield shown
    assert shown.messages == []
    assert shown.requests == [path.as_uri()]
    shown.context.close()


def test_sorting_by_clicks(opened: Opened) -> None:
    """The first click puts the best first, the second the worst, the third restores the order. Failed entries come last."""
    original = opened.column(0)
    assert original == ["deep", "swe", "fge(t=10)", "broken"]
    head = opened.heads().nth(3)
    assert "ensemble_accuracy (%) ↑" in head.inner_text().replace("\n", "").replace("\u00a0", " ")
    for expected, order in (
        (["swe", "fge(t=10)", "deep", "broken"], "descending"),
        (["deep", "fge(t=10)", "swe", "broken"], "ascending"),
        (original, None),
    ):
        head.click()
        assert opened.column(0) == expected
        assert head.get_attribute("aria-sort") == order


def test_sorting_by_numbers(opened: Opened) -> None:
    """Negative numbers are ordered as numbers, not as texts."""
    opened.heads().nth(1).click()
    assert [text.split()[0] for text in opened.column(1)] == ["10.17", "9.67", "-10.83", "failed"]


def test_sorting_by_keyboard(opened: Opened) -> None:
    """The heads are reached with Tab and sort with Enter; the focus is visible."""
    opened.page.get_by_label("Filter methods").first.focus()
    for _ in range(3):
        opened.page.keyboard.press("Tab")  # the choice of columns, the table's box, the first head
    opened.page.keyboard.press("Enter")
    assert opened.heads().first.get_attribute("aria-sort") == "ascending"
    assert opened.column(0) == ["broken", "deep", "fge(t=10)", "swe"]
    assert opened.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_filter(opened: Opened) -> None:
    """It shows the methods whose name has the text, and says how many those are."""
    opened.page.get_by_label("Filter methods").first.fill("fge(")
    assert opened.column(0) == ["fge(t=10)"]
    assert opened.page.locator("output.count").first.inner_text() == "1 of 4 methods"
    opened.page.get_by_label("Filter methods").first.fill("")
    assert len(opened.column(0)) == 4


@pytest.mark.parametrize(("text", "found"), [("bdi", 0), ("strong", 0), ("DEEP", 1), ("10 f", 1), ("93", 0)])
def test_filter_reads_names_alone(opened: Opened, text: str, found: int) -> None:
    """Neither the markup of a cell nor a number of another column counts; case and the order of words do not matter."""
    opened.page.get_by_label("Filter methods").first.fill(text)
    assert opened.page.locator("output.count").first.inner_text() == f"{found} of 4 methods"


def test_choice_of_columns(opened: Opened) -> None:
    """A metric can be left out and brought back; the name of the method stays."""
    count = opened.heads().count()
    opened.page.get_by_text("Columns", exact=True).first.click()
    box = opened.page.locator(".tools").first.get_by_label("joint_connectivity")
    box.uncheck()
    assert opened.heads().count() == count - 1
    assert not any("joint" in text for text in opened.heads().all_inner_texts())
    opened.page.locator(".tools").first.get_by_role("button", name="none").click()
    assert opened.heads().all_inner_texts() == ["method"]
    opened.page.locator(".tools").first.get_by_role("button", name="all").click()
    assert opened.heads().count() == count


def test_value_under_the_pointer(opened: Opened) -> None:
    """Over a point of a figure, a box says the method and both coordinates with their errors."""
    figure = opened.page.locator("svg[id^=accuracy_connectivity]")
    figure.scroll_into_view_if_needed()
    line = figure.evaluate("svg => `${svg.id}-${JSON.parse(svg.dataset.marks).series[2].ids[0]}`")
    box = figure.locator(f"[id='{line}'] use").bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    text = opened.page.locator(".tip").inner_text()
    assert re.fullmatch(
        r"fge\(t=10\)\nEnsemble accuracy \(%\): 29\.67 ± 9\.\d+\nJoint connectivity \(%\): 9\.667 ± 9\.\d+", text
    )
    opened.page.mouse.move(1, 1)
    assert not opened.page.locator(".tip").is_visible()


def test_values_by_keyboard(opened: Opened) -> None:
    """The arrow keys go from value to value, which are shown and spoken; Escape hides them."""
    opened.page.locator(".plot", has=opened.page.locator("svg[id^=pairwise_curves]")).focus()
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.locator(".tip").inner_text() == "deep\nTest accuracy (%): 72.5\nWeight of the second member, λ: 0"
    opened.page.keyboard.press("ArrowRight")
    assert "λ: 0.5" in opened.page.locator(".tip").inner_text()
    spoken = opened.page.locator("output.spoken").first
    assert spoken.inner_text().startswith("deep, Test accuracy (%): ")
    assert spoken.get_attribute("aria-live") == "polite"
    opened.page.keyboard.press("End")
    assert opened.page.locator(".tip").inner_text().startswith("fge(t=10)\n")
    opened.page.keyboard.press("Escape")
    assert not opened.page.locator(".tip").is_visible()


def test_hidden_method(opened: Opened) -> None:
    """A method that is hidden in one figure is hidden in all, has no values there, and can be shown again."""
    button = opened.page.get_by_role("button", name="deep", exact=True)
    assert button.count() == 2
    curves = opened.page.locator("svg[id^=pairwise_curves]")
    accuracy = opened.page.locator("svg[id^=accuracy_connectivity]")
    button.first.click()
    assert [button.nth(index).get_attribute("aria-pressed") for index in (0, 1)] == ["false", "false"]
    assert curves.locator(".off").count() > 0
    assert accuracy.locator(".off").count() > 0
    assert not curves.locator(".off").first.is_visible()
    opened.page.locator(".plot").first.focus()
    opened.page.keyboard.press("Home")
    assert opened.page.locator(".tip").inner_text().startswith("swe\n")
    button.last.click()
    assert opened.page.locator(".off").count() == 0


def test_dark_mode(browser: Any, path: Path) -> None:
    """Ground and letters change places, also in the figures."""
    shown = Opened(browser, path, color_scheme="dark")
    colors = shown.page.evaluate("(({backgroundColor, color}) => [backgroundColor, color])(getComputedStyle(document.body))")
    assert colors == ["rgb(18, 18, 18)", "rgb(230, 230, 230)"]
    assert "invert" in shown.page.locator(".plot svg").first.evaluate("svg => getComputedStyle(svg).filter")
    shown.page.emulate_media(media="print")
    assert shown.page.evaluate("getComputedStyle(document.body).color") == "rgb(34, 34, 34)"
    shown.context.close()


def test_reduced_motion(browser: Any, path: Path) -> None:
    """Nothing moves for readers who want less motion."""
    durations = []
    for motion in ("no-preference", "reduce"):
        shown = Opened(browser, path, reduced_motion=motion)
        durations.append(shown.page.locator(".tip").evaluate("tip => getComputedStyle(tip).transitionDuration.split(', ')[0]"))
        shown.context.close()
    assert durations == ["0.06s", "0s"]


def test_phone(browser: Any, path: Path) -> None:
    """The page is as wide as the screen. A wide table scrolls in its box, below its head and beside its first column."""
    shown = Opened(browser, path, viewport=PHONE)
    assert shown.overflow() == 0
    box = shown.page.locator(".scroll").first
    first = shown.page.locator("table").first.locator("tbody th").first
    before = first.bounding_box()["x"]
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    box.evaluate("box => { box.scrollLeft = 150; }")
    assert box.evaluate("box => box.scrollLeft") == 150
    assert first.bounding_box()["x"] == before
    shown.context.close()


def test_print(browser: Any, path: Path, tmp_path: Path) -> None:
    """Every column lies on the sheet, and there are no controls."""
    shown = Opened(browser, path, viewport=SHEET)
    shown.page.emulate_media(media="print")
    assert shown.overflow() <= 0
    for index in range(shown.heads().count()):
        box = shown.heads().nth(index).bounding_box()
        assert box["x"] + box["width"] <= SHEET["width"] + 1
    assert not shown.page.locator(".tools").first.is_visible()
    assert not shown.page.locator(".series").first.is_visible()
    assert shown.page.pdf(path=tmp_path / "page.pdf", prefer_css_page_size=True).startswith(b"%PDF")
    shown.context.close()


def test_many_columns_in_print(browser: Any, tmp_path: Path) -> None:
    """Thirty metrics fit the sheet in small letters."""
    rows = []
    for number in range(30):
        rows += [row("deep", seed, 90.0 + seed, f"metric_with_a_name_{number}") for seed in (0, 1)]
    shown = Opened(browser, written(tmp_path, rows), viewport=SHEET)
    shown.page.emulate_media(media="print")
    last = shown.heads().last.bounding_box()
    assert last["x"] + last["width"] <= SHEET["width"] + 1
    shown.context.close()


def test_without_scripts(browser: Any, path: Path) -> None:
    """Board and pictures are there; there are no controls that would do nothing."""
    shown = Opened(browser, path, java_script_enabled=False)
    assert shown.page.locator("table").first.is_visible()
    assert shown.page.locator("svg").first.is_visible()
    assert shown.page.locator("button").count() == 0
    shown.context.close()


def written(folder: Path, rows: list[Row], **changes: Any) -> Path:
    """Write the page of a run with these rows, and return its path."""
    page = folder / "page.html"
    page.write_text(page_of(made(folder / "run", rows, **changes), with_differences=True), encoding="utf-8")
    return page


def hostile_rows() -> list[Row]:
    """Return rows with markup, long names, other scripts and invisible characters in every name."""
    rows = []
    for shift, name in enumerate(NAMES):
        rows += [replace(one, benchmark=MARKUP, dataset=NAMES[0], architecture=NAMES[2]) for one in rows_of_method(name, shift)]
    odd = [replace(one, metric=name, title=name) for one in rows[:3] for name in NAMES if one.metric == "ensemble_accuracy"]
    failed = replace(rows[0], method="bad", seed=0, value=None, status="failed", message=MARKUP)
    return [*rows, *odd, failed]


def test_hostile_names(browser: Any, tmp_path: Path) -> None:
    """Nothing of them is executed, at no step of the interaction, and the page is as wide as a phone's screen."""
    path = written(tmp_path, hostile_rows(), facts={"status": "done", "benchmark": {"name": MARKUP, "description": NAMES[2]}})
    shown = Opened(browser, path, viewport=PHONE)
    title = shown.page.title()
    assert shown.overflow() == 0
    shown.page.get_by_label("Filter methods").first.fill("script")
    assert shown.column(0) == [NAMES[0]]
    for part in ("&lt;c&gt;", "a & b"):
        shown.page.get_by_label("Filter methods").first.fill(part)
        assert shown.column(0) == [NAMES[5]]
    shown.page.get_by_label("Filter methods").first.fill("")
    shown.heads().first.click()
    shown.page.get_by_text("Columns", exact=True).first.click()
    for button in shown.page.locator(".series").first.get_by_role("button").all():
        button.click()
    shown.page.get_by_role("button", name="all", exact=True).last.click()
    plot = shown.page.locator(".plot").first
    plot.focus()
    for _ in range(5):
        shown.page.keyboard.press("ArrowRight")
    assert shown.page.locator(".tip").is_visible()
    assert shown.page.locator("img").count() == 0
    assert shown.page.title() == title
    assert shown.overflow() == 0
    assert (shown.messages, shown.requests) == ([], [path.as_uri()])
    shown.context.close()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("deep")],
        [row("deep", seed, float("nan")) for seed in (0, 1)],
        [row("deep", value=None, status="failed", message="no")],
        [row("deep", seed, value) for seed, value in enumerate((float("inf"), -1e308, 1e-300))],
    ],
    ids=["no rows", "one seed", "nan everywhere", "nothing but failures", "numbers beyond axes"],
)
def test_runs_with_little_to_show(browser: Any, tmp_path: Path, rows: list[Row]) -> None:
    """The page opens without an error on the console."""
    shown = Opened(browser, written(tmp_path, rows, facts=None, events=None), viewport=PHONE)
    assert shown.overflow() == 0
    assert shown.messages == []
    shown.context.close()


def test_many_methods(browser: Any, tmp_path: Path) -> None:
    """200 methods with 20 seeds open within a second, and the file is below 2 MB."""
    rows = []
    for number in range(200):
        for metric in ("ensemble_accuracy", "joint_connectivity", "brier_score"):
            rows += [row(f"method_{number}", seed, number % 17 + 0.1 * seed, metric) for seed in range(20)]
    path = written(tmp_path, rows)
    assert path.stat().st_size < 2_000_000
    times = []
    for _ in range(3):
        shown = Opened(browser, path)
        times.append(shown.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        shown.context.close()
    assert min(times) < 1000


@pytest.mark.skipif("AXE_CORE" not in os.environ, reason="AXE_CORE names no axe.min.js (npm pack axe-core)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser: Any, path: Path, scheme: str) -> None:
    """axe finds no violation, also with everything unfolded."""
    shown = Opened(browser, path, color_scheme=scheme, bypass_csp=True)
    shown.page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    shown.page.add_script_tag(path=os.environ["AXE_CORE"])
    found = shown.page.evaluate("axe.run().then(result => result.violations)")
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found] == []
    shown.context.close()
