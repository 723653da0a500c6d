"""Pretrained weights are told apart by their bytes, loaded from the file that was read, and missed in one line."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.hub
from safetensors.torch import save_file

from harness import UserError
from harness.benchmark import load_benchmark
from harness.execution.plugin_calls import make_architecture
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue
from harness_vision.pretrained import read_digest
from harness_vision.timm_backbones import TimmBackbone, TimmOptions

MODEL = "test_resnet"
TAGGED = "test_resnet.r160_in1k"
REPOSITORY = f"models--timm--{TAGGED}"
BY_URL = "legacy_seresnet18"  # not on Hugging Face
BENCHMARK = f"""
seeds: [0]
members: 2
datasets: [digits]
architectures: [timm/{MODEL}: {{pretrained: true}}, resnet20]
methods: [deep]
recipe: {{epochs: 1}}
"""


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let huggingface_hub and torch.hub look for files in empty folders; return the first's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def weights_of(seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state: dict[str, torch.Tensor] = timm.create_model(MODEL).state_dict()
    return state


def put_weights(hub: Path, seed: int, *, link: bool = False, filename: str = "model.safetensors") -> Path:
    """Lay weights out as a download does, or with a copy where links cannot be made; return the bytes' path."""
    repository = hub / REPOSITORY
    snapshot = repository / "snapshots" / "0123abc"
    for folder in (snapshot, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(snapshot.name)
    path = repository / "blobs" / f"blob{seed}" if link else snapshot / filename
    if filename.endswith(".safetensors"):
        save_file(weights_of(seed), path)
    else:
        torch.save(weights_of(seed), path)
    if link:
        (snapshot / filename).unlink(missing_ok=True)
        (snapshot / filename).symlink_to(path)
    return path


def backbone(variant: str = MODEL, **options: Any) -> TimmBackbone:
    architecture = TimmBackbone(TimmOptions.model_validate({"pretrained": True, **options}))
    architecture.variant = variant
    return architecture


def located(variant: str = MODEL) -> TimmBackbone:
    return backbone(variant).located(Path())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(variant: str = MODEL) -> str:
    with pytest.raises(UserError) as caught:
        located(variant)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run_harness(*words: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    command = [sys.executable, "-m", "harness", *map(str, words)]
    return subprocess.run(command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False)


# The key


@pytest.mark.parametrize("link", [False, True])
def test_weights_replaced_under_one_tag(hub: Path, link: bool) -> None:
    """Another identity, and the first again when the first bytes are back; where they lie does not matter."""
    digests = [sha256(put_weights(hub, seed, link=link)) for seed in (0, 1, 0)]
    identities = []
    for seed in (0, 1, 0):
        put_weights(hub, seed, link=link)
        identities.append(located().identity)
    assert [identity["weights"] for identity in identities] == [f"sha256:{digest}" for digest in digests]
    assert identities[0] == identities[2] != identities[1]
    assert identities[0]["variant"] == TAGGED


def test_two_plans_with_other_bytes(hub: Path, tmp_path: Path) -> None:
    """The tasks of the pretrained network have other keys; those of others keep theirs."""
    (tmp_path / "b.yaml").write_text(BENCHMARK)
    benchmark = load_benchmark(tmp_path / "b.yaml", load_catalogue())
    plans = []
    for seed in (0, 1):
        put_weights(hub, seed)
        plans.append(plan(benchmark.located(tmp_path)))
    (pretrained, plain), (replaced, plain_again) = ([cell.key for cell in graph.cells] for graph in plans)
    assert pretrained != replaced
    assert plain == plain_again
    assert (
        plans[0].benchmark.resolved()["architectures"][0]["weights"]
        != plans[1].benchmark.resolved()["architectures"][0]["weights"]
    )


def test_digest_is_read_once(tmp_path: Path) -> None:
    """Of a file of the same size and time; a file that was touched is read again."""
    path = tmp_path / "file"
    path.write_bytes(b"first")
    first, time = read_digest(path, "x"), path.stat().st_mtime_ns
    path.write_bytes(b"other")
    os.utime(path, ns=(time, time))
    assert read_digest(path, "x") == first
    os.utime(path, ns=(time, time + 1))
    assert read_digest(path, "x") == hashlib.sha256(b"other").hexdigest()


def test_random_weights_need_no_file() -> None:
    """Without `pretrained` nothing is looked for."""
    plain = backbone(pretrained=False)
    assert plain.located(Path()) is plain
    assert "weights" not in plain.identity


def test_check_needs_no_weights(tmp_path: Path) -> None:
    """A plan that nothing is located for, as `harness check` makes it, has no problems."""
    (tmp_path / "b.yaml").write_text(BENCHMARK)
    cells = plan(load_benchmark(tmp_path / "b.yaml", load_catalogue())).cells
    assert [cell.problem for cell in cells] == ["", ""]


# What is built


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_built_from_the_file(hub: Path, filename: str) -> None:
    """Every tensor of the file but the classifier's, through links as well; a safetensors file goes first."""
    put_weights(hub, 3, link=True, filename=filename)
    state, expected = located().build((3, 32, 32), 10).state_dict(), weights_of(3)
    assert {name for name in state if not torch.equal(state[name], expected[name])} == {"fc.weight", "fc.bias"}


def test_of_two_forms_the_safe_one(hub: Path) -> None:
    """As timm does."""
    put_weights(hub, 1, filename="pytorch_model.bin")
    safe = put_weights(hub, 2)
    assert located().identity["weights"] == f"sha256:{sha256(safe)}"


def test_adapted_to_the_data(hub: Path) -> None:
    """One channel: the sum over the file's three; other classes: a new classifier."""
    put_weights(hub, 3)
    network = located().build((1, 32, 32), 7)
    assert network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    name = next(iter(weights_of(3)))
    torch.testing.assert_close(network.state_dict()[name], weights_of(3)[name].sum(1, keepdim=True))


def test_file_changed_after_it_was_read(hub: Path) -> None:
    """Refused when the network is built: the key was computed for other bytes."""
    path = put_weights(hub, 0)
    architecture, old = located(), sha256(path)
    new = sha256(put_weights(hub, 1))
    with pytest.raises(UserError, match=f"changed while it was in use: its sha256 was {old} and is {new}; run again"):
        architecture.build((3, 32, 32), 10)


def test_worker_with_other_bytes(hub: Path) -> None:
    """One line: the model, both digests, the file."""
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


def test_file_at_a_plain_address(tmp_path: Path) -> None:
    """In torch.hub's folder under the address's last part."""
    assert refusal(BY_URL).startswith(
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
    expected = torch.load(path)
    state = architecture.build((3, 32, 32), 10).state_dict()
    assert {name for name in state if not torch.equal(state[name], expected[name])} == {
        "last_linear.weight",
        "last_linear.bias",
    }


# What goes wrong


def test_without_network() -> None:
    """At once, in one line: what is missing, why, and how to bring it."""
    message = refusal()
    assert message.startswith(
        f"timm/{MODEL}: its weights are not on this machine and https://huggingface.co cannot be reached "
        f"(no network in tests); run `hf download timm/{TAGGED}` where it can be, and copy what that puts into "
    )


def test_no_pretrained_weights() -> None:
    """A model without weights says so."""
    without = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    assert refusal(without) == f"timm/{without}: timm has no pretrained weights for it; set `pretrained: false`"


def test_unknown_tag() -> None:
    """The tags that there are."""
    message = refusal(f"{MODEL}.nonsense")
    assert message == f"timm/{MODEL}.nonsense: Invalid pretrained tag (nonsense) for {MODEL}. known: r160_in1k"


@pytest.mark.parametrize(
    ("filename", "size", "reason"),
    [
        ("model.safetensors", 1000, "incomplete metadata, file not fully covered"),
        ("model.safetensors", 3, "header too small"),
        ("model.safetensors", 0, "header too small"),
        ("pytorch_model.bin", 1000, "its end is missing"),
        ("pytorch_model.bin", 0, "it is empty"),
    ],
)
def test_file_cut_short(hub: Path, filename: str, size: int, reason: str) -> None:
    """Named, with what to do."""
    path = put_weights(hub, 0, filename=filename)
    content = path.read_bytes()
    path.write_bytes(content[: -size if size == 1000 else size])
    message = refusal()
    assert message.startswith(f"timm/{MODEL}: its weights in {path} are damaged (")
    assert message.endswith(f"{reason}); remove the file, and it is downloaded again")


def test_file_of_another_network(hub: Path) -> None:
    """Named when the network is built."""
    path = put_weights(hub, 0)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=f"and weights from {path}: RuntimeError: Error"):
        located().build((3, 1, 1), 1000)


def test_link_to_nowhere(hub: Path) -> None:
    """As if the file was never there."""
    put_weights(hub, 0, link=True).unlink()
    assert "its weights are not on this machine" in refusal()


# What the environment says


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "ENDPOINT",
            "hf-mirror.com",
            f"timm/{MODEL}: HF_ENDPOINT is 'hf-mirror.com', which is no URL; unset it, or set it to one, such as "
            "https://hf-mirror.com",
        ),
        (
            "ENDPOINT",
            "",
            f"timm/{MODEL}: HF_ENDPOINT is '', which is no URL; unset it, or set it to one, such as https://huggingface.co",
        ),
        (
            "ENDPOINT",
            "ftp://mirror",
            f"timm/{MODEL}: HF_ENDPOINT is 'ftp://mirror', which is no URL; unset it, or set it to one, such as "
            "https://huggingface.co",
        ),
        (
            "ENDPOINT",
            "https://user:secret@mirror:8443",
            f"timm/{MODEL}: its weights are not on this machine and https://mirror:8443 cannot be reached "
            f"(no network in tests); run `hf download timm/{TAGGED}` where it can be, and copy what that puts into ",
        ),
        (
            "HF_HUB_OFFLINE",
            True,
            f"timm/{MODEL}: its weights are not on this machine, and HF_HUB_OFFLINE forbids a download; "
            f"run `hf download timm/{TAGGED}` where it can be, and copy what that puts into ",
        ),
    ],
)
def test_settings_of_the_hub(monkeypatch: pytest.MonkeyPatch, setting: str, value: object, message: str) -> None:
    """One line, without a password."""
    monkeypatch.setattr(f"huggingface_hub.constants.{setting}", value)
    assert refusal().startswith(message)


