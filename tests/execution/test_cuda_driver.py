"""The precision that `auto` means, from the CUDA driver: the answer of torch, without importing it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cli.command_line import FILE
from harness.benchmark import load_benchmark
from harness.execution.cuda_driver import automatic_precision, precision_of_driver, toolkit_of_version_file
from harness.execution.device import precision_on, resolve_device
from harness.plan.planner import plan
from harness.registry.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parent.parent.parent
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass
class Driver:
    """A stand-in for the driver's library: its devices by the major number of their compute capability, and its failures."""

    devices: tuple[int, ...] = (8,)
    version: int = 13000
    failing: str = ""
    device_asked: int | None = None

    def _answer(self, function: str, pointer: Any, value: int) -> int:
        if function == self.failing:
            return NO_DEVICE
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = value
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's names
        return NO_DEVICE if self.failing == "cuInit" else 0

    def cuDriverGetVersion(self, pointer: Any) -> int:  # noqa: N802
        return self._answer("cuDriverGetVersion", pointer, self.version)

    def cuDeviceGetCount(self, pointer: Any) -> int:  # noqa: N802
        return self._answer("cuDeviceGetCount", pointer, len(self.devices))

    def cuDeviceGet(self, pointer: Any, ordinal: int) -> int:  # noqa: N802
        return self._answer("cuDeviceGet", pointer, 40 + ordinal)

    def cuDeviceGetAttribute(self, pointer: Any, attribute: int, device: ctypes.c_int) -> int:  # noqa: N802
        assert attribute == 75
        return self._answer("cuDeviceGetAttribute", pointer, self.devices[device.value - 40])


@pytest.mark.parametrize(
    ("devices", "precision"),
    [
        ((7,), "fp32"),
        ((8,), "bf16"),
        ((9,), "bf16"),
        ((12,), "bf16"),
        ((7, 9), "fp32"),
        ((9, 7), "fp32"),
        ((9, 8), "bf16"),
        ((), "fp32"),
    ],
)
def test_precision_of_all_visible_devices(devices: tuple[int, ...], precision: str) -> None:
    """It is bf16 if all have capability 8 or more, and fp32 without a device."""
    assert precision_of_driver(Driver(devices), 13) == precision


@pytest.mark.parametrize(
    ("version", "toolkit", "precision"),
    [(13000, 13, "bf16"), (13010, 12, "bf16"), (12080, 13, "fp32"), (12020, 12, "bf16"), (11080, 12, "fp32")],
)
def test_driver_older_than_the_toolkit_of_torch(version: int, toolkit: int, precision: str) -> None:
    """A driver of an earlier major version gives torch no device; an older minor version does."""
    assert precision_of_driver(Driver(version=version), toolkit) == precision


@pytest.mark.parametrize(
    "function", ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetAttribute"]
)
def test_driver_that_fails(function: str) -> None:
    """The precision is fp32 if a call fails, as `cuInit` does where no device is visible."""
    assert precision_of_driver(Driver(failing=function), 13) == "fp32"


def test_machine_without_driver() -> None:
    """The precision is fp32."""
    assert precision_of_driver(None, 13) == "fp32"


@pytest.mark.parametrize(
    ("text", "toolkit"),
    [
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "13.0"),
        ("from typing import Optional\n__all__ = ['cuda']\ndebug = False\ncuda: Optional[str] = '12.6'\n", "12.6"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", ""),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.2.41133'\n", None),
        ("__version__ = '3.0'\n", None),
    ],
)
def test_toolkit_that_torch_is_built_for(text: str, toolkit: str | None) -> None:
    """It is in torch's `version.py`: a version, none, or unknown for ROCm and for another form of the file."""
    assert toolkit_of_version_file(text) == toolkit


def test_toolkit_of_the_installed_torch() -> None:
    """The file beside the installed torch says what torch itself says."""
    if torch.version.hip:
        pytest.skip("torch is built for ROCm")
    text = (Path(torch.__file__).parent / "version.py").read_text(encoding="utf-8")
    assert toolkit_of_version_file(text) == (torch.version.cuda or "")


ASK = (
    "import sys; from harness.execution.cuda_driver import automatic_precision; "
    "print(automatic_precision(), 'torch' in sys.modules)"
)


@pytest.mark.parametrize("devices", [None, "", "-1", "0"])
def test_same_answer_as_torch(devices: str | None) -> None:
    """A process without torch answers as one with torch on this machine, also if CUDA_VISIBLE_DEVICES hides devices."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    answers = []
    for first in ("", "import torch; "):
        done = subprocess.run(
            [sys.executable, "-c", first + ASK], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
        )
        answers.append(done.stdout.split())
    assert answers[0][0] == answers[1][0]
    assert [answer[1] for answer in answers] == [str(bool(torch.version.hip)), "True"]


def test_process_that_has_imported_torch() -> None:
    """torch answers itself."""
    assert automatic_precision() == precision_on(resolve_device("auto"))


LIBRARY = """
#include <stdlib.h>
static int visible(void) { const char *v = getenv("CUDA_VISIBLE_DEVICES"); return !v || v[0] == '0'; }
int cuInit(unsigned flags) { return visible() ? 0 : 100; }
int cuDriverGetVersion(int *version) { *version = 99000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 9 : 0; return 0; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a driver's library with one device of capability 9."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(LIBRARY)
    target = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", target, folder / "driver.c"], check=True)
    return folder


@pytest.mark.parametrize(("devices", "precision"), [("0", "bf16"), ("", "fp32")])
def test_plan_beside_a_driver(library: Path, devices: str, precision: str, tmp_path: Path) -> None:
    """`harness plan` prints the keys of the precision that the driver's device has. It does not import torch."""
    if torch.version.cuda is None:
        pytest.skip("torch is built without CUDA")
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(FILE))
    code = (
        "import sys\nfrom harness.cli import cli\n"
        "cli.main(['plan', sys.argv[1], '--json'], standalone_mode=False)\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file],
        env={**os.environ, "LD_LIBRARY_PATH": str(library), "CUDA_VISIBLE_DEVICES": devices},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = plan(load_benchmark(file, load_catalogue()), "bf16" if precision == "bf16" else "fp32")
    assert [cell["key"] for cell in json.loads(done.stdout)["cells"]] == [cell.key for cell in expected.cells]
