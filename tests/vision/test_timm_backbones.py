"""Models of timm: image sizes and heads that fit the data, identities with the tag of the weights, errors in one line."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from harness import UserError, streams
from harness_vision.timm_backbones import NOT_OPTIONS, TimmBackbone, TimmOptions


def backbone(variant: str, **options: Any) -> TimmBackbone:
    architecture = TimmBackbone(TimmOptions.model_validate(options))
    architecture.variant = variant
    return architecture


def build_error(architecture: TimmBackbone, shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    """Return the message, one line, with which building fails."""
    with pytest.raises(UserError) as caught:
        architecture.build(shape, 10)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_equal_states(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for a, b in zip(one.values(), other.values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        ("resnet18", (3, 32, 32)),
        ("resnet18", (1, 8, 8)),
        ("test_efficientnet", (3, 32, 32)),
        ("test_vit", (3, 32, 32)),
        ("test_vit", (3, 64, 32)),
        ("test_vit.r160_in1k", (3, 32, 32)),
        ("convnext_atto", (3, 64, 64)),
    ],
)
def test_channels_image_size_and_classes(variant: str, shape: tuple[int, int, int]) -> None:
    """The network takes the images and gives a logit per class; it is in training mode."""
    network = backbone(variant).build(shape, 7)
    assert network.training
    assert network.eval()(torch.randn(2, *shape)).shape == (2, 7)


def test_same_model_as_timm_creates() -> None:
    """The weights are those of `timm.create_model` for the same seed."""
    torch.manual_seed(0)
    ours = backbone("resnet18").build((3, 32, 32), 7)
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=7)
    assert_equal_states(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("variant", ["resnet18", "test_vit"])
def test_build_is_a_function_of_the_stream(variant: str) -> None:
    """Two builds from one random stream are equal, whether or not the model takes an image size."""
    states = []
    for _ in range(2):
        with streams.seeded(7):
            states.append(backbone(variant).build((3, 32, 32), 10).state_dict())
        torch.randn(3)
    assert_equal_states(*states)


def test_running_statistics_are_unchanged() -> None:
    """The forward pass that finds the shape of the logits does not update BatchNorm."""
    state = backbone("resnet18").build((3, 32, 32), 10).state_dict()
    assert state["bn1.num_batches_tracked"] == 0
    assert not state["bn1.running_mean"].any()


def test_model_options_reach_timm() -> None:
    """Scalars and lists are passed on, and null, which timm reads as its default."""
    options = {"layers": [1, 1, 1, 1], "drop_rate": 0.1, "act_layer": None}
    resnet = backbone("resnet18", model_options=options).build((3, 32, 32), 10)
    assert len(resnet.get_submodule("layer1")) == 1  # type: ignore[arg-type]
    assert resnet.drop_rate == 0.1
    vit = backbone("test_vit", model_options={"patch_size": 4}).build((3, 32, 32), 10)
    assert vit.get_parameter("pos_embed").shape[1] == 8 * 8 + 1


def test_variants() -> None:
    """They are the models that timm lists, without tags."""
    names = list(TimmBackbone.variants())
    assert {"resnet18", "vit_tiny_patch16_224"} <= set(names)
    for name in names:
        assert "." not in name


def test_identity() -> None:
    """It has name, version, options and variant."""
    assert backbone("resnet18").identity == {
        "name": "timm/<name>",
        "version": 2,
        "options": {"pretrained": False, "model_options": {}},
        "variant": "resnet18",
    }


def test_identity_of_pretrained_weights() -> None:
    """It has timm's default tag, so that naming the tag or not gives one key."""
    default = timm.get_pretrained_cfg("resnet18").tag  # type: ignore[union-attr]
    assert default
    named = backbone(f"resnet18.{default}", pretrained=True)
    unnamed = backbone("resnet18", pretrained=True)
    assert named.identity == unnamed.identity
    assert unnamed.identity["variant"] == f"resnet18.{default}"
    assert backbone("nonsense", pretrained=True).identity["variant"] == "nonsense"
    assert "weights" not in unnamed.identity


def test_full_name() -> None:
    """Messages name the variant, not the family."""
    assert backbone("resnet18").full_name == "timm/resnet18"
    assert backbone("resnet18.a1_in1k", pretrained=True).full_name == "timm/resnet18.a1_in1k"


@pytest.mark.parametrize("name", NOT_OPTIONS)
def test_reserved_model_options(name: str) -> None:
    """They are refused with the reason."""
    with pytest.raises(ValueError, match=f"'{name}' cannot be a model option: {NOT_OPTIONS[name]}"):
        TimmOptions(model_options={name: 1})


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], float("inf")])
def test_model_options_that_are_no_scalars(value: object) -> None:
    """Only finite scalars and lists of them are accepted."""
    with pytest.raises(ValueError, match="model_options"):
        TimmOptions.model_validate({"model_options": {"x": value}})


def test_unknown_model_option() -> None:
    """The message has the model, the image size, the options and timm's error."""
    assert build_error(backbone("resnet18", model_options={"drop_pth": 0.1})) == (
        "timm/resnet18: timm cannot make it for 3×32×32 images with model_options {'drop_pth': 0.1}: "
        "TypeError: ResNet.__init__() got an unexpected keyword argument 'drop_pth'"
    )


def test_unknown_model() -> None:
    """The message, one line, has the model and the image size."""
    assert build_error(backbone("resnet99")).startswith("timm/resnet99: timm cannot make it for 3×32×32 images")


def test_images_too_small() -> None:
    """The model is refused when it is built, not when it is trained."""
    message = build_error(backbone("test_vit"), (3, 8, 8))
    assert message.startswith("timm/test_vit: timm cannot make it for 3×8×8 images with model_options {}: ")


def test_image_size_that_contradicts_the_data() -> None:
    """The user's image size is passed on, and refused if the images have another."""
    assert "Input height (32) doesn't match model (64)" in build_error(
        backbone("vit_tiny_patch16_224", model_options={"img_size": 64, "depth": 1})
    )


def test_no_classifier() -> None:
    """A model that does not return one logit per class is refused."""
    message = build_error(backbone("test_vit", model_options={"global_pool": ""}))
    assert message == "timm/test_vit: gives (1, 5, 10) for one image, expected (1, 10); choose a classifier"
