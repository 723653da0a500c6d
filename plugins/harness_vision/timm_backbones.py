"""`timm/<name>`: any model of timm (Wightman 2019), with a head for the data set's classes and for images of its size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from harness import Architecture, Options, UserError
from harness_vision.pretrained import WeightFile, find_weights, import_timm

if TYPE_CHECKING:
    from torch import nn

Value = bool | int | float | str | None

NOT_OPTIONS = {
    "num_classes": "the data set says it",
    "in_chans": "the data set says it",
    "pretrained": "it is an option of its own",
    "pretrained_cfg": "name the weights by their tag, as in timm/resnet18.a1_in1k",
    "pretrained_cfg_overlay": "name the weights by their tag, as in timm/resnet18.a1_in1k",
    "checkpoint_path": "weights from a file are in no key",
    "cache_dir": "set HF_HOME instead",
    "features_only": "a classifier is needed",
}
"""Arguments of `timm.create_model` that `model_options` may not hold, and why."""


class TimmOptions(Options):
    """What a timm model is made with."""

    pretrained: bool = Field(False, description="start from timm's pretrained weights (downloaded), not from random ones")
    model_options: dict[str, Value | list[Value]] = Field(
        {}, description="timm's own options of the model, such as drop_path_rate: 0.1"
    )

    @field_validator("model_options")
    @classmethod
    def _none_of_ours(cls, model_options: dict[str, Any]) -> dict[str, Any]:
        for name in model_options:
            if name in NOT_OPTIONS:
                raise ValueError(f"'{name}' cannot be a model option: {NOT_OPTIONS[name]}")
        return model_options


class TimmBackbone(Architecture):
    """A model of timm; `timm/resnet18`, or `timm/resnet18.a1_in1k` with the tag of its pretrained weights."""

    name, version = "timm/<name>", 1
    Options = TimmOptions
    _weights: WeightFile | None = None

    @classmethod
    def variants(cls) -> Iterable[str]:
        """Return all names that timm knows, without tags."""
        names: list[str] = import_timm().list_models()
        return names

    def located(self, data: Path) -> TimmBackbone:
        """Return itself, or the network with its pretrained weights found in the caches of Hugging Face or torch.hub."""
        if not self.options.pretrained:
            return self
        found = type(self)(self.options)
        found.variant = self.variant
        found._weights = find_weights(self.full_name, self.model)
        return found

    @cached_property
    def identity(self) -> dict[str, Any]:
        """As for any family; with pretrained weights the variant names their tag, timm's default if the user named none.

        Of a network that was located, `weights` is the digest of their bytes: a tag's may be replaced.
        """
        variant = self.model
        if self.options.pretrained and "." not in variant:
            weights = import_timm().get_pretrained_cfg(variant)  # None: timm knows no such model
            variant = f"{variant}.{weights.tag}" if weights and weights.tag else variant
        identity = {**super().identity, "variant": variant}
        return identity if self._weights is None else {**identity, "weights": f"sha256:{self._weights.sha256}"}

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise `UserError` if the weights on this machine are not those that a task was made for."""
        expected, found = identity.get("weights"), self.identity.get("weights")
        if expected != found and self._weights is not None:
            raise UserError(
                f"{self.full_name}: the task was made for pretrained weights {expected}, {self._weights.path} holds {found}; "
                f"copy the file from the machine that planned, or start the run again"
            )

    @property
    def model(self) -> str:
        """timm's name of the model, the family's variant."""
        return str(self.variant)

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the model: (batch, *shape) to logits (batch, classes); raise `UserError` if timm cannot make it so."""
        weights = self._weights
        if self.options.pretrained and weights is None:
            weights = find_weights(self.full_name, self.model)
        if weights is not None:
            weights.check_unchanged(self.full_name)
        try:
            model = self._create(shape, num_classes, weights)
            logits = _logits_shape(model, shape)
        except Exception as error:  # model code: whatever it raises, the user named the model and its options
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            channels, height, width = shape
            made_of = "" if weights is None else f" and weights from {weights.path}"
            raise UserError(
                f"{self.full_name}: timm cannot make it for {channels}×{height}×{width} images with model_options "
                f"{self.options.model_options}{made_of}: {reason}"
            ) from None
        if weights is not None:
            weights.check_unchanged(self.full_name)
        if logits != (1, num_classes):
            raise UserError(f"{self.full_name}: gives {logits} for one image, expected (1, {num_classes}); choose a classifier")
        return model

    def _create(self, shape: tuple[int, int, int], num_classes: int, weights: WeightFile | None) -> nn.Module:
        """Create the model for this image size, if it depends on one: its constructor alone knows whether it does."""
        import timm

        channels, *size = shape
        ours: dict[str, Any] = {"pretrained": weights is not None, "num_classes": num_classes, "in_chans": channels}
        if weights is not None:
            ours["pretrained_cfg_overlay"] = {"file": str(weights.path), "custom_load": weights.custom_load}
        theirs = self.options.model_options
        try:
            return timm.create_model(self.model, **ours, **{"img_size": tuple(size), **theirs})
        except TypeError as error:
            if "img_size" in theirs or "'img_size'" not in str(error):
                raise
            return timm.create_model(self.model, **ours, **theirs)


def _logits_shape(model: nn.Module, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of the output for one image; batch statistics and random generators are left alone."""
    import torch

    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, *shape))
    model.train()
    return tuple(logits.shape)
