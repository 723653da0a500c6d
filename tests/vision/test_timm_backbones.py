"""timm's models behind one name: sizes and heads fitted to the data, keys that say which weights, errors in one line."""

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


def refusal(architecture: TimmBackbone, shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    with pytest.raises(UserError) as caught:
        architecture.build(shape, 10)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
def test_fits_the_data_set(variant: str, shape: tuple[int, int, int]) -> None:
    """Any channels and image size, as many logits as classes; in training mode, as networks come."""
    network = backbone(variant).build(shape, 7)
    assert network.training
    assert network.eval()(torch.randn(2, *shape)).shape == (2, 7)


def test_is_timm_s_own_model() -> None:
    """The same weights as `timm.create_model` draws from the same seed."""
    torch.manual_seed(0)
    ours = backbone("resnet18").build((3, 32, 32), 7)
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=7)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


@pytest.mark.parametrize("variant", ["resnet18", "test_vit"])
def test_build_is_a_function_of_the_stream(variant: str) -> None:
    """Two builds from one stream are equal, whether or not the model takes an image size."""
    states = []
    for _ in range(2):
        with streams.seeded(7):
            states.append(backbone(variant).build((3, 32, 32), 10).state_dict())
        torch.randn(3)
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states)))


def test_batch_statistics_are_untouched() -> None:
    """The trial forward pass leaves no trace in BatchNorm."""
    state = backbone("resnet18").build((3, 32, 32), 10).state_dict()
    assert state["bn1.num_batches_tracked"] == 0
    assert not state["bn1.running_mean"].any()


def test_model_options_reach_timm() -> None:
    """Scalars, lists and null, which timm takes for its default."""
    network = backbone("resnet18", model_options={"layers": [1, 1, 1, 1], "drop_rate": 0.1, "act_layer": None}).build(
        (3, 32, 32), 10
    )
    assert len(network.get_submodule("layer1")) == 1  # type: ignore[arg-type]
    assert network.drop_rate == 0.1
    patches = backbone("test_vit", model_options={"patch_size": 4}).build((3, 32, 32), 10).get_parameter("pos_embed").shape[1]
    assert patches == 8 * 8 + 1


def test_variants() -> None:
    """All that timm lists, without tags."""
    names = list(TimmBackbone.variants())
    assert {"resnet18", "vit_tiny_patch16_224"} <= set(names)
    assert not [name for name in names if "." in name]


def test_identity() -> None:
    """Name, variant and options."""
    assert backbone("resnet18").identity == {
        "name": "timm/<name>",
        "version": 1,
        "options": {"pretrained": False, "model_options": {}},
        "variant": "resnet18",
    }


def test_pretrained_identity_says_which_weights() -> None:
    """timm's default tag is written out, so naming it or not gives one key."""
    default = timm.get_pretrained_cfg("resnet18").tag  # type: ignore[union-attr]
    assert default
    named, unnamed = backbone(f"resnet18.{default}", pretrained=True), backbone("resnet18", pretrained=True)
    assert named.identity == unnamed.identity
    assert unnamed.identity["variant"] == f"resnet18.{default}"
    assert backbone("nonsense", pretrained=True).identity["variant"] == "nonsense"
    assert "weights" not in unnamed.identity


def test_full_name() -> None:
    """Messages name the member, not the family."""
    assert backbone("resnet18").full_name == "timm/resnet18"
    assert backbone("resnet18.a1_in1k", pretrained=True).full_name == "timm/resnet18.a1_in1k"


@pytest.mark.parametrize("name", NOT_OPTIONS)
def test_options_that_are_not_the_models(name: str) -> None:
    """What the data set or the family says cannot be said again; the message says why."""
    with pytest.raises(ValueError, match=f"'{name}' cannot be a model option: {NOT_OPTIONS[name]}"):
        TimmOptions(model_options={name: 1})


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], float("inf")])
def test_values_that_no_key_can_hold(value: object) -> None:
    """Only scalars and lists of them."""
    with pytest.raises(ValueError, match="model_options"):
        TimmOptions.model_validate({"model_options": {"x": value}})


def test_unknown_model_option() -> None:
    """One line with the model, the options given and what timm says."""
    assert refusal(backbone("resnet18", model_options={"drop_pth": 0.1})) == (
        "timm/resnet18: timm cannot make it for 3×32×32 images with model_options {'drop_pth': 0.1}: "
        "TypeError: ResNet.__init__() got an unexpected keyword argument 'drop_pth'"
    )


def test_unknown_model() -> None:
    """One line."""
    assert refusal(backbone("resnet99")).startswith("timm/resnet99: timm cannot make it for 3×32×32 images")


def test_images_too_small() -> None:
    """A model that cannot see such images is refused when it is made, not when it is trained."""
    message = refusal(backbone("test_vit"), (3, 8, 8))
    assert message.startswith("timm/test_vit: timm cannot make it for 3×8×8 images with model_options {}: ")


def test_image_size_that_contradicts_the_data() -> None:
    """The user's own image size is taken, and refused if the images have another."""
    assert "Input height (32) doesn't match model (64)" in refusal(
        backbone("vit_tiny_patch16_224", model_options={"img_size": 64, "depth": 1})
    )


def test_no_classifier() -> None:
    """A model whose output is not one logit per class is refused."""
    message = refusal(backbone("test_vit", model_options={"global_pool": ""}))
    assert message == "timm/test_vit: gives (1, 5, 10) for one image, expected (1, 10); choose a classifier"
