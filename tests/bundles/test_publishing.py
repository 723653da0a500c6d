"""`harness publish`: what a bundle holds, and what happens to folders that cannot take one."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

import harness
import toys
from bundles.toy_bundles import copied, differences, first_member, publish_toys, run_toys
from harness.bundles.bundle import EnsembleEntry
from harness.bundles.digests import digest_of
from harness.bundles.layout import REQUIRED
from harness.bundles.member_config import read_config
from harness.bundles.model_card import model_card
from harness.bundles.run_files import page_of, published_rows
from harness.bundles.target_folder import require_space
from harness.results.rows import load_rows
from harness.runs.run import open_run


def files_of(bundle: Path) -> dict[str, bytes]:
    """Return the content of every file by its path in the bundle."""
    return {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_files_of_a_bundle(toy_run: harness.Run, toy_bundle: Path) -> None:
    """It has the files of the layout, and a folder per different network: methods share one member per seed."""
    names = set(files_of(toy_bundle))
    keys = {member.key for member in toy_run.members()}
    assert len(toy_run.members()) == 8
    assert len(keys) == 6
    members = {f"members/{key}/{name}" for key in keys for name in ("model.safetensors", "config.json", "README.md")}
    assert names == {*REQUIRED, "examples.npz", "digests.json"} | members
    assert load_rows(toy_bundle) == load_rows(toy_run.folder)
    assert (toy_bundle / "leaderboard.md").read_bytes() == (toy_run.folder / "leaderboard.md").read_bytes()
    assert json.loads((toy_bundle / "benchmark.json").read_text())["name"] == "toy"
    listed = json.loads((toy_bundle / "digests.json").read_text())["files"]
    assert listed.keys() == names - {"digests.json"}
    for name, digest in listed.items():
        assert digest == digest_of(toy_bundle / name).to_json()


def test_weights_of_a_bundle(toy_run: harness.Run, toy_bundle: Path) -> None:
    """They are the store's files, byte by byte."""
    for member in toy_run.members():
        assert (toy_bundle / "members" / member.key / "model.safetensors").read_bytes() == member.path.read_bytes()


def test_estimate_comes_first(toy_run: harness.Run, tmp_path: Path) -> None:
    """Before anything is written, the command says how many networks of what size."""
    said = publish_toys(toy_run, tmp_path / "bundle")
    assert re.fullmatch(r"4 ensembles of 8 members: 6 different networks, [\d.]+ KiB of weights, to .*bundle", said[0])
    assert re.fullmatch(r"published 25 files, [\d.]+ KiB, in .*bundle", said[-1])


def test_publishing_twice_gives_the_same_bytes(toy_run: harness.Run, toy_bundle: Path, tmp_path: Path) -> None:
    """In a new folder, and in one that holds the bundle already."""
    publish_toys(toy_run, tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(toy_bundle)
    publish_toys(toy_run, tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(toy_bundle)


@pytest.mark.parametrize("missing", ["digests.json", "results.csv", "members"])
def test_bundle_cut_short_is_completed(toy_run: harness.Run, toy_bundle: Path, tmp_path: Path, missing: str) -> None:
    """The same command writes what a killed one did not, and removes its half-written files."""
    partial = copied(toy_bundle, tmp_path / "partial")
    (partial / "digests.json").unlink()
    if missing == "members":
        shutil.rmtree(first_member(partial))
        weights = first_member(partial) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:50])
        (first_member(partial) / f".{'0' * 16}.part").write_bytes(b"half")
    else:
        (partial / missing).unlink(missing_ok=True)
    publish_toys(toy_run, partial)
    assert files_of(partial) == files_of(toy_bundle)


