"""`harness plan` with pretrained weights, in processes with other environment variables and a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vision.pretrained_weights import BENCHMARK, MODEL, put_weights

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a benchmark file."""
    (tmp_path / "b.yaml").write_text(BENCHMARK)
    return tmp_path


def run_plan(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `harness plan` with no variables of Hugging Face but the given ones."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    command = [sys.executable, "-m", "harness", "plan", "b.yaml"]
    return subprocess.run(command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False)


class Mirror(http.server.BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks of a server: size, digest and revision of a file, and its content."""

    content = b""

    def do_HEAD(self) -> None:
        self.send_headers()

    def do_GET(self) -> None:
        if self.send_headers():
            self.wfile.write(self.content)

    def send_headers(self) -> bool:
        """Send the status and the headers; return whether the file exists."""
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
    """Serve weights on this machine; yield the URL."""
    Mirror.content = put_weights(tmp_path / "served", 0).read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HF_ENDPOINT": "hf-mirror.com"}, f"timm/{MODEL}: HF_ENDPOINT is 'hf-mirror.com', which is no URL; unset it, "),
        ({"HF_ENDPOINT": "http://[1"}, "timm cannot be imported: ValueError: Invalid IPv6 URL; check the installation and "),
        ({"https_proxy": "::bad"}, "https://huggingface.co cannot be reached ("),
    ],
)
def test_wrong_environment_variable(folder: Path, environment: dict[str, str], message: str) -> None:
    """The last line of the output is the message; there is no traceback of another library."""
    planned = run_plan(folder, HF_HOME=str(folder / "hf"), **environment)
    assert planned.returncode == 2
    assert message in planned.stderr.splitlines()[-1]
    assert "Traceback" not in planned.stderr


def test_wrong_endpoint_and_weights_on_this_machine(folder: Path) -> None:
    """The weights are found under HF_HOME, and the endpoint is not used."""
    put_weights(folder / "hf" / "hub", 0, link=True)
    planned = run_plan(folder, HF_HOME=str(folder / "hf"), HF_ENDPOINT="hf-mirror.com")
    assert (planned.returncode, planned.stderr) == (0, "")


def test_planning_downloads_the_weights(folder: Path, mirror: str) -> None:
    """They are in HF_HOME afterwards; a slash at the end of the endpoint is accepted."""
    planned = run_plan(folder, HF_HOME=str(folder / "hf"), HF_ENDPOINT=f"{mirror}/")
    assert planned.returncode == 0, planned.stderr
    [path] = (folder / "hf").rglob("model.safetensors")
    assert path.read_bytes() == Mirror.content


def test_cache_that_cannot_be_written(folder: Path, mirror: str) -> None:
    """The message, one line, gives the system's reason."""
    (folder / "file").touch()
    planned = run_plan(folder, HF_HOME=str(folder / "file" / "hf"), HF_ENDPOINT=mirror)
    assert planned.returncode == 2
    assert "its weights cannot be downloaded ([Errno 20] Not a directory" in planned.stderr.splitlines()[-1]
    assert "Traceback" not in planned.stderr
