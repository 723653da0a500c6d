"""`harness publish` and `harness verify` as commands: what they print, and their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import harness
import toys
from bundles.toy_bundles import copied, refit
from cli.command_line import FILE, run_harness
from harness.cli.publish import publish
from harness.cli.verify import verify


def test_publish_command(toy_run: harness.Run, toy_bundle: Path, tmp_path: Path) -> None:
    """It prints the estimate and the result, and writes what the function writes, with a page."""
    target = tmp_path / "bundle"
    done = CliRunner().invoke(
        publish, [str(toy_run.folder), "--to", str(target), "--data", str(tmp_path)], obj=toys.catalogue()
    )
    assert done.exit_code == 0
    first, *_, last = done.output.splitlines()
    assert first.startswith("4 ensembles of 8 members: 6 different networks, ")
    assert last.startswith("published 25 files, ")
    assert "<table" in (target / "report.html").read_text(encoding="utf-8")
    assert (target / "results.csv").read_bytes() == (toy_bundle / "results.csv").read_bytes()


def test_publish_rows_alone(toy_run: harness.Run, tmp_path: Path) -> None:
    """`--no-members` leaves the weights out."""
    words = [str(toy_run.folder), "--to", str(tmp_path / "rows"), "--no-members"]
    done = CliRunner().invoke(publish, words, obj=toys.catalogue())
    assert done.exit_code == 0
    assert not (tmp_path / "rows" / "members").exists()


def invoke_verify(folder: Path, *options: str) -> tuple[int, str]:
    """Verify a bundle of toys; return the exit code and standard output."""
    words = [str(folder), "--device", "cpu", "--workers", "1", "--data", str(folder), *options]
    done = CliRunner().invoke(verify, words, obj=toys.catalogue())
    return done.exit_code, done.stdout


def test_verify_command(toy_bundle: Path) -> None:
    """Exit code 0: everything agrees."""
    code, output = invoke_verify(toy_bundle)
    assert code == 0
    assert "agrees  digests: 24 files match their digests\n" in output
    assert output.endswith(f"{toy_bundle}: everything that was compared agrees\n")


def test_verify_a_forged_bundle(toy_bundle: Path, tmp_path: Path) -> None:
    """Exit code 1: something differs. Each difference has a line, the end counts them; JSON has them all."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    (bundle / "leaderboard.md").write_text("# mine\n")
    refit(bundle)
    code, output = invoke_verify(bundle)
    assert code == 1
    assert "differs board: leaderboard.md:1: is not the board of results.csv; the rows give '### toy: " in output
    assert output.endswith(f"{bundle}: 1 thing differs\n")
    code, output = invoke_verify(bundle, "--json")
    assert code == 1
    report = json.loads(output)
    assert report["agrees"] is False
    assert [finding["subject"] for finding in report["findings"] if finding["status"] == "differs"] == ["board"]


def test_many_differences(toy_bundle: Path, tmp_path: Path) -> None:
    """Twenty of a kind are printed, the others counted."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    for number in range(25):
        (bundle / f"more{number}\x1b[31m.txt").touch()
    code, output = invoke_verify(bundle)
    assert code == 1
    assert output.count("not listed in digests.json") == 20
    assert "differs digests: and 5 more; --json lists them\n" in output
    assert "\x1b" not in output


@pytest.mark.slow
def test_quickstart_of_a_user(tmp_path: Path) -> None:
    """Run, publish, verify, and name the bundle in a file of one's own, in processes of their own."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(FILE))
    run_harness("run", "small.yaml", "--out", "run", "--workers", 1, cwd=tmp_path)
    run_harness("publish", "run", "--to", "bundle", cwd=tmp_path)
    done = run_harness("verify", "bundle", "--workers", 2, cwd=tmp_path)
    assert "measuring 2 ensembles of 3 networks again: 7 tasks" in done.stderr
    assert done.stdout.endswith("bundle: everything that was compared agrees\n")
    methods = [{"published": {"path": "bundle", "of": "deep"}}]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**FILE, "name": "mine", "methods": methods}))
    done = run_harness("run", "mine.yaml", "--out", "mine", "--workers", 2, "--store", "other", cwd=tmp_path)
    assert "0 epochs of training" in done.stdout + done.stderr
    done = run_harness("verify", "run", cwd=tmp_path, code=2)
    assert done.stderr.startswith("error: run: is the folder of a run; `harness publish run --to FOLDER` makes a bundle")


def test_publish_and_verify_refuse_other_folders(tmp_path: Path) -> None:
    """Exit code 2, one line."""
    done = run_harness("verify", tmp_path / "no", cwd=tmp_path, code=2)
    assert done.stderr.count("\n") == 1
    done = run_harness("publish", tmp_path, "--to", "bundle", cwd=tmp_path, code=2)
    assert done.stderr == f"error: {tmp_path}: no results.csv; name a folder that `harness run` or `harness.run` has written\n"


def test_verifying_rows_does_not_import_torch() -> None:
    """A bundle without members is verified without torch; `harness publish --help` needs none either."""
    code = (
        "import sys\nfrom harness.cli import cli\n"
        "try: cli.main(sys.argv[1:], standalone_mode=False)\nexcept SystemExit as end: assert not end.code\n"
        "sys.exit('imported torch' if 'torch' in sys.modules else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    for words in (["verify", "benchmarks/results/quickstart"], ["publish", "--help"], ["verify", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-500:]
