"""`timm/<name>`: any model of timm (Wightman 2019), built for the data set's classes, channels and image size."""

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
"""Arguments of `timm.create_model` that `model_options` must not set, with the reason."""


class TimmOptions(Options):
    """Pretrained weights and constructor options of a timm model."""

    pretrained: bool = Field(False, description="start from timm's pretrained weights (downloaded), not from random ones")
    model_options: dict[str, Value | list[Value]] = Field(
        {}, description="timm's own options of the model, such as drop_path_rate: 0.1"
    )

    @field_validator("model_options")
    @classmethod
    def _refuse_reserved(cls, model_options: dict[str, Any]) -> dict[str, Any]:
        """Refuse the arguments in `NOT_OPTIONS`."""
        for name in model_options:
            if name in NOT_OPTIONS:
                raise ValueError(f"'{name}' cannot be a model option: {NOT_OPTIONS[name]}")
        return model_options


class TimmBackbone(Architecture):
    """A model of timm: `timm/resnet18`, or `timm/resnet18.a1_in1k` with the tag of its pretrained weights."""

    name, version = "timm/<name>", 2  # 2: drop paths and functional dropout draw from named streams
    Options = TimmOptions
    _weights: WeightFile | None = None

    @classmethod
    def variants(cls) -> Iterable[str]:
        """Return the names of all models that timm registers, without tags."""
        names: list[str] = import_timm().list_models()
        return names

    def located(self, data: Path) -> TimmBackbone:
        """Return itself, or with `pretrained` the architecture with its weights, in the cache of Hugging Face or torch.hub.

        The weights are downloaded if they are missing. Raise `UserError` if that fails.
        """
        if not self.options.pretrained:
            return self
        found = type(self)(self.options)
        found.variant = self.variant
        found._weights = find_weights(self.full_name, self.model)
        return found

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The identity of a family's variant.

        With pretrained weights, the variant includes their tag: timm's default if the user named none. After `located`,
        `weights` is the digest of the weights' bytes, since other weights may be published under the same tag.
        """
        variant = self.model
        if self.options.pretrained and "." not in variant:
            config = import_timm().get_pretrained_cfg(variant)  # None for a model that timm does not know
            if config and config.tag:
                variant = f"{variant}.{config.tag}"
        identity = {**super().identity, "variant": variant}
        if self._weights is not None:
            identity["weights"] = f"sha256:{self._weights.sha256}"
        return identity

    def check_identity(self, identity: Mapping[str, Any]) -> None:
        """Raise `UserError` if the weights on this machine are not those that a task was made for."""
        expected = identity.get("weights")
        found = self.identity.get("weights")
        if expected != found and self._weights is not None:
            raise UserError(
                f"{self.full_name}: the task was made for pretrained weights {expected}, {self._weights.path} holds {found}; "
                f"copy the file from the machine that planned, or start the run again"
            )

    @property
    def model(self) -> str:
        """timm's name of the model: the family's variant."""
        return str(self.variant)

    def build(self, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the model: (batch, *shape) to logits (batch, classes).

        Raise `UserError` if timm cannot build it for these images and options, if its output is no logits, or if the file of
        pretrained weights has changed since it was located.
        """
        weights = self._weights
        if self.options.pretrained and weights is None:
            weights = find_weights(self.full_name, self.model)
        if weights is not None:
            weights.check_unchanged(self.full_name)
        try:
            model = self._create(shape, num_classes, weights)
            logits = _logits_shape(model, shape)
        except Exception as error:  # model code may raise anything, and the user chose the model and its options
            raise self._build_error(shape, weights, error) from None
        if weights is not None:
            weights.check_unchanged(self.full_name)
        if logits != (1, num_classes):
            raise UserError(f"{self.full_name}: gives {logits} for one image, expected (1, {num_classes}); choose a classifier")
        return model

    def _build_error(self, shape: tuple[int, int, int], weights: WeightFile | None, error: Exception) -> UserError:
        """Return the error that says for which images, options and weights timm cannot build the model, and why."""
        channels, height, width = shape
        choice = f"model_options {self.options.model_options}"
        if weights is not None:
            choice = f"{choice} and weights from {weights.path}"
        message = " ".join(str(error).split())
        return UserError(
            f"{self.full_name}: timm cannot make it for {channels}×{height}×{width} images with {choice}: "
            f"{type(error).__name__}: {message}"
        )

    def _create(self, shape: tuple[int, int, int], num_classes: int, weights: WeightFile | None) -> nn.Module:
        """Create the model, with `img_size` if its constructor takes it: only a call shows whether it does."""
        import timm

        channels, *size = shape
        arguments: dict[str, Any] = {"pretrained": weights is not None, "num_classes": num_classes, "in_chans": channels}
        if weights is not None:
            arguments["pretrained_cfg_overlay"] = {"file": str(weights.path), "custom_load": weights.custom_load}
        options = self.options.model_options
        try:
            return timm.create_model(self.model, **arguments, **{"img_size": tuple(size), **options})
        except TypeError as error:
            if "img_size" in options or "'img_size'" not in str(error):
                raise
            return timm.create_model(self.model, **arguments, **options)


def _logits_shape(model: nn.Module, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of the output for one image; change neither running statistics nor random generators."""
    import torch

    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, *shape))
    model.train()
    return tuple(logits.shape)
