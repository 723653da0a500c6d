"""Verify a bundle: its digests, its board, its plan, and every metric measured again from its members."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.benchmark import LabeledPlugin
from harness.bundles.benchmark_json import labeled_plugins
from harness.bundles.bundle import Bundle, open_bundle
from harness.bundles.file_checks import file_problems
from harness.bundles.findings import Findings
from harness.bundles.layout import BENCHMARK, EXAMPLES, BundleError
from harness.bundles.member_source import place_of
from harness.bundles.row_checks import check_board, check_examples, check_members_listed, check_plan, describe
from harness.errors import UserError
from harness.registry.catalogue import Catalogue
from harness.results.examples import Examples
from harness.results.rows import Row

if TYPE_CHECKING:
    from harness.bundles.comparing import Compared
    from harness.bundles.measuring import Results


@dataclass(frozen=True)
class Verification:
    """How a bundle is verified: plugins, data root, device (`auto`, `cpu`, `cuda`), and number of worker processes.

    `say` gets lines about what is being done.
    """

    folder: Path
    catalogue: Catalogue
    data: Path
    device: str
    workers: int | None
    say: Callable[[str], None]


def verify(verification: Verification) -> Findings:
    """Return what agrees and what differs. Raise `UserError` if the folder holds no bundle, or it cannot be verified here."""
    findings = Findings()
    bundle = open_bundle(verification.folder)
    problems = file_problems(bundle.folder, bundle.digests)
    if not findings.result("digests", problems, f"{len(bundle.digests.files)} files match their digests"):
        findings.note("values", "nothing was compared, since the files are not those that were published")
        return findings
    rows = bundle.rows()
    check_board(bundle, rows, findings)
    check_examples(bundle, rows, findings)
    check_members_listed(bundle, rows, findings)
    check_plan(bundle, rows, verification.catalogue, verification.data, findings)
    if bundle.has_members:
        _measure(bundle, rows, verification, findings)
    else:
        findings.note("values", "nothing was measured again, since the bundle was published without members")
    return findings


def _measure(bundle: Bundle, rows: Sequence[Row], verification: Verification, findings: Findings) -> None:
    """Measure every metric again, and compare it with the rows."""
    from harness.bundles.comparing import RowComparison
    from harness.bundles.tolerances import same_kind
    from harness.execution.device import resolve_device
    from harness.telemetry.provenance import provenance

    device = resolve_device(verification.device)
    here = provenance()
    exact = same_kind(bundle.provenance, here, device)
    metrics = _metrics(bundle, verification.catalogue)
    from_weights = [labeled for labeled in metrics if not labeled.plugin.needs_derivations]
    try:
        results = _results(bundle, from_weights, verification, device)
    except BundleError as error:
        findings.differs("members", str(error))
        return
    findings.note("values", _manner(exact, bundle.provenance, here, device))
    comparison = RowComparison(bundle, rows, Examples(bundle.folder / EXAMPLES), exact)
    for labeled in metrics:
        if labeled not in from_weights:
            findings.note(f"values of {labeled.label}", "not compared: they are of the derivations, not of the weights")
            continue
        own = {where: result for (where, label), result in results.items() if label == labeled.label}
        _report(f"values of {labeled.label}", comparison.compare(labeled.plugin, own), findings)
    findings.result(
        "rows", _unmeasured(rows, bundle, metrics), "every measured row is of an ensemble and a metric of the bundle"
    )


def _results(bundle: Bundle, metrics: Sequence[LabeledPlugin], verification: Verification, device: str) -> Results:
    """Return what each metric measures now for each ensemble. Raise as `measure_again` does."""
    from harness.bundles.measuring import MeasuringEnvironment, measure_again

    with tempfile.TemporaryDirectory(prefix="basin-harness-verify-") as folder:
        environment = MeasuringEnvironment(
            catalogue=verification.catalogue,
            folder=Path(folder),
            data=verification.data,
            device=device,
            workers=verification.workers,
            threads=_threads(bundle.provenance),
            say=verification.say,
        )
        return measure_again(bundle, metrics, environment)


def _report(subject: str, compared: Compared, findings: Findings) -> None:
    """Add what was found for a metric."""
    findings.result(subject, compared.problems, f"{compared.values} values agree")
    if compared.unpublished:
        findings.note(subject, f"of {compared.unpublished} ensembles no value was published, though it can be measured")


def _metrics(bundle: Bundle, catalogue: Catalogue) -> tuple[LabeledPlugin, ...]:
    """Return the benchmark's metrics. Raise `UserError` if one is not installed."""
    entries = bundle.benchmark.get("metrics")
    try:
        return labeled_plugins(entries, "metric", catalogue)  # type: ignore[arg-type]  # checked by trying
    except (KeyError, TypeError, AttributeError) as error:
        path = bundle.folder / BENCHMARK
        raise UserError(f"{path}: lists no metrics ({type(error).__name__}: {error}); was it changed?") from None


def _threads(provenance: Mapping[str, Any]) -> int:
    """Return the number of CPU threads per task of the published run, on which rounding depends."""
    run = provenance.get("run")
    threads = run.get("threads") if isinstance(run, Mapping) else None
    return threads if type(threads) is int and 0 < threads <= 1024 else 1


def _manner(exact: bool, published: Mapping[str, Any], here: Mapping[str, Any], device: str) -> str:
    """Return how values are compared, and why."""
    processor = here["processor"] if device == "cpu" else here["device"]
    where = f"measured again on {processor} with torch {here['packages']['torch']}"
    if exact:
        return f"{where}, as published: compared exactly"
    packages = published.get("packages")
    torch = packages.get("torch") if isinstance(packages, Mapping) else "an unknown version"
    return f"{where}; published from {published.get('processor')} with torch {torch}: compared within the metrics' tolerances"


def _unmeasured(rows: Sequence[Row], bundle: Bundle, metrics: Sequence[LabeledPlugin]) -> Iterator[str]:
    """Yield the measured rows that belong to no ensemble or to no metric of the bundle."""
    places = {entry.place for entry in bundle.ensembles}
    names = {labeled.plugin.name for labeled in metrics}
    for row in rows:
        if row.status != "done" or row.key == row.cell:
            continue
        if place_of(row) not in places:
            yield f"{describe(row)}: the bundle lists no members of this ensemble"
        elif row.metric_version.partition("@")[0] not in names:
            yield f"{describe(row)}: the benchmark has no such metric"
