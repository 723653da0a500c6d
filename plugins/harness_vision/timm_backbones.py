"""`timm/<name>`: any model of timm (Wightman 2019), with a head for the data set's classes and for images of its size."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from harness import Architecture, Options, UserError

if TYPE_CHECKING:
    from torch import nn

TIMEOUT = 10.0
"""Seconds that the hub of pretrained weights may stay silent."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

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

    @classmethod
    def variants(cls) -> Iterable[str]:
        """Return all names that timm knows, without tags."""
        import timm

        return timm.list_models()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """As for any family; with pretrained weights the variant names their tag, timm's default if the user named none."""
        variant = self.model
        if self.options.pretrained and "." not in variant:
            import timm

            weights = timm.get_pretrained_cfg(variant)  # None: timm knows no such model
            variant = f"{variant}.{weights.tag}" if weights and weights.tag else variant
        return {**super().identity, "variant": variant}

    @property
    def model(self) -> str:
        """timm's name of the model, the family's variant."""
        return str(self.variant)

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the model: (batch, *shape) to logits (batch, classes); raise `UserError` if timm cannot make it so."""
        if self.options.pretrained:
            self._check_weights()
        try:
            model = self._create(shape, classes)
            logits = _logits_shape(model, shape)
        except Exception as error:  # model code: whatever it raises, the user named the model and its options
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            channels, height, width = shape
            raise UserError(
                f"timm/{self.model}: timm cannot make it for {channels}×{height}×{width} images with model_options "
                f"{self.options.model_options}: {reason}"
            ) from None
        if logits != (1, classes):
            raise UserError(f"timm/{self.model}: gives {logits} for one image, expected (1, {classes}); choose a classifier")
        return model

    def _create(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Create the model for this image size, if it depends on one: its constructor alone knows whether it does."""
        import timm

        channels, *size = shape
        ours = {"pretrained": self.options.pretrained, "num_classes": classes, "in_chans": channels}
        theirs = self.options.model_options
        try:
            return timm.create_model(self.model, **ours, **{"img_size": tuple(size), **theirs})
        except TypeError as error:
            if "img_size" in theirs or "'img_size'" not in str(error):
                raise
            return timm.create_model(self.model, **ours, **theirs)

    def _check_weights(self) -> None:
        """Refuse at once what timm and huggingface_hub would try for a minute: weights that are not there, with no network."""
        import timm
        from huggingface_hub import constants, try_to_load_from_cache

        if not timm.is_model_pretrained(self.model):
            raise UserError(f"timm/{self.model}: timm has no pretrained weights for it; set `pretrained: false`")
        weights = timm.get_pretrained_cfg(self.model)
        hub = weights.hf_hub_id if weights else None
        if not hub or any(isinstance(try_to_load_from_cache(hub, file), str) for file in WEIGHT_FILES):
            return
        try:
            with urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=TIMEOUT):
                pass
        except urllib.error.HTTPError:
            pass  # it answers: let timm say what is wrong
        except OSError as error:
            raise UserError(
                f"timm/{self.model}: its weights are not on this machine and {constants.ENDPOINT} cannot be reached "
                f"({getattr(error, 'reason', error)}); run `hf download {hub}` where it can be, and copy what that puts "
                f"into {constants.HF_HUB_CACHE}"
            ) from None


def _logits_shape(model: nn.Module, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of the output for one image; batch statistics and random generators are left alone."""
    import torch

    model.eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, *shape))
    model.train()
    return tuple(logits.shape)
