"""Where units stand in activations: the place of every kind of group, and layouts at any number of images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from basin.matching.toy_networks import FACTORIES, SHAPE, TokenMixer, batchnorm_resnet, built
from harness import TaskFailed
from harness_basin.matching import UnknownOperation, permute, random_permutations
from harness_basin.matching.activation.activations import recorded_activations
from harness_basin.matching.activation.features import Feature, FeatureMap, find_features
from harness_basin.matching.symmetry import unit_map
from harness_vision.resnet20_network import ResNet20Network
from harness_vision.vit_network import ViTNetwork


def resnet20() -> nn.Module:
    """Return a narrow ResNet20."""
    return ResNet20Network(4, (3, 8, 8), 10)


def vit() -> nn.Module:
    """Return a ViT of two blocks with two heads."""
    return ViTNetwork((3, 8, 8), 4, patch=4, width=16, mlp=12, depth=2, heads=2, dropout=0.0, attention_dropout=0.0)


NETWORKS: dict[str, Callable[[], nn.Module]] = {**FACTORIES, "resnet20": resnet20, "vit": vit}


def places(features: FeatureMap) -> dict[str, list[str]]:
    """Return the places of every feature as text, by the name of its group. Later groups of a name are appended."""
    found: dict[str, list[str]] = {}
    for feature in features.features:
        name = features.symmetry.groups[feature.group].name
        found.setdefault(name, []).extend(str(place) for place in feature.places)
    return found


def residual_streams(features: FeatureMap) -> list[str]:
    """Return the names of the groups that are residual streams."""
    return [features.symmetry.groups[one.group].name for one in features.features if one.residual]


def test_places_of_resnet20() -> None:
    """Inner units after the ReLU of the first normalization, streams after addition and ReLU of the group's last block."""
    features = find_features(built(resnet20), torch.randn(SHAPE))
    found = places(features)
    assert len(found) == 12
    assert residual_streams(features) == ["conv1.weight[0]", "groups.1.0.conv2.weight[0]", "groups.2.0.conv2.weight[0]"]
    assert found["conv1.weight[0]"] == ["groups.0.2.norm2 (aten.relu.default)"]
    assert found["groups.1.0.conv2.weight[0]"] == ["groups.1.2.norm2 (aten.relu.default)"]
    assert found["groups.0.1.conv1.weight[0]"] == ["groups.0.1.norm1 (aten.relu.default)"]
    assert found["groups.2.2.conv1.weight[0]"] == ["groups.2.2.norm1 (aten.relu.default)"]


def test_places_of_the_vit() -> None:
    """The stream after the last block, MLP units after GELU, queries and keys both, values after attention."""
    features = find_features(built(vit), torch.randn(SHAPE))
    found = places(features)
    assert residual_streams(features) == ["class_token[2]"]
    assert found["class_token[2]"] == ["blocks.1 (aten.add.Tensor)"]
    assert found["blocks.0.linear1.weight[0]"] == ["blocks.0 (aten.gelu.default)"]
    queries, keys, values = found["blocks.0.attention.qkv.weight[0]"]
    assert queries == keys == "blocks.0.attention (aten._unsafe_view.default)"
    assert values == "blocks.0.attention (aten.bmm.default)"


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        ("convolutional", "0.weight[0]", ["2 (aten.relu.default)"]),  # before pooling
        ("grouped", "1.grouped.weight[0]", ["1 (aten.mul.Tensor)"]),  # after squeeze-and-excitation
        ("dense", "third.weight[0]", ["the network (aten.glu.default)"]),
        ("torch transformer", "layer.linear1.weight[0]", ["layer (aten.relu.default)"]),
    ],
)
def test_places_of_other_networks(name: str, group: str, expected: list[str]) -> None:
    """The last operation that computes the units, not one that only moves or pools them."""
    assert places(find_features(built(NETWORKS[name]), torch.randn(SHAPE)))[group] == expected


