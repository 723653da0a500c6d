"""The recorded results under benchmarks/results: bundles that agree with themselves, an index, and corrected values."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from harness.bundles.verification import Verification, verify
from harness.registry.catalogue import load_catalogue
from harness.results.rows import load_rows, write_rows
from scripts import load_script

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
publish_results = load_script(RESULTS.parent / "publish_results.py")
BUNDLES = publish_results.bundles_in(RESULTS)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_recorded_bundle(bundle: Path) -> None:
    """Digests, board, contributions of images and costs agree, and the benchmark of the repository is the recorded one."""
    findings = verify(Verification(bundle, load_catalogue(), bundle, "cpu", 1, lambda line: None))
    assert findings.disagreements == []
    assert {"digests", "board", "plan"} <= {finding.subject for finding in findings if finding.status == "agrees"}
    assert not (bundle / "members").exists()


def test_there_are_recorded_bundles() -> None:
    """Those that the pages of results describe."""
    names = [
        "ablations",
        "alignments",
        "cifar10_cpu",
        "populations",
        "populations_cifar10",
        "populations_long",
        "quickstart",
        "shift",
        "single_cifar10",
    ]
    assert [bundle.name for bundle in BUNDLES] == names


def test_index_is_up_to_date() -> None:
    """The table in README.md is that of the bundles; `python benchmarks/publish_results.py` writes it."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert publish_results.index(RESULTS) in text


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder of results with an index and nothing else."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "README.md").write_text(f"before\n{publish_results.BEGIN}old\n{publish_results.END}after\n")
    return folder


def test_taking_over_a_run(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run becomes a bundle; other values need a reason, and are listed with the old ones."""
    shutil.copytree(RESULTS / "quickstart", tmp_path / "run")
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    benchmark = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    members = [{**member, "object": member["key"], "part": "weights"} for member in provenance["members"]]
    facts = {**provenance["run"], "benchmark": benchmark, "members": members, "store": "gone", "provenance": provenance}
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    publish_results.main([str(tmp_path / "run"), "quickstart"], recorded)
    assert load_rows(recorded / "quickstart") == load_rows(RESULTS / "quickstart")
    index = (recorded / "README.md").read_text()
    assert index.startswith("before\n")
    assert index.endswith("after\n")
    assert "| [quickstart](quickstart/leaderboard.md) | quickstart | 28 ensembles on digits" in index
    assert "None so far." in index

    rows = load_rows(tmp_path / "run")
    rows[0] = dataclasses.replace(rows[0], value=90.5)
    write_rows(tmp_path / "run" / "results.csv", rows)
    with pytest.raises(
        SystemExit, match=r"1 values differ from those recorded in .*; --reason TEXT says why they are corrected"
    ):
        publish_results.main([str(tmp_path / "run"), "quickstart"], recorded)
    publish_results.main([str(tmp_path / "run"), "quickstart", "--reason", "a | better count"], recorded)
    assert load_rows(recorded / "quickstart")[0].value == 90.5
    [correction] = publish_results.read_corrections(recorded)
    assert (correction.old, correction.new, correction.reason) == ("98.05555555555556", "90.5", "a | better count")
    value = "digits, resnet20, deep, seed 0, ensemble_accuracy"
    assert f"quickstart | {value} | 98.05555555555556 | 90.5 | a \\| better count |" in (recorded / "README.md").read_text()
    publish_results.main([], recorded)
    assert publish_results.read_corrections(recorded) == [correction]
    assert "quickstart" in capsys.readouterr().out


def test_rebuilding_keeps_values(recorded: Path) -> None:
    """Board, page and digests are made again from rows, benchmark and provenance, and are the recorded ones."""
    shutil.copytree(RESULTS / "cifar10_cpu", recorded / "cifar10_cpu")
    for name in ("leaderboard.md", "digests.json"):
        (recorded / "cifar10_cpu" / name).unlink()
    publish_results.main([], recorded)
    for name in ("results.csv", "leaderboard.md"):
        assert (recorded / "cifar10_cpu" / name).read_bytes() == (RESULTS / "cifar10_cpu" / name).read_bytes()
    assert (recorded / "cifar10_cpu" / "digests.json").exists()
