"""The JSON schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from benchmark.toy_catalogue import CATALOGUE, file_text, load, problems
from harness.benchmark import json_schema
from harness.registry.catalogue import load_catalogue

VALID = [
    file_text(),
    file_text(
        "name: a\ndescription: b\nmembers: 3\nmetrics: [joint_connectivity: {draws: 3}]\nobjective: smoothed\nx-any: {a: 1}"
    ),
    file_text(
        "recipe: {epochs: 3, betas: [0.1, 0.2], clip_norm: null, augmentation: {hue: 0.1}}\nobjective: {smoothed: {amount: 1}}"
    ),
    file_text("settings:\n- {dataset: cifar10, architecture: [resnet20], recipe: {epochs: 3}, method_options: {}}"),
    file_text(datasets="[cifar10: {label: a}, cifar10: ]", architectures="[timm/vit_base, timm/resnet18: {pretrained: true}]"),
    file_text(
        "settings: [{method_options: {fork_epoch: 3}}]",
        methods="[distilled, constrained: {label: x, grid: {fork_epoch: [1, 2]}}]",
    ),
    file_text("recipe:\nsettings:\nmetrics:\nname:\n"),
]
INVALID = [
    file_text("seed: [0]"),
    file_text("recipe: {epoch: 3}"),
    file_text("recipe: {learning_rate: 0}"),
    file_text("recipe: {augmentation: {hues: 1}}"),
    file_text("settings: [{recipes: {}}]"),
    file_text("settings: [{recipe: {epoch: 3}}]"),
    file_text("settings: [{method_options: {fork: 3}}]"),
    file_text("metrics: [ensemble_acuracy]"),
    file_text("metrics: [joint_connectivity: {draw: 3}]"),
    file_text("objective: {smoothed: {amounts: 1}}"),
    file_text(seeds="3"),
    file_text(datasets="[cifar]"),
    file_text(datasets="[cifar10: {labels: a}]"),
    file_text(architectures="[resnet20: {width: x}]"),
    file_text(architectures="[timm/resnet18: {pretrain: true}]"),
    file_text(methods="[{deep: , constrained: }]"),
    file_text(methods="[constrained: {grid: {fork: [1]}}]"),
    file_text(methods="[constrained: {grid: {fork_epoch: 1}}]"),
    "seeds: [0]\n",
]


def schema_errors(content: str) -> list[Any]:
    """Return the violations of the schema of the toy plugins."""
    return list(jsonschema.Draft202012Validator(json_schema(CATALOGUE)).iter_errors(yaml.safe_load(content)))


@pytest.mark.parametrize("content", VALID)
def test_file_that_loads(tmp_path: Path, content: str) -> None:
    """It is valid for the schema."""
    load(tmp_path, content)
    assert schema_errors(content) == []


@pytest.mark.parametrize("content", INVALID)
def test_file_that_does_not_load(tmp_path: Path, content: str) -> None:
    """It is invalid for the schema, so that an editor underlines the mistake."""
    assert problems(tmp_path, content)
    assert schema_errors(content)


def test_schema_itself() -> None:
    """It is valid JSON schema 2020-12 and describes every key."""
    schema = json_schema(CATALOGUE)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    assert all(key["description"] for key in schema["properties"].values())


def test_schema_of_the_installed_plugins() -> None:
    """It is valid and lists the names of the methods."""
    schema = json_schema(load_catalogue())
    jsonschema.Draft202012Validator.check_schema(schema)
    methods = {arm.get("const") for arm in schema["properties"]["methods"]["items"]["anyOf"]}
    assert {"deep", "constrained", "distilled"} <= methods
