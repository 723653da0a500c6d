"""`harness list`: what is registered, by whom, with options and their defaults. Costs no torch."""

from __future__ import annotations

import inspect
import json
from typing import Any

import click

from harness.cli.arguments import json_option, open_catalogue
from harness.errors import UserError, did_you_mean
from harness.registry.catalogue import KINDS, Registration

_ALIASES = {"method": "ensemble_builder", "builder": "ensemble_builder", "ensemble": "ensemble_builder", "data_set": "dataset"}


@click.command(name="list")
@click.argument("kind", metavar="[KIND]", required=False)
@json_option
def list_plugins(kind: str | None, as_json: bool) -> None:
    """List what is registered: methods, architectures, datasets, metrics, objectives, derivations, engines, figures."""
    wanted = None if kind is None else _kind(kind)
    entries = [r for r in open_catalogue() if wanted in (None, r.kind)]
    if as_json:
        click.echo(json.dumps([_as_json(r) for r in entries], indent=1))
        return
    for k in KINDS:
        mine = [r for r in entries if r.kind == k]
        if mine:
            click.echo(click.style(_title(k), bold=True))
            for registration in mine:
                _print(registration)
            click.echo()


def _kind(word: str) -> str:
    """Return the kind that a user's word means: singular or plural, with dash or underscore."""
    name = word.lower().replace("-", "_")
    for candidate in (name, name.removesuffix("s"), name.removesuffix("ies") + "y"):
        candidate = _ALIASES.get(candidate, candidate)
        if candidate in KINDS:
            return candidate
    raise UserError(f"unknown kind '{word}'{did_you_mean(word, [*KINDS, 'methods'])}")


def _title(kind: str) -> str:
    return {"ensemble_builder": "methods (ensemble builders)", "dataset": "data sets"}.get(
        kind, kind.removesuffix("y") + "ies" if kind.endswith("y") else kind + "s"
    )


def _print(registration: Registration) -> None:
    first_line = (inspect.getdoc(registration.cls) or "").split("\n\n")[0].replace("\n", " ")
    click.echo(f"  {click.style(registration.name, fg='cyan')}  {first_line}  [{registration.source.distribution}]")
    for option in _options(registration):
        default = "required" if option["required"] else f"= {json.dumps(option['default'])}"
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
    return [
        {
            "name": name,
            "required": name in required,
            "default": field.get("default"),
            "description": field.get("description", ""),
            "schema": {k: v for k, v in field.items() if k not in ("default", "description", "title")},
        }
        for name, field in schema.get("properties", {}).items()
    ]
