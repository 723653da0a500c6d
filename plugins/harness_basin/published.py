"""Published members as an ensemble: the weights of a bundle of `harness publish`, which others have trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

import harness
from harness import Cell, Derivation, DerivationContext, EnsembleBuilder, Options, StateDict, UserError, Weights, bundles


class PublishedWeights(Derivation):
    """The weights in one file of a bundle. Its parent is a network of the same architecture, whose tensors they must match."""

    name, version = "published_weights", 1

    class Options(harness.Options):
        """What identifies the file, wherever it lies."""

        weights_sha256: str = Field("", description="digest of the file with the weights, in hexadecimal digits")
        weights_bytes: int = Field(0, ge=0, description="size of that file")

    def __init__(self, options: Options | None = None, file: Path | None = None) -> None:
        super().__init__(options)
        self.sources = () if file is None else (file,)

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return the weights. Raise `UserError` if the file is gone, was changed, or holds other tensors than the parent."""
        (file,) = context.sources
        digest = bundles.FileDigest(self.options.weights_bytes, self.options.weights_sha256)
        return [bundles.read_weights(file, digest, like=parents[0])], {"sha256": digest.sha256}


class PublishedEnsemble(EnsembleBuilder):
    """The members of a published ensemble, as they are in a bundle. Nothing is trained."""

    name, version = "published", 1

    class Options(harness.Options):
        """Which ensemble of which bundle."""

        path: str = Field(..., min_length=1, description="folder of the bundle, relative to that of the benchmark file")
        of: str | None = Field(None, description="the method of the bundle; null: the only one that it has")
        of_seed: int | None = Field(None, description="the seed of the bundle's ensemble; null: the cell's own")

    def __init__(self, options: harness.Options | None = None, bundle: bundles.Bundle | None = None) -> None:
        super().__init__(options)
        self._bundle = bundle

    def located(self, folder: Path) -> PublishedEnsemble:
        """Return the method with its bundle. Raise `UserError` if there is none, or one of a newer format."""
        path = self.options.path
        try:
            bundle = bundles.open_bundle(path if path.startswith("~") else (folder / path).resolve())
        except UserError as error:
            raise UserError(f"method 'published': {error}") from None
        return PublishedEnsemble(self.options, bundle)

    def build(self, cell: Cell) -> Sequence[Weights]:
        """Return the first M members of the ensemble. Raise `UserError` if the bundle has none that fits the cell."""
        if self._bundle is None:
            raise UserError(f"{self.options.describe('path')}: the bundle was not opened; call located first")
        entry = _find(self._bundle, cell, self.options.of, self.options.of_seed)
        if len(entry.keys) < cell.size:
            found = f"{entry.method}, seed {entry.seed} has {len(entry.keys)} members"
            raise UserError(f"{self._bundle.folder}: {found}; members is {cell.size}")
        start = cell.trajectory(member=0).at(0)
        members: list[Weights] = []
        for key in entry.keys[: cell.size]:
            _require_fit(self._bundle, self._bundle.config(key), cell)
            members += cell.derive(_weights(self._bundle, key), (start,))
        return members


def _weights(bundle: bundles.Bundle, key: str) -> PublishedWeights:
    digest = bundle.weights_digest(key)
    options = PublishedWeights.Options(weights_sha256=digest.sha256, weights_bytes=digest.bytes)
    return PublishedWeights(options, bundle.weights_file(key))


def _find(bundle: bundles.Bundle, cell: Cell, method: str | None, seed: int | None) -> bundles.EnsembleEntry:
    """Return the ensemble of a bundle that fits a cell. Raise `UserError` if there is none."""
    methods = list(dict.fromkeys(entry.method for entry in bundle.ensembles))
    if method is None and len(methods) != 1:
        raise UserError(f"{bundle.folder}: has the methods {', '.join(methods) or 'of no ensemble'}; name one with `of`")
    if method is not None and method not in methods:
        raise UserError(f"{bundle.folder}: has no method '{method}'; known: {', '.join(methods) or 'none'}")
    chosen = methods[0] if method is None else method
    candidates = [entry for entry in bundle.ensembles if entry.method == chosen]
    fitting = []
    for entry in candidates:
        if not list(_differences(bundle.config(entry.keys[0]), cell)):
            fitting.append(entry)
    if not fitting:
        _require_fit(bundle, bundle.config(candidates[0].keys[0]), cell)
    wanted = cell.seed if seed is None else seed
    for entry in fitting:
        if entry.seed == wanted:
            return entry
    seeds = ", ".join(str(entry.seed) for entry in fitting)
    raise UserError(f"{bundle.folder}: {fitting[0].method} has no seed {wanted}; name one of {seeds} with `of_seed`")


def _require_fit(bundle: bundles.Bundle, config: bundles.MemberConfig, cell: Cell) -> None:
    """Raise `UserError` if a published network is another one than those of the cell."""
    differences = list(_differences(config, cell))
    if differences:
        raise UserError(f"{bundle.folder}: does not fit this cell: {'; '.join(differences)}")


def _differences(config: bundles.MemberConfig, cell: Cell) -> Iterator[str]:
    """Yield what differs between a published network and those of a cell, the plainest first."""
    dataset, architecture = cell.setting.dataset, cell.setting.architecture
    if tuple(config.shape) != tuple(dataset.shape):
        yield f"its images are {config.shape}, the cell's {tuple(dataset.shape)}"
    if config.num_classes != dataset.num_classes:
        yield f"it has {config.num_classes} classes, the cell {dataset.num_classes}"
    if config.setting.dataset.get("fingerprint") != dataset.fingerprint:
        yield f"its data set is {config.dataset}, the cell's {dataset.full_name}{_same_name(config.dataset, dataset.full_name)}"
    if not bundles.is_recorded_identity(config.setting.architecture, architecture):
        same = _same_name(config.architecture, architecture.full_name)
        yield f"its architecture is {config.architecture}, the cell's {architecture.full_name}{same}"
    if config.setting.recipe.get("normalization") != _plain(cell.recipe.normalization):
        yield "its images are normalized otherwise (recipe.normalization)"


def _same_name(published: str, own: str) -> str:
    return " with other options or another version" if published == own else ""


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back: lists instead of tuples."""
    return json.loads(json.dumps(value))
