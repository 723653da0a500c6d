"""Names of devices, the devices of workers, and the precision on them, with a stand-in for the devices of a machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from devices import StandInDevices, gpu
from harness.errors import DeviceError
from harness.execution.device import forbid_tf32_in_environment, precision_on, resolve_device, worker_devices
from harness.execution.engines.cpu_count import count_cpus
from harness.execution.engines.local import default_workers

NONE = StandInDevices([])
ONE = StandInDevices([gpu("H100", (9, 0))])
TWO = StandInDevices([gpu("H100", (9, 0)), gpu("T4", (7, 5))])
KNOWN = "known: auto, cpu, cuda, cuda:INDEX"
SELECTORS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def no_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the environment variables that select devices."""
    for name in SELECTORS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("device", "inventory", "resolved"),
    [
        ("auto", NONE, "cpu"),
        ("auto", ONE, "cuda"),
        ("auto", StandInDevices([], unsupported=("mps",)), "cpu"),
        ("cpu", TWO, "cpu"),
        ("cpu:0", TWO, "cpu"),
        ("cuda", TWO, "cuda"),
        ("cuda:0", ONE, "cuda:0"),
        ("cuda:1", TWO, "cuda:1"),
        ("cuda:01", TWO, "cuda:1"),
    ],
)
def test_devices_that_are_there(device: str, inventory: StandInDevices, resolved: str) -> None:
    """`auto` is CUDA if there is a CUDA device; Apple's GPUs do not count."""
    assert resolve_device(device, inventory) == resolved


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", f"--device gpu: unknown device; did you mean 'cuda'? {KNOWN}"),
        ("GPU:1", f"--device GPU:1: unknown device; did you mean 'cuda:1'? {KNOWN}"),
        ("hip", f"--device hip: unknown device; did you mean 'cuda'? {KNOWN}"),
        ("rocm:0", f"--device rocm:0: unknown device; did you mean 'cuda:0'? {KNOWN}"),
        ("CUDA", f"--device CUDA: unknown device; did you mean 'cuda'? {KNOWN}"),
        ("Cuda:1", f"--device Cuda:1: unknown device; did you mean 'cuda:1'? {KNOWN}"),
        ("CPU", f"--device CPU: unknown device; did you mean 'cpu'? {KNOWN}"),
        (" cuda", f"--device cuda: unknown device; did you mean 'cuda'? {KNOWN}"),
        ("1", f"--device 1: unknown device; did you mean 'cuda:1'? {KNOWN}"),
        ("cud", f"--device cud: unknown device; did you mean 'cuda'? {KNOWN}"),
        ("toaster", f"--device toaster: unknown device; {KNOWN}"),
        ("", f"--device '': unknown device; {KNOWN}"),
        ("cuda:", "--device cuda:: the index of a CUDA device is a number from 0, as in cuda:0; this one is ''"),
        ("cuda:-1", "--device cuda:-1: the index of a CUDA device is a number from 0, as in cuda:0; this one is '-1'"),
        ("cuda:1.5", "--device cuda:1.5: the index of a CUDA device is a number from 0, as in cuda:0; this one is '1.5'"),
        ("cuda:٣", "--device cuda:٣: the index of a CUDA device is a number from 0, as in cuda:0; this one is '٣'"),
        ("cuda:0:1", "--device cuda:0:1: the index of a CUDA device is a number from 0, as in cuda:0; this one is '0:1'"),
        ("cpu:1", "--device cpu:1: there is one CPU device, cpu; --workers and --threads say how many cores are used"),
        (
            "cuda:0,1",
            "--device cuda:0,1: names several devices; set CUDA_VISIBLE_DEVICES=0,1 and use --device cuda",
        ),
        (
            "0,cuda:2",
            "--device 0,cuda:2: names several devices; set CUDA_VISIBLE_DEVICES=0,2 and use --device cuda",
        ),
        (
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
            "--device GPU-8932f937-d72c-4106-c12f-20bd9faed9f6: devices are named by their index; "
            "set CUDA_VISIBLE_DEVICES=GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 and use --device cuda",
        ),
        ("mps", "--device mps: torch's device 'mps' is not supported; use cpu, cuda or cuda:INDEX"),
        ("MPS", "--device MPS: torch's device 'mps' is not supported; use cpu, cuda or cuda:INDEX"),
        ("xpu:0", "--device xpu:0: torch's device 'xpu' is not supported; use cpu, cuda or cuda:INDEX"),
        ("meta", "--device meta: torch's device 'meta' is not supported; use cpu, cuda or cuda:INDEX"),
        ("cuda:5", "--device cuda:5: there are 2 CUDA devices here, cuda:0 to cuda:1; choose one of these, or --device cuda"),
        ("cuda:9999", "--device cuda:9999: there are 2 CUDA devices here"),
        ("cuda:99999999999", "--device cuda:99999999999: there are 2 CUDA devices here"),
        ("cu\nda", "--device cu da: unknown device"),
    ],
)
def test_devices_that_cannot_be_used(device: str, message: str) -> None:
    """Each is refused in one line, which says what to write instead."""
    with pytest.raises(DeviceError) as caught:
        resolve_device(device, TWO)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_index_beyond_selected_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the variable that hides the other devices, with its value."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    expected = (
        "--device cuda:3: there is one CUDA device here, cuda:0 (CUDA_VISIBLE_DEVICES='3' hides all others); "
        "choose one of these, or --device cuda"
    )
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda:3", ONE)
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", ["", "-1", "GPU-00000000"])
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_selection_without_devices(value: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the variable that hides all devices, with its value."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    expected = (
        f"--device {device}: no CUDA device is available here: CUDA_VISIBLE_DEVICES='{value}' hides all, "
        "or the driver does not work; use --device cpu or --device auto"
    )
    with pytest.raises(DeviceError) as caught:
        resolve_device(device, NONE)
    assert str(caught.value) == expected


