"""`harness.load_member`: the network of a published member, without a store."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

import harness
import toys
from bundles.toy_bundles import copied, edit_json, first_member
from harness.bundles.bundle import open_bundle
from harness.bundles.digests import digest_of


def load(path: Path) -> torch.nn.Module:
    """Load a member of toys."""
    return harness.load_member(path, catalogue=toys.catalogue())


def test_module_is_the_run_member(toy_run: harness.Run, toy_bundle: Path) -> None:
    """It gives the same logits as the member of the run, in evaluation mode."""
    images = torch.linspace(-1, 1, 32).view(2, 1, 4, 4)
    for member in toy_run.members(method="permuted"):
        network = load(toy_bundle / "members" / member.key)
        assert not network.training
        assert torch.equal(network(images), member.module(catalogue=toys.catalogue())(images))


def test_folder_by_itself(toy_bundle: Path, tmp_path: Path) -> None:
    """A member's folder needs no bundle around it, and may be given as text or through links, as Hugging Face's cache does."""
    shutil.copytree(first_member(toy_bundle), tmp_path / "member")
    (tmp_path / "links").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "links" / name).symlink_to(tmp_path / "member" / name)
    assert (
        load(tmp_path / "links").state_dict().keys()
        == harness.load_member(str(tmp_path / "member"), catalogue=toys.catalogue()).state_dict().keys()
    )


def test_home_folder(toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading `~` is the home folder, as in every path that users give."""
    monkeypatch.setenv("HOME", str(tmp_path))
    bundle = copied(toy_bundle, tmp_path / "bundle")
    member = first_member(bundle)
    assert harness.load_member(f"~/bundle/members/{member.name}", catalogue=toys.catalogue()) is not None
    assert open_bundle("~/bundle").folder == bundle


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "load_member: the path is empty; name a file or folder"),
        (
            "~nobody-here/x",
            "load_member ~nobody-here/x: there is no user 'nobody-here' here; write the path in full, or ./~nobody-here/x for "
            "a folder of that name",
        ),
    ],
)
def test_paths_that_name_nothing(path: str, expected: str) -> None:
    """One line says what is wrong with the path."""
    with pytest.raises(harness.UserError) as error:
        harness.load_member(path)
    assert str(error.value) == expected


def refusal(path: Path) -> str:
    """Return the message for a folder that cannot be loaded."""
    with pytest.raises(harness.UserError) as error:
        load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bundle_instead_of_a_member(toy_bundle: Path) -> None:
    """The message names a member."""
    expected = f"it is a bundle with 6 members; name one of them, such as {first_member(toy_bundle)}"
    assert refusal(toy_bundle) == f"{toy_bundle}: no config.json; {expected}"


def test_folder_without_a_member(tmp_path: Path) -> None:
    """The message says which files are expected."""
    expected = "no config.json; name the folder of a published member, with model.safetensors and config.json"
    assert refusal(tmp_path) == f"{tmp_path}: {expected}"


def test_weights_that_are_missing_or_cut(toy_bundle: Path, tmp_path: Path) -> None:
    """The message gives the sizes."""
    member = first_member(copied(toy_bundle, tmp_path / "bundle"))
    weights = member / "model.safetensors"
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-3])
    assert refusal(member) == f"{weights}: has {size - 3} bytes, not {size}; was it cut short?"
    weights.unlink()
    assert refusal(member) == f"{weights}: not there"


def test_changed_bit(toy_bundle: Path, tmp_path: Path) -> None:
    """The digest in config.json tells."""
    member = first_member(copied(toy_bundle, tmp_path / "bundle"))
    weights = member / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert refusal(member) == f"{weights}: does not match its digest; was it changed?"


def test_pickle_instead_of_weights(toy_bundle: Path, tmp_path: Path) -> None:
    """With a digest that fits, it is refused, and its code does not run."""
    member = first_member(copied(toy_bundle, tmp_path / "bundle"))
    weights = member / "model.safetensors"

    class Attack:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return os.mkdir, (str(tmp_path / "attacked"),)

    weights.write_bytes(pickle.dumps(Attack()))
    edit_json(member / "config.json", lambda facts: facts["weights"].update(digest_of(weights).to_json()))
    assert refusal(member).startswith(f"{weights}: is not safetensors (")
    assert not (tmp_path / "attacked").exists()


def test_huge_file(toy_bundle: Path, tmp_path: Path) -> None:
    """A file that is larger than the network's tensors is not read, whatever config.json says."""
    member = first_member(copied(toy_bundle, tmp_path / "bundle"))
    weights = member / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(2**40)
    edit_json(member / "config.json", lambda facts: facts["weights"].update(bytes=2**40))
    assert refusal(member) == f"{weights}: has {2**40} bytes, more than the network's tensors take; it is not read"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"format": 2}, "format is 2; this version of basin-harness reads format 1: install a newer one"),
        ({"format": "x"}, "format is 'x'; a bundle of `harness publish` has format 1"),
        ({"key": "../x"}, "describes no member (ValueError: key '../x' is not 64 hexadecimal digits); was it changed?"),
        ({"shape": [1, 4]}, "describes no member (ValueError: not enough values"),
        ({"shape": [1, 4, -4]}, "describes no member (ValueError: shape -4 is no number from 1); was it changed?"),
        (
            {"architecture": "x"},
            "describes no member (ValueError: architecture 'x' is no plugin with name, version and options)",
        ),
        ({"weights": None}, "describes no member (TypeError: "),
    ],
)
def test_configuration_that_cannot_be_used(toy_bundle: Path, tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    """One line says what is wrong with it."""
    member = first_member(copied(toy_bundle, tmp_path / "bundle"))
    edit_json(member / "config.json", lambda facts: facts.update(changes))
    assert expected in refusal(member)


def test_plugin_that_is_not_installed(toy_bundle: Path) -> None:
    """The architecture is named."""
    with pytest.raises(harness.UserError, match="unknown architecture 'perceptron'"):
        harness.load_member(first_member(toy_bundle))


def test_other_options(toy_bundle: Path, tmp_path: Path) -> None:
    """Weights that do not fit the network that config.json describes are refused."""
    member = first_member(copied(toy_bundle, tmp_path / "bundle"))
    edit_json(member / "config.json", lambda facts: facts["architecture"]["options"].update(width=11))
    expected = "'1.weight' is float32 (12, 16), the network's float32 (11, 16); is it of another architecture?"
    assert refusal(member) == f"{member / 'model.safetensors'}: {expected}"
    assert json.loads((member / "config.json").read_text())["num_classes"] == 4