def test_killed_command_is_completed(toy_run: harness.Run, toy_bundle: Path, tmp_path: Path) -> None:
    """A process that is killed while it writes leaves no complete bundle; the same command completes it."""
    target = tmp_path / "bundle"
    code = (
        "import sys; from pathlib import Path; import harness; from bundles.toy_bundles import publish_toys; "
        "publish_toys(harness.open_run(sys.argv[1]), Path(sys.argv[2]))"
    )
    tests = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", code, str(toy_run.folder), str(target)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(target.glob("members/*/config.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    publish_toys(toy_run, target)
    assert files_of(target) == files_of(toy_bundle)


def test_bundle_without_members(toy_run: harness.Run, tmp_path: Path) -> None:
    """It needs no store."""
    target = tmp_path / "bundle"
    run = open_run(toy_run.folder, tmp_path / "no store")
    said = publish_toys(run, target, with_members=False)
    assert "rows alone" in said[0]
    assert set(files_of(target)) == {*REQUIRED, "examples.npz", "digests.json"}
    assert differences(target) == []


def test_model_card(toy_run: harness.Run, toy_bundle: Path) -> None:
    """Hugging Face's library reads its metadata; the text names every ensemble of the network."""
    shared = next(member for member in toy_run.members(method="permuted", seed=0, member=0))
    card = ModelCard.load(toy_bundle / "members" / shared.key / "README.md")
    assert card.data.to_dict()["library_name"] == "basin-harness"
    assert card.data.to_dict()["datasets"] == ["blobs"]
    assert "# perceptron on blobs" in card.text
    assert "| blobs | perceptron | deep | 0 | 0 |" in card.text
    assert "| blobs | perceptron | permuted | 0 | 0 |" in card.text


def test_names_with_markup_in_a_card(toy_bundle: Path) -> None:
    """Labels with quotes, markup, line breaks or 300 letters, as in a run of a stranger, break neither metadata nor table."""
    config = read_config(first_member(toy_bundle))
    labels = ('"; <b>|x|', "a: [b\nc\x1b[31m", "m" * 300)
    entries = [EnsembleEntry(label, label, label, 0, (config.key,)) for label in labels]
    named = dataclasses.replace(config, setting=dataclasses.replace(config.setting, dataset={"name": labels[1], "version": 1}))
    table = [line for line in model_card(config, entries).splitlines() if line.endswith("| 0 | 0 |")]
    assert table[0] == '| "; &lt;b&gt;\\|x\\| | "; &lt;b&gt;\\|x\\| | "; &lt;b&gt;\\|x\\| | 0 | 0 |'
    assert table[1].startswith("| a: \\[b c \\[31m |")
    assert table[2].count("m" * 120 + "…") == 3
    assert ModelCard(model_card(named, entries)).data.to_dict()["datasets"] == ["a: [b c [31m"]


def test_no_absolute_path_and_no_user_name(tmp_path: Path) -> None:
    """Neither folders of this machine nor the user's name are in any file, also where the run was started with them."""
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    run = run_toys(home, seeds=[0])
    facts = json.loads((run.folder / "run.json").read_text())
    facts["command"] = ["/home/alice/venv/bin/harness", "run", f"{home}/my benchmark.yaml", f"--out={run.folder}"]
    facts["failures"] = [{"message": f"{home}/x.bin: not there", "method": "deep"}]
    (run.folder / "run.json").write_text(json.dumps(facts))
    publish_toys(run, tmp_path / "bundle")
    for name, content in files_of(tmp_path / "bundle").items():
        assert b"alice" not in content, name
        assert str(tmp_path).encode() not in content, name
    provenance = json.loads((tmp_path / "bundle" / "provenance.json").read_text())
    assert provenance["run"]["command"] == ["harness", "run", "…/my benchmark.yaml", "--out=…/run"]
    assert provenance["run"]["failures"][0]["message"] == "…/x.bin: not there"
    assert provenance.keys() >= {"python", "packages", "machine", "processor", "git", "plugins", "members"}


@pytest.mark.parametrize(
    "methods",
    [
        [{"deep": {"label": "/home/alice/deep"}}, "permuted"],
        [{"deep": {"label": "C:\\alice\\deep: 1"}}],
        [{"deep": {"label": "deep from /home/alice/x (old)"}}, {"permuted": {"label": "~alice/p"}}],
    ],
)
def test_labels_that_are_paths(tmp_path: Path, methods: list[Any]) -> None:
    """Labels are the same in rows, board, page, benchmark and provenance, and none has the folder: the bundle agrees."""
    run = run_toys(tmp_path, methods=methods, datasets=[{"blobs": {"label": "/home/alice/blobs"}}])
    publish_toys(run, tmp_path / "bundle")
    for name, content in files_of(tmp_path / "bundle").items():
        assert b"alice" not in content, name
    assert differences(tmp_path / "bundle") == []
    assert {row.dataset for row in load_rows(tmp_path / "bundle")} == {"…/blobs"}


def test_training_curves_of_labels_that_are_paths(tmp_path: Path) -> None:
    """The events that the page is drawn from name the methods as the rows do."""
    run = run_toys(tmp_path, methods=[{"deep": {"label": "/home/alice/deep"}}], seeds=[0])
    seen: list[str] = []

    class Names(harness.Figure):
        name = "names"
        version = 1

        def draw(self, source: Any) -> None:
            for training in source.trainings:
                seen.extend(training.methods)

    page_of(run.folder, {}, published_rows(load_rows(run.folder)), {"figure 'names'": Names})
    assert set(seen) == {"…/deep"}


# What is refused


def error_of(run: harness.Run, target: Path, *, with_members: bool = True) -> str:
    """Return the message of a publication that is refused."""
    with pytest.raises(harness.UserError) as error:
        publish_toys(run, target, with_members=with_members)
    return str(error.value)


def test_labels_that_differ_in_folders_alone(tmp_path: Path) -> None:
    """Two ensembles of one place could not be told apart, so nothing is written."""
    methods = [{"deep": {"label": f"deep({folder}/x)"}} for folder in ("/a", "/b")]
    run = run_toys(tmp_path, methods=methods, seeds=[0])
    expected = (
        "method: 'deep(/a/x)' and 'deep(/b/x)' are both 'deep(…/x)' without absolute paths, which a bundle leaves out; give "
        "each a 'label' of its own in the benchmark file, and run it again: nothing is trained again"
    )
    assert error_of(run, tmp_path / "bundle") == expected
    assert not (tmp_path / "bundle").exists()


def test_folder_with_other_files(toy_run: harness.Run, tmp_path: Path) -> None:
    """A file that no bundle has is never overwritten or mixed in."""
    (tmp_path / "notes.txt").touch()
    expected = f"--to {tmp_path}: holds 'notes.txt', which is no file of a bundle; name an empty folder"
    assert error_of(toy_run, tmp_path) == expected


def test_folder_with_another_bundle(toy_run: harness.Run, toy_bundle: Path, tmp_path: Path) -> None:
    """Members of another run are not mixed in."""
    other = copied(toy_bundle, tmp_path / "other")
    first_member(other).rename(other / "members" / ("0" * 64))
    assert error_of(toy_run, other).endswith("members holds '000000000000', a member of another bundle; name an empty folder")


def test_target_that_is_a_file(toy_run: harness.Run, tmp_path: Path) -> None:
    """The message gives the system's reason."""
    (tmp_path / "file").touch()
    assert (
        error_of(toy_run, tmp_path / "file") == f"--to {tmp_path / 'file'}: cannot be written: File exists; name another folder"
    )


def test_run_whose_store_is_gone(toy_run: harness.Run, tmp_path: Path) -> None:
    """The message counts the networks, and says what can be done."""
    message = error_of(open_run(toy_run.folder, tmp_path / "gone"), tmp_path / "bundle")
    assert message.startswith(f"store {tmp_path / 'gone'}: lacks 6 of 6 networks (object ")
    assert message.endswith("; run the benchmark to train them, name another --store, or publish with --no-members")
    assert not (tmp_path / "bundle").exists()


def test_damaged_weights_in_the_store(tmp_path: Path) -> None:
    """Nothing damaged is published."""
    run = run_toys(tmp_path, seeds=[0])
    path = run.members()[0].path
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = error_of(run, tmp_path / "bundle")
    assert message == f"{path}: does not match its digest; run the benchmark to train it again"
    assert not (tmp_path / "bundle" / "digests.json").exists()


def test_folder_without_run_json(toy_run: harness.Run, tmp_path: Path) -> None:
    """Rows alone do not say what was run."""
    shutil.copy(toy_run.folder / "results.csv", tmp_path)
    message = error_of(open_run(tmp_path), tmp_path / "bundle")
    assert message.startswith(f"{tmp_path}: no run.json, so its members and its benchmark are unknown; run the benchmark again")


def test_bundle_of_a_bundle(toy_bundle: Path, tmp_path: Path) -> None:
    """A bundle is no run: the message says so, and what to name."""
    assert error_of(open_run(toy_bundle), tmp_path / "bundle") == (
        f"{toy_bundle}: is a published bundle already; name the folder of a run"
    )


def test_target_behind_a_link(toy_run: harness.Run, tmp_path: Path) -> None:
    """The size is that of the folder's files, not that of the link."""
    said = publish_toys(toy_run, tmp_path / "bundle")
    (tmp_path / "link").symlink_to("bundle")
    assert publish_toys(toy_run, tmp_path / "link")[-1] == said[-1].replace("/bundle", "/link")


def test_run_without_results(tmp_path: Path) -> None:
    """A run of which nothing was measured has nothing to publish."""

    class Failing(harness.EnsembleBuilder):
        """Fails."""

        name = "failing"

        def build(self, cell: harness.Cell) -> list[harness.Weights]:
            raise ValueError("no")

    catalogue = toys.catalogue(("ensemble_builder", Failing))
    run = run_toys(tmp_path, catalogue, methods=["failing"])
    assert error_of(run, tmp_path / "bundle").endswith(
        "no ensemble was measured yet, so there is nothing to publish; run the benchmark first"
    )


def test_ensembles_that_failed_are_left_out(tmp_path: Path) -> None:
    """The others are published, with a warning, and verified."""

    class Broken(harness.Derivation):
        """Fails."""

        name = "broken"

        def derive(self, parents, context):  # type: ignore[no-untyped-def]
            raise ValueError("no")

    class Derived(harness.EnsembleBuilder):
        """Members that cannot be derived."""

        name = "derived"

        def build(self, cell: harness.Cell) -> list[harness.Weights]:
            return [*cell.derive(Broken(), [cell.trajectory(member=0).at(1)])]

    catalogue = toys.catalogue(("ensemble_builder", Derived), ("derivation", Broken))
    run = run_toys(tmp_path, catalogue, methods=["deep", "derived"], seeds=[0])
    said = publish_toys(run, tmp_path / "bundle", catalogue=catalogue)
    assert "warning: 1 members are left out, since no metric of their ensembles was measured" in said
    assert differences(tmp_path / "bundle", catalogue) == []


def test_disk_that_is_too_small(tmp_path: Path) -> None:
    """Nothing is begun that cannot be finished."""
    with pytest.raises(harness.UserError, match=r"8\.0 EiB|TiB are needed, and .* are free there; free some space"):
        require_space(tmp_path, [("weights", 2**60)])


# Uploads


def test_upload_where_the_net_does_not_allow_it(toy_bundle: Path) -> None:
    """One line says so, and how to upload later."""
    code = f"from pathlib import Path\nfrom harness.bundles.hub import upload\nupload(Path({str(toy_bundle)!r}), 'me/toy')"
    for variables, reason in (
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids it"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached: Connection refused"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        last = done.stderr.splitlines()[-1]
        advice = f"the bundle in {toy_bundle} is complete: `hf upload REPO {toy_bundle}` uploads it where that is possible"
        assert last == f"harness.errors.UserError: --repo me/toy: {reason}; {advice}"
