"""Pretrained weights: their bytes are part of the key, and the network is built from the file that was hashed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import timm
import torch
import torch.hub

from harness import UserError
from harness.benchmark import load_benchmark
from harness.execution.plugin_calls import make_architecture
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue
from harness_vision.pretrained import read_digest
from vision.pretrained_weights import (
    BENCHMARK,
    BY_URL,
    TAGGED,
    backbone,
    different_tensors,
    located,
    location_error,
    put_weights,
    sha256,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("hub")

# The key


@pytest.mark.parametrize("link", [False, True])
def test_weights_replaced_under_one_tag(hub: Path, link: bool) -> None:
    """The identity changes with the bytes, and returns when the first bytes are back."""
    digests = []
    identities = []
    for seed in (0, 1, 0):
        digests.append(sha256(put_weights(hub, seed, link=link)))
        identities.append(located().identity)
    assert [identity["weights"] for identity in identities] == [f"sha256:{digest}" for digest in digests]
    assert identities[0] == identities[2] != identities[1]
    assert identities[0]["variant"] == TAGGED


def test_plans_with_different_bytes(hub: Path, tmp_path: Path) -> None:
    """The tasks of the pretrained network have other keys; those of the other network keep theirs."""
    path = tmp_path / "b.yaml"
    path.write_text(BENCHMARK)
    benchmark = load_benchmark(path, load_catalogue())
    keys = []
    digests = []
    for seed in (0, 1):
        put_weights(hub, seed)
        graph = plan(benchmark.located(tmp_path))
        keys.append([cell.key for cell in graph.cells])
        digests.append(graph.benchmark.resolved()["architectures"][0]["weights"])
    (pretrained, plain), (pretrained_again, plain_again) = keys
    assert pretrained != pretrained_again
    assert plain == plain_again
    assert digests[0] != digests[1]


def test_digest_is_computed_once(tmp_path: Path) -> None:
    """A file of the same size and modification time is not read again; another time makes it read."""
    path = tmp_path / "file"
    path.write_bytes(b"first")
    first = read_digest(path, "x")
    time = path.stat().st_mtime_ns
    path.write_bytes(b"other")
    os.utime(path, ns=(time, time))
    assert read_digest(path, "x") == first
    os.utime(path, ns=(time, time + 1))
    assert read_digest(path, "x") == hashlib.sha256(b"other").hexdigest()


def test_random_weights_need_no_file() -> None:
    """Without `pretrained` the architecture is located as it is, and has no digest."""
    plain = backbone(pretrained=False)
    assert plain.located(Path()) is plain
    assert "weights" not in plain.identity


def test_check_needs_no_weights(tmp_path: Path) -> None:
    """A plan without `located`, which `harness check` makes, has no problems."""
    (tmp_path / "b.yaml").write_text(BENCHMARK)
    cells = plan(load_benchmark(tmp_path / "b.yaml", load_catalogue())).cells
    assert [cell.problem for cell in cells] == ["", ""]


# The network


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_network_has_the_weights_of_the_file(hub: Path, filename: str) -> None:
    """All tensors but the classifier's are those of the file, read through a link."""
    put_weights(hub, 3, link=True, filename=filename)
    state = located().build((3, 32, 32), 10).state_dict()
    assert different_tensors(state, weights_of(3)) == {"fc.weight", "fc.bias"}


def test_safetensors_file_is_preferred(hub: Path) -> None:
    """Of two files the safetensors file is used, as timm does."""
    put_weights(hub, 1, filename="pytorch_model.bin")
    safetensors = put_weights(hub, 2)
    assert located().identity["weights"] == f"sha256:{sha256(safetensors)}"


def test_one_channel_and_other_classes(hub: Path) -> None:
    """The first convolution is summed over the file's three channels, and the classifier is new."""
    put_weights(hub, 3)
    network = located().build((1, 32, 32), 7)
    assert network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    name = next(iter(weights_of(3)))
    torch.testing.assert_close(network.state_dict()[name], weights_of(3)[name].sum(1, keepdim=True))


def test_file_changed_after_it_was_located(hub: Path) -> None:
    """The network is not built: its key was computed from other bytes."""
    path = put_weights(hub, 0)
    architecture = located()
    old = sha256(path)
    new = sha256(put_weights(hub, 1))
    with pytest.raises(UserError, match=f"changed while it was in use: its sha256 was {old} and is {new}; run again"):
        architecture.build((3, 32, 32), 10)


def test_worker_with_other_bytes(hub: Path) -> None:
    """The message, one line, has the model, both digests and the file."""
    expected = sha256(put_weights(hub, 0))
    identity = located().identity
    catalogue = load_catalogue()
    assert make_architecture(catalogue, identity, Path()).identity == identity
    path = put_weights(hub, 1)
    with pytest.raises(UserError) as caught:
        make_architecture(catalogue, identity, Path())
    assert str(caught.value) == (
        f"timm/{TAGGED}: the task was made for pretrained weights sha256:{expected}, {path} holds sha256:{sha256(path)}; "
        "copy the file from the machine that planned, or start the run again"
    )


def test_weights_at_a_plain_url() -> None:
    """They are looked for in torch.hub's folder, under the last part of the URL."""
    assert location_error(BY_URL).startswith(
        f"timm/{BY_URL}: its weights are not on this machine and https://github.com cannot be reached "
        "(no network in tests); put https://github.com/"
    )
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    url = timm.get_pretrained_cfg(BY_URL).url  # type: ignore[union-attr]
    path = folder / url.rpartition("/")[2]
    torch.save(timm.create_model(BY_URL).state_dict(), path)
    architecture = located(BY_URL)
    assert architecture.identity["weights"] == f"sha256:{sha256(path)}"
    state = architecture.build((3, 32, 32), 10).state_dict()
    assert different_tensors(state, torch.load(path)) == {"last_linear.weight", "last_linear.bias"}