def test_places_with_operations_in_place() -> None:
    """Additions and activation functions in place are places as well."""
    found = places(find_features(built(batchnorm_resnet), torch.randn(SHAPE)))
    assert found["0.weight[0]"] == ["4 (aten.relu_.default)"]
    assert found["3.conv1.weight[0]"] == ["3 (aten.relu_.default)"]
    assert found["5.weight[0]"] == ["8 (aten.relu_.default)"]


@pytest.mark.parametrize("images", [2, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_activations_follow_permutations(name: str, images: int) -> None:
    """At every place, a permuted network has the activations of the given one in the permuted order."""
    network = built(NETWORKS[name]).double()
    inputs = torch.randn(images, *SHAPE[1:], dtype=torch.float64)
    features = find_features(network, inputs)
    symmetry = features.symmetry
    permutations = random_permutations(symmetry, 3)
    before = recorded_activations(network, inputs, features)
    network.load_state_dict(permute(symmetry, permutations, network.state_dict()))
    after = recorded_activations(network, inputs, features)
    for feature in features.features:
        for place in feature.places:
            assert before[place].shape[1] == torch.Size(symmetry.shape(feature.group)).numel()
            units = unit_map(symmetry, permutations, symmetry.path(feature.group)).flatten()
            expected = before[place][:, units]
            torch.testing.assert_close(after[place], expected, atol=1e-9, rtol=1e-9)


def test_places_that_other_groups_permute() -> None:
    """Dimensions that all heads share, and hidden units of tokens at every channel, are found for a second step."""
    features = find_features(built(NETWORKS["normalized attention"]), torch.randn(SHAPE))
    assert [features.symmetry.groups[one.group].size for one in features.dependent] == [8, 8]
    assert [str(place) for place in features.dependent[0].places] == ["attention.0 (aten.view.default)"] * 2
    mixer = find_features(built(TokenMixer), torch.randn(SHAPE))
    assert [str(one.places[0]) for one in mixer.dependent] == ["mixer.1 (aten.gelu.default)"]
    assert features.unplaced == mixer.unplaced == ()
    assert mixer.of_dependent().features == mixer.dependent


def test_activations_are_those_of_the_module() -> None:
    """The positions of an activation are all images and pixels, in order."""
    network = built(NETWORKS["convolutional"])
    inputs = torch.randn(SHAPE)
    features = find_features(network, inputs)
    expected = network[:3](inputs).permute(0, 2, 3, 1).reshape(-1, 6)
    first: Feature = features.features[0]
    torch.testing.assert_close(recorded_activations(network, inputs, features)[first.places[0]], expected)


class Conditional(nn.Module):
    """Applies one layer more to bright images or to more than two images."""

    def __init__(self, batch: bool) -> None:
        super().__init__()
        self.batch = batch
        self.hidden = nn.Linear(192, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.hidden(x.flatten(1))
        if (len(x) > 2) if self.batch else (float(x.mean()) > 0.5):
            y = torch.relu(y)
        return self.head(y)


def test_operations_that_depend_on_the_number_of_images() -> None:
    """They are refused, because numbers of operations would differ."""
    with pytest.raises(UnknownOperation, match=r"^the network's operations depend on the number of images; its activations"):
        find_features(Conditional(True), torch.randn(SHAPE))


def test_operations_that_depend_on_the_images() -> None:
    """The run that differs fails with both operations."""
    network = Conditional(False)
    features = find_features(network, torch.zeros(SHAPE))
    message = r"^activations: operation 5 of the network is aten\.relu\.default on these images and was aten\.t\.default before"
    with pytest.raises(TaskFailed, match=message):
        recorded_activations(network, torch.ones(SHAPE), features)


def test_network_that_stops_early() -> None:
    """Fewer operations than expected are a difference as well."""
    network = Conditional(False)
    features = find_features(network, torch.zeros(SHAPE))
    network.head = nn.Identity()
    with pytest.raises(TaskFailed, match=r"^activations: operation \d+ of the network is none on these images and was aten\."):
        recorded_activations(network, torch.zeros(SHAPE), features)
