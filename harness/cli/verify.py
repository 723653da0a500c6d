"""`harness verify`: whether a bundle is what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.arguments import data_option, json_option, open_catalogue
from harness.cli.paths import UserPath
from harness.text import escape_unprintable

if TYPE_CHECKING:
    from harness.bundles.findings import Findings

_LISTED = 20  # differences of one kind that are printed


@click.command()
@click.argument("folder", metavar="FOLDER", type=UserPath())
@data_option
@click.option("--device", default="auto", show_default=True, help="Where to measure: auto, cpu, cuda or cuda:INDEX.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes; default: one per core or CUDA device.")
@json_option
def verify(folder: Path, data: Path | None, device: str, workers: int | None, as_json: bool) -> None:
    """Check the bundle in FOLDER, which `harness publish` has written: digests, board, and every metric measured again.

    Without members, the board, the costs and the contributions of test images are compared with the rows. The exit code is 0
    if everything agrees, 1 if something differs, and 2 if FOLDER holds no complete bundle, or it cannot be verified here.
    """
    from harness.bundles.verification import Verification, verify
    from harness.runs.places import data_folder

    def say(line: str) -> None:
        click.echo(escape_unprintable(line), err=True)

    findings = verify(Verification(folder, open_catalogue(), data_folder(data), device, workers, say))
    if as_json:
        report = {"folder": str(folder), "agrees": not findings.disagreements, "findings": findings.to_json()}
        click.echo(json.dumps(report, indent=1))
    else:
        _print(folder, findings)
    sys.exit(1 if findings.disagreements else 0)


def _print(folder: Path, findings: Findings) -> None:
    shown: dict[str, int] = {}
    for finding in findings:
        if finding.status == "differs":
            shown[finding.subject] = shown.get(finding.subject, 0) + 1
            if shown[finding.subject] > _LISTED:
                continue
        click.echo(escape_unprintable(f"{finding.status:7} {finding.subject}: {finding.text}"))
    for subject, count in shown.items():
        if count > _LISTED:
            click.echo(escape_unprintable(f"differs {subject}: and {count - _LISTED} more; --json lists them"))
    count = len(findings.disagreements)
    if count:
        click.echo(escape_unprintable(f"{folder}: {count} {'thing differs' if count == 1 else 'things differ'}"))
    else:
        click.echo(escape_unprintable(f"{folder}: everything that was compared agrees"))
