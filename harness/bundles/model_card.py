"""The model card of a published member: README.md with the metadata that Hugging Face reads."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from harness.bundles.bundle import EnsembleEntry
from harness.bundles.layout import CONFIG, WEIGHTS
from harness.bundles.member_config import MemberConfig
from harness.leaderboard.escaping import markdown
from harness.text import plain_line

_LONGEST = 120  # characters of a name in a card; a label may be of any length


def model_card(config: MemberConfig, ensembles: Sequence[EnsembleEntry]) -> str:
    """Return the card of a member. `ensembles` are those that it belongs to."""
    title = f"{markdown(_name(config.architecture))} on {markdown(_name(config.dataset))}"
    channels, height, width = config.shape
    mean, std = config.normalization
    lines = [
        *_front_matter(config),
        f"# {title}",
        "",
        "A member of an ensemble in weight space, published with basin-harness. The folder is complete: "
        f"`{WEIGHTS}` has the weights, `{CONFIG}` says what the network is.",
        "",
        "| | |",
        "|---|---|",
        f"| architecture | {_plugin(config.setting.architecture['version'], config.architecture)} |",
        f"| trained on | {_plugin(config.setting.dataset['version'], config.dataset)} |",
        f"| input | float32 (batch, {channels}, {height}, {width}), pixel values in [0, 1], normalized |",
        f"| mean, standard deviation | {_numbers(mean)}; {_numbers(std)} |",
        f"| output | logits (batch, {config.num_classes}) |",
        f"| key | `{config.key}` |",
        f"| sha256 of the weights | `{config.weights.sha256}` |",
        "",
        "## Ensembles",
        "",
        "| data set | architecture | method | seed | member |",
        "|---|---|---|--:|--:|",
        *_ensemble_lines(config.key, ensembles),
        "",
        "## Use",
        "",
        "```python",
        "import harness",
        "",
        'network = harness.load_member("path/to/this/folder")  # a torch.nn.Module in evaluation mode',
        "```",
        "",
    ]
    return "\n".join(lines)


def _front_matter(config: MemberConfig) -> list[str]:
    metadata = {
        "library_name": "basin-harness",
        "pipeline_tag": "image-classification",
        "tags": ["basin-harness", "weight-space-ensemble", _name(config.architecture)],
        "datasets": [_name(config.dataset)],
        "metrics": ["accuracy"],
    }
    return ["---", *yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).splitlines(), "---", ""]


def _ensemble_lines(key: str, ensembles: Sequence[EnsembleEntry]) -> list[str]:
    lines = []
    for entry in ensembles:
        names = " | ".join(markdown(_name(name)) for name in (entry.dataset, entry.architecture, entry.method))
        for index, other in enumerate(entry.keys):
            if other == key:
                lines.append(f"| {names} | {entry.seed} | {index} |")
    return lines


def _plugin(version: int, name: str) -> str:
    return f"{markdown(_name(name))}, version {version}; options in `{CONFIG}`"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _name(text: str) -> str:
    """Return a name on one line, cut if it is very long."""
    plain = plain_line(text)
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"
