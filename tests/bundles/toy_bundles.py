"""Bundles of toys: a run, its bundle, and changes of a bundle whose digests are made to fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import toys
from conftest import RECIPE
from harness.bundles.digests import digest_of, write_digests
from harness.bundles.findings import Findings
from harness.bundles.publishing import Publication, publish
from harness.bundles.verification import Verification, verify
from harness.registry.catalogue import Catalogue

CONTENT: dict[str, Any] = {
    "name": "toy",
    "seeds": [0, 1],
    "members": 2,
    "datasets": ["blobs"],
    "architectures": ["perceptron"],
    "methods": ["deep", "permuted"],
    "metrics": ["ensemble_accuracy", "mean_member_accuracy", "negative_log_likelihood", {"joint_connectivity": {"draws": 3}}],
    "recipe": RECIPE,
}


def run_toys(folder: Path, catalogue: Catalogue | None = None, **changes: Any) -> harness.Run:
    """Run a benchmark of toys in a folder, and return the run."""
    return harness.run(
        {**CONTENT, **changes},
        out=folder / "run",
        store=folder / "store",
        data=folder / "data",
        workers=1,
        device="cpu",
        progress=False,
        catalogue=catalogue or toys.catalogue(),
    )


def publish_toys(run: harness.Run, target: Path, *, with_members: bool = True, catalogue: Catalogue | None = None) -> list[str]:
    """Publish a run of toys without figures, and return what the command says."""
    said: list[str] = []
    publication = Publication(
        run=run,
        target=target,
        catalogue=catalogue or toys.catalogue(),
        figures={},
        data=target,
        with_members=with_members,
        say=said.append,
    )
    publish(publication)
    return said


def verify_toys(folder: Path, catalogue: Catalogue | None = None) -> Findings:
    """Verify a bundle of toys in this process."""
    return verify(Verification(folder, catalogue or toys.catalogue(), folder, "cpu", 1, lambda line: None))


def differences(folder: Path, catalogue: Catalogue | None = None) -> list[str]:
    """Return what differs in a bundle of toys, as `subject: text`."""
    return [f"{finding.subject}: {finding.text}" for finding in verify_toys(folder, catalogue).disagreements]


def copied(bundle: Path, target: Path) -> Path:
    """Copy a bundle, and return the copy."""
    shutil.copytree(bundle, target)
    return target


def refit(bundle: Path) -> None:
    """Make `digests.json` fit the files that are there, as a forger would."""
    digests = {}
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        if path.is_file() and name != "digests.json":
            digests[name] = digest_of(path)
    write_digests(bundle, digests)


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a JSON file."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), encoding="utf-8")


def first_member(bundle: Path) -> Path:
    """Return the folder of the first member."""
    return min((bundle / "members").iterdir())