@pytest.fixture
def planned_folder(tmp_path: Path) -> Path:
    (tmp_path / "b.yaml").write_text(BENCHMARK)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HF_ENDPOINT": "hf-mirror.com"}, f"timm/{MODEL}: HF_ENDPOINT is 'hf-mirror.com', which is no URL; unset it, "),
        ({"HF_ENDPOINT": "http://[1"}, "timm cannot be imported: ValueError: Invalid IPv6 URL; check the installation and "),
        ({"https_proxy": "::bad"}, "https://huggingface.co cannot be reached ("),
    ],
)
def test_environment(planned_folder: Path, environment: dict[str, str], message: str) -> None:
    """As huggingface_hub reads it when it is imported: one line, no foreign traceback."""
    planned = run_harness("plan", "b.yaml", folder=planned_folder, HF_HOME=str(planned_folder / "hf"), **environment)
    assert planned.returncode == 2
    assert message in planned.stderr.splitlines()[-1]
    assert "Traceback" not in planned.stderr


@pytest.mark.slow
def test_endpoint_is_not_needed_for_weights_that_are_there(planned_folder: Path) -> None:
    """Whatever it is; HF_HOME says where they are."""
    put_weights(planned_folder / "hf" / "hub", 0, link=True)
    planned = run_harness(
        "plan", "b.yaml", folder=planned_folder, HF_HOME=str(planned_folder / "hf"), HF_ENDPOINT="hf-mirror.com"
    )
    assert (planned.returncode, planned.stderr) == (0, "")