def test_torch_without_cuda() -> None:
    """The message says that this is the reason."""
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda", StandInDevices([], build=""))
    assert "no CUDA device is available here: this torch is built without CUDA; use --device cpu" in str(caught.value)


@pytest.mark.parametrize(
    ("device", "workers", "devices"),
    [
        ("cuda", 1, ["cuda:0"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda:1", 2, ["cuda:1", "cuda:1"]),
        ("cpu", 2, ["cpu", "cpu"]),
    ],
)
def test_devices_of_workers(device: str, workers: int, devices: list[str]) -> None:
    """Workers are spread over all devices in turn; several workers may share one."""
    assert worker_devices(device, workers, TWO) == tuple(devices)


@pytest.mark.parametrize(
    ("device", "workers"), [("cuda", 2), ("cuda:0", 1), ("cuda:1", 1), ("cpu", count_cpus().usable)], ids=str
)
def test_default_number_of_workers(device: str, workers: int) -> None:
    """There is one per device that is used, however many cores there are, and one per core on the CPU."""
    assert default_workers(device, TWO) == workers


@pytest.mark.parametrize(
    ("device", "precision"), [("cpu", "fp32"), ("cuda:0", "bf16"), ("cuda:1", "fp32"), ("cuda", "fp32")], ids=str
)
def test_precision_on_devices(device: str, precision: str) -> None:
    """It is bf16 if all devices that are used have bf16 units."""
    assert precision_on(device, TWO) == precision


def test_precision_on_one_recent_device() -> None:
    """It is bf16."""
    assert precision_on("cuda", ONE) == "bf16"


@pytest.mark.parametrize("command", [["run", "none.yaml"], ["worker", "--task", "00"]])
def test_commands_with_a_device_that_is_none(command: list[str]) -> None:
    """The name is refused before anything is read, in one line."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *command, "--device", "gpu"], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr == f"error: --device gpu: unknown device; did you mean 'cuda'? {KNOWN}\n"


@pytest.mark.parametrize("value", ["0", "1"])
def test_environment_of_workers(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable allows TF32, whatever it was."""
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", value)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
    forbid_tf32_in_environment()
    assert "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE" not in os.environ
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
