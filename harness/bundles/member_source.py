"""The members of a run that are published: each network once, with its place in the store and its configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.api.normalization import normalization_of
from harness.api.options import options_from_json
from harness.api.recipe import Recipe
from harness.api.specs import Identity, SettingSpec
from harness.api.task import canonical_json
from harness.bundles.bundle import EnsembleEntry, Place
from harness.bundles.digests import FileDigest
from harness.bundles.member_config import MemberConfig
from harness.bundles.scrubbing import scrub, scrub_text
from harness.errors import DamagedObject, UserError, attribute_errors
from harness.registry.catalogue import Catalogue
from harness.registry.recorded_identity import from_recorded_identity
from harness.results.rows import Row
from harness.runs.member import Member
from harness.store import Store

_LABELS = ("dataset", "architecture", "method")


@dataclass(frozen=True)
class StoredMember:
    """A network to publish: a member of the run, and the digest of its weights as the store has it."""

    member: Member
    digest: FileDigest
    setting: SettingSpec

    @property
    def path(self) -> Path:
        """The file in the store."""
        return self.member.path


def measured_places(rows: Iterable[Row]) -> set[Place]:
    """Return the places of the ensembles of which a metric was measured. The row of a cost has the ensemble's own key."""
    return {place_of(row) for row in rows if row.status == "done" and row.key != row.cell}


def place_of(row: Row | Member) -> Place:
    """Return data set, architecture, method and seed."""
    return row.dataset, row.architecture, row.method, row.seed


def scrubbed_members(members: Iterable[Member]) -> list[Member]:
    """Return members without absolute paths in their labels, as the rows of a bundle have them.

    Raise `UserError` if two labels are the same without them.
    """
    origins: dict[Place, Place] = {}
    found = []
    for member in members:
        texts: dict[str, Any] = {name: scrub_text(getattr(member, name)) for name in _LABELS}
        scrubbed = replace(member, **texts)
        own = place_of(member)
        other = origins.setdefault(place_of(scrubbed), own)
        if other != own:
            raise UserError(_same_labels(other, own))
        found.append(scrubbed)
    return found


def _same_labels(one: Place, other: Place) -> str:
    """Return a message about the first label in which two places of a run differ."""
    for kind, first, second in zip(_LABELS, one, other, strict=False):
        if first != second:
            same = f"{first!r:.200} and {second!r:.200} are both {scrub_text(str(first))!r:.200}"
            remedy = "give each a 'label' of its own in the benchmark file, and run it again: nothing is trained again"
            return f"{kind}: {same} without absolute paths, which a bundle leaves out; {remedy}"
    raise AssertionError("two different places have equal labels")


def ensembles_of(members: Sequence[Member]) -> list[EnsembleEntry]:
    """Return the ensembles that members make up, each with its members in order."""
    by_place: dict[Place, list[Member]] = {}
    for member in members:
        by_place.setdefault(place_of(member), []).append(member)
    found = []
    for place, own in by_place.items():
        keys = tuple(member.key for member in sorted(own, key=lambda member: member.member))
        found.append(EnsembleEntry(*place, keys))
    return found


def member_entry(member: Member) -> dict[str, Any]:
    """Return a member as `provenance.json` lists it."""
    place = {"dataset": member.dataset, "architecture": member.architecture, "method": member.method, "seed": member.seed}
    return {**place, "member": member.member, "key": member.key}


def stored_members(members: Sequence[Member], store: Store) -> list[StoredMember]:
    """Return each network once, in order. Raise `UserError` if the store lacks some of them."""
    found: dict[str, StoredMember] = {}
    missing: dict[str, str] = {}
    for member in members:
        if member.key in found or member.key in missing:
            continue
        try:
            found[member.key] = _stored(member, store)
        except DamagedObject as error:
            missing[member.key] = str(error)
        except (KeyError, TypeError, ValueError) as error:
            missing[member.key] = f"object {member.object[:12]} describes no weights ({type(error).__name__})"
    if missing:
        first = next(iter(missing.values()))
        where = f"store {store.root}: lacks {len(missing)} of {len(found) + len(missing)} networks ({first})"
        raise UserError(f"{where}; run the benchmark to train them, name another --store, or publish with --no-members")
    return list(found.values())


def _stored(member: Member, store: Store) -> StoredMember:
    meta = store.meta(member.object)
    described = meta["files"][member.part]
    setting: Mapping[str, Any] = meta["spec"]["setting"]
    spec = SettingSpec(
        format=int(setting["format"]),
        dataset=dict(setting["dataset"]),
        architecture=dict(setting["architecture"]),
        recipe=dict(setting["recipe"]),
    )
    return StoredMember(member, FileDigest(described["bytes"], described["sha256"]), spec)


class ConfigMaker:
    """Makes configurations of members. Data sets are looked up once: they know the shape of images and the classes."""

    def __init__(self, catalogue: Catalogue, data: Path) -> None:
        self._catalogue = catalogue
        self._data = data
        self._datasets: dict[str, Any] = {}

    def config(self, stored: StoredMember) -> MemberConfig:
        """Return the configuration. Raise `UserError` if the data set's plugin or its files are not on this machine."""
        dataset = self._dataset(stored.setting.dataset)
        recipe: Recipe = options_from_json(Recipe, stored.setting.recipe)
        channels, height, width = dataset.shape
        return MemberConfig(
            key=stored.member.key,
            setting=_scrubbed(stored.setting),
            shape=(int(channels), int(height), int(width)),
            num_classes=int(dataset.num_classes),
            normalization=normalization_of(recipe, dataset),
            weights=stored.digest,
        )

    def _dataset(self, identity: Identity) -> Any:
        name = canonical_json(identity)
        if name not in self._datasets:
            self._datasets[name] = located_dataset(self._catalogue, identity, self._data)
        return self._datasets[name]


def _scrubbed(setting: SettingSpec) -> SettingSpec:
    """Return a setting without absolute paths among its options; on another machine they would name nothing."""
    return replace(
        setting, dataset=scrub(setting.dataset), architecture=scrub(setting.architecture), recipe=scrub(setting.recipe)
    )


def located_dataset(catalogue: Catalogue, identity: Identity, data: Path) -> Any:
    """Return the data set with an identity, for this data root. Raise `UserError` if it is another one here."""
    own = {name: value for name, value in identity.items() if name != "fingerprint"}
    named = from_recorded_identity(catalogue, "dataset", own)
    with attribute_errors(f"data set '{named.full_name}'", "located"):
        dataset = named.located(data)
    if dataset.fingerprint != identity.get("fingerprint"):
        raise UserError(
            f"data set '{named.full_name}': the one under {data} is not the published one: its fingerprint differs; "
            "name the right data root with --data"
        )
    return dataset