class Mirror(http.server.BaseHTTPRequestHandler):
    """What huggingface_hub asks of a server: the size, digest and revision of a file, and the file."""

    content = b""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        if self.answer():
            self.wfile.write(self.content)

    def answer(self) -> bool:
        found = self.path.endswith("/model.safetensors")
        self.send_response(200 if found else 404)
        self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()
        return found

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """Serve weights on this machine; yield the address."""
    Mirror.content = put_weights(tmp_path / "served", 0).read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_planning_downloads_the_weights(planned_folder: Path, mirror: str) -> None:
    """Into HF_HOME; a slash at the end of the address does no harm."""
    planned = run_harness("plan", "b.yaml", folder=planned_folder, HF_HOME=str(planned_folder / "hf"), HF_ENDPOINT=f"{mirror}/")
    assert planned.returncode == 0, planned.stderr
    [path] = (planned_folder / "hf").rglob("model.safetensors")
    assert path.read_bytes() == Mirror.content


@pytest.mark.slow
def test_cache_that_cannot_be_written(planned_folder: Path, mirror: str) -> None:
    """One line with the system's reason."""
    (planned_folder / "file").touch()
    planned = run_harness(
        "plan", "b.yaml", folder=planned_folder, HF_HOME=str(planned_folder / "file" / "hf"), HF_ENDPOINT=mirror
    )
    assert planned.returncode == 2
    assert "its weights cannot be downloaded ([Errno 20] Not a directory" in planned.stderr.splitlines()[-1]
    assert "Traceback" not in planned.stderr
