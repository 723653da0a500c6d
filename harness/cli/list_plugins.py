"""`harness list`: registered plugins, their distributions, options and defaults. Does not import torch."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import click

from harness.cli.arguments import json_option, open_catalogue
from harness.errors import UserError, did_you_mean
from harness.registry.catalogue import KINDS, SUBSETS, Catalogue, Registration
from harness.text import single_line

_ALIASES = {"method": "ensemble_builder", "builder": "ensemble_builder", "ensemble": "ensemble_builder", "data_set": "dataset"}

_TITLES = {"ensemble_builder": "methods (ensemble builders)", "dataset": "data sets", "evaluation_set": "evaluation sets"}
"""Headings, where they are not simply the plural."""


@click.command(name="list")
@click.argument("kind", metavar="[KIND]", required=False)
@json_option
def list_plugins(kind: str | None, as_json: bool) -> None:
    """List what is registered.

    Kinds: methods, architectures, datasets, metrics, objectives, derivations, engines, figures, observers, corrections,
    couplings, evaluation_sets; and alignments, the derivations that `aligned: {by: NAME}` can name, under these names.
    """
    kinds = tuple(KINDS) if kind is None else (_kind(kind),)
    registrations = _registered(open_catalogue(), kinds)
    if as_json:
        click.echo(json.dumps([_as_json(registration) for registration in registrations], indent=1))
        return
    for listed in kinds:
        of_kind = [registration for registration in registrations if registration.kind == listed]
        if of_kind:
            click.echo(click.style(_TITLES.get(listed, plural(listed)), bold=True))
            for registration in of_kind:
                _print(registration)
            click.echo()


def _registered(catalogue: Catalogue, kinds: tuple[str, ...]) -> list[Registration]:
    """Return the plugins of some kinds. Those of a subset have the names by which options choose them."""
    found = [registration for registration in catalogue if registration.kind in kinds]
    for kind in kinds:
        if kind in SUBSETS:
            for name, registration in sorted(catalogue.subset(kind).items()):
                found.append(dataclasses.replace(registration, kind=kind, name=name))
    return found


def _kind(word: str) -> str:
    """Return the kind, or the subset of one, that a word names, in singular or plural, with dashes or underscores."""
    name = word.lower().replace("-", "_")
    for candidate in (name, name.removesuffix("s"), name.removesuffix("ies") + "y"):
        candidate = _ALIASES.get(candidate, candidate)
        if candidate in KINDS or candidate in SUBSETS:
            return candidate
    raise UserError(f"unknown kind '{single_line(word)}'{did_you_mean(word, map(plural, (*KINDS, *SUBSETS)))}")


def plural(kind: str) -> str:
    """Return how the help and messages call the plugins of a kind; `harness list` takes other forms of it, too."""
    if kind == "ensemble_builder":
        return "methods"
    if kind.endswith("y"):
        return kind.removesuffix("y") + "ies"
    return kind + "s"


def _print(registration: Registration) -> None:
    first_line = (inspect.getdoc(registration.cls) or "").split("\n\n")[0].replace("\n", " ")
    click.echo(f"  {click.style(registration.name, fg='cyan')}  {first_line}  [{registration.source.distribution}]")
    for option in _options(registration):
        default = f"= {json.dumps(option['default'])}"
        if option["required"]:
            default = "required"
        click.echo(f"      {option['name']} {default}  {option['description']}")


def _as_json(registration: Registration) -> dict[str, Any]:
    return {
        "kind": registration.kind,
        "name": registration.name,
        "version": registration.cls.version,
        "plugin": registration.source.plugin,
        "distribution": registration.source.distribution,
        "description": inspect.getdoc(registration.cls) or "",
        "options": _options(registration),
    }


def _options(registration: Registration) -> list[dict[str, Any]]:
    schema = registration.cls.Options.model_json_schema()
    required = schema.get("required", [])
    options = []
    for name, field in schema.get("properties", {}).items():
        type_schema = {key: value for key, value in field.items() if key not in ("default", "description", "title")}
        option = {
            "name": name,
            "required": name in required,
            "default": field.get("default"),
            "description": field.get("description", ""),
            "schema": type_schema,
        }
        options.append(option)
    return options
