"""Publish a run: write a bundle, so that a killed command can be repeated, and a network that methods share is there once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from harness.bundles.bundle import EnsembleEntry
from harness.bundles.digests import FileDigest, digest_of, digest_of_bytes, write_digests
from harness.bundles.layout import CARD, CONFIG, EXAMPLES, PAGE, RESULTS, WEIGHTS, json_text, member_file
from harness.bundles.member_source import (
    ConfigMaker,
    StoredMember,
    ensembles_of,
    measured_places,
    member_entry,
    place_of,
    scrubbed_members,
    stored_members,
)
from harness.bundles.model_card import model_card
from harness.bundles.run_files import facts_of, page_of, provenance_of, published_rows, run_texts
from harness.bundles.scrubbing import scrub
from harness.bundles.target_folder import prepare_target, require_space
from harness.errors import UserError
from harness.results.bundle_mark import is_bundle
from harness.results.rows import Row, load_rows, write_rows
from harness.results.run_json import load_run_json
from harness.runs.member import Member
from harness.runs.run import Run
from harness.store import Store
from harness.text import byte_count

if TYPE_CHECKING:
    from harness.api.figure import Figure
    from harness.registry.catalogue import Catalogue

_REMEDY = "run the benchmark again to write it anew"


@dataclass(frozen=True)
class Publication:
    """What is published, and with what. `figures` draw the page, by the label that messages use. `data` is the data root."""

    run: Run
    target: Path
    catalogue: Catalogue
    figures: Mapping[str, type[Figure]]
    data: Path
    with_members: bool
    say: Callable[[str], None]


@dataclass(frozen=True)
class _Source:
    """What a run's folder gives: scrubbed rows, the content of `run.json`, and the members of the ensembles measured."""

    rows: list[Row]
    facts: Mapping[str, Any]
    members: list[Member]


def publish(publication: Publication) -> None:
    """Write a bundle of a run to a folder. The same command again completes a bundle that was cut short.

    Raise `UserError` if the run has no `run.json`, the store lacks members, the folder holds something else, or the disk is
    too small.
    """
    target = publication.target
    source = _read(publication.run)
    ensembles = ensembles_of(source.members)
    networks: list[StoredMember] = []
    if publication.with_members:
        networks = stored_members(source.members, Store(source.members[0].store))
    _say_what(publication, ensembles, networks, len(publication.run.members()) - len(source.members))
    prepare_target(target, {network.member.key for network in networks})
    require_space(target, [(member_file(network.member.key, WEIGHTS), network.digest.bytes) for network in networks])
    digests = _write_members(publication, networks, ensembles)
    for name in _write_run_files(publication, source):
        digests[name] = digest_of(target / name)
    write_digests(target, digests)
    publication.say(f"published {len(digests) + 1} files, {byte_count(files.size(target.resolve()))}, in {target}")


def _read(run: Run) -> _Source:
    rows = published_rows(load_rows(run.folder))
    facts = load_run_json(run.folder, _REMEDY)
    if facts is None and is_bundle(run.folder):
        raise UserError(f"{run.folder}: is a published bundle already; name the folder of a run")
    if facts is None:
        raise UserError(f"{run.folder}: no run.json, so its members and its benchmark are unknown; {_REMEDY}")
    places = measured_places(rows)
    members = [member for member in scrubbed_members(run.members()) if place_of(member) in places]
    if not members:
        raise UserError(f"{run.folder}: no ensemble was measured yet, so there is nothing to publish; run the benchmark first")
    return _Source(rows, facts, members)


def _write_run_files(publication: Publication, source: _Source) -> list[str]:
    """Write the files that belong to no member, and return their names."""
    target, folder = publication.target, publication.run.folder
    provenance = provenance_of(source.facts, [member_entry(member) for member in source.members])
    benchmark = scrub(source.facts.get("benchmark") or {})
    write_rows(target / RESULTS, source.rows)
    texts = run_texts(benchmark, provenance, source.rows)
    page, problems = page_of(folder, facts_of(benchmark, provenance), source.rows, publication.figures)
    for problem in problems:
        publication.say(f"warning: {problem}")
    for name, text in {**texts, PAGE: page}.items():
        files.write_atomically(target / name, text)
    _copy_examples(folder / EXAMPLES, target / EXAMPLES)
    return [name for name in (RESULTS, *texts, PAGE, EXAMPLES) if (target / name).is_file()]


def _say_what(
    publication: Publication, ensembles: Sequence[EnsembleEntry], networks: Sequence[StoredMember], left_out: int
) -> None:
    """Say how much will be written, before anything is."""
    number = sum(len(ensemble.keys) for ensemble in ensembles)
    what = f"{len(ensembles)} ensembles of {number} members"
    if publication.with_members:
        total = byte_count(sum(network.digest.bytes for network in networks))
        publication.say(f"{what}: {len(networks)} different networks, {total} of weights, to {publication.target}")
    else:
        publication.say(f"{what}: rows alone, to {publication.target}")
    if left_out:
        publication.say(f"warning: {left_out} members are left out, since no metric of their ensembles was measured")


def _write_members(
    publication: Publication, networks: Sequence[StoredMember], ensembles: Sequence[EnsembleEntry]
) -> dict[str, FileDigest]:
    """Write the folder of each network, and return the digests of its files. Weights that are there are not copied again."""
    makes = ConfigMaker(publication.catalogue, publication.data)
    digests = {}
    for network in networks:
        key = network.member.key
        config = makes.config(network)
        weights = member_file(key, WEIGHTS)
        target = publication.target / weights
        _make_folder(target.parent)
        _copy_weights(network, target)
        digests[weights] = network.digest
        texts = {CONFIG: json_text(config.to_json()), CARD: model_card(config, ensembles)}
        for name, text in texts.items():
            files.write_atomically(target.parent / name, text)
            digests[member_file(key, name)] = digest_of_bytes(text.encode("utf-8", "backslashreplace"))
    return digests


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror or error}; name another folder with --to") from None


def _copy_weights(network: StoredMember, target: Path) -> None:
    """Copy a network's weights, unless they are there already. Raise `UserError` if the store's file is damaged."""
    if target.is_file() and files.size(target) == network.digest.bytes and digest_of(target) == network.digest:
        return
    try:
        with network.path.open("rb") as source, files.replaced_file(target) as copy:
            shutil.copyfileobj(source, copy, 2**20)
    except OSError as error:
        raise UserError(f"{network.path}: cannot be read: {error.strerror or error}; run the benchmark again") from None
    if digest_of(target) != network.digest:
        files.remove(target)
        raise UserError(f"{network.path}: does not match its digest; run the benchmark to train it again")


def _copy_examples(source: Path, target: Path) -> None:
    """Copy `examples.npz`, or remove an old one if the run has none."""
    if not source.is_file():
        target.unlink(missing_ok=True)
        return
    with source.open("rb") as original, files.replaced_file(target) as copy:
        shutil.copyfileobj(original, copy, 2**20)
