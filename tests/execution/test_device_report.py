"""What `harness doctor` says about devices, with a stand-in for those of a machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devices import StandInDevices, gpu
from harness.execution.device_inventory import Driver, TorchDevices
from harness.execution.device_report import device_report

H100 = gpu("NVIDIA H100 80GB HBM3", (9, 0))
T4 = gpu("Tesla T4", (7, 5), 15)
DRIVER = Driver("580.95.05", ("Default", "Default"))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the environment variables that change the report."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)


def report(inventory: StandInDevices) -> list[str]:
    """Return the lines of a report."""
    return [f"{label}: {text}" for label, text in device_report(inventory)]


def test_two_devices() -> None:
    """Each has its name, memory, capability and whether it has bf16 units; then come driver, CUDA, Triton and TF32."""
    lines = report(StandInDevices([H100, T4], driver=DRIVER))
    assert lines[:2] == [
        "device: cuda:0: NVIDIA H100 80GB HBM3, 80.0 GiB, compute capability 9.0, bf16",
        "device: cuda:1: Tesla T4, 15.0 GiB, compute capability 7.5, no bf16 units",
    ]
    assert lines[2].startswith("cuda: CUDA 13.0, driver 580.95.05, Triton ")
    assert lines[3:] == ["tf32: off, in training and evaluation"]


@pytest.mark.parametrize(
    ("inventory", "line"),
    [
        (StandInDevices([]), "device: no CUDA device; runs go to the CPU"),
        (StandInDevices([], build=""), "device: no CUDA device; runs go to the CPU; torch is built without CUDA"),
        (
            StandInDevices([], build="", unsupported=("mps",)),
            "device: no CUDA device; runs go to the CPU; torch's mps is not supported",
        ),
    ],
    ids=["no driver", "torch without CUDA", "Apple"],
)
def test_no_device(inventory: StandInDevices, line: str) -> None:
    """One line says so, and why."""
    assert report(inventory) == [line]


def test_hidden_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that hides them is shown with its value."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    [line] = report(StandInDevices([]))
    assert line.endswith("; CUDA_VISIBLE_DEVICES='' hides all, or the driver does not work")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert "devices: CUDA_VISIBLE_DEVICES='1': others are hidden" in report(StandInDevices([H100]))


def test_variables_that_ask_for_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not apply, and are named."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1")
    lines = report(StandInDevices([H100]))
    tf32 = "tf32: off, in training and evaluation; TORCH_ALLOW_TF32_CUBLAS_OVERRIDE='1' does not apply to tasks"
    assert tf32 in lines


def test_part_of_a_gpu_in_exclusive_mode() -> None:
    """Both are warned of."""
    part = gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", (8, 0), 5)
    lines = report(StandInDevices([H100, part], driver=Driver("550.1", ("Default", "Exclusive_Process"))))
    assert lines[-2:] == [
        "warning: cuda:1: part of a GPU (MIG); measured speeds are those of the part",
        "warning: compute mode Exclusive_Process of a GPU allows one process per GPU at a time: "
        "several --workers on one device fail",
    ]


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("script", "driver"),
    [
        ("echo '580.95.05, Default'; echo '580.95.05, Prohibited'", Driver("580.95.05", ("Default", "Prohibited"))),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9", None),
        ("echo 'No devices were found'", None),
    ],
    ids=["two GPUs", "no driver", "no GPU"],
)
def test_driver(script: str, driver: Driver | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its facts come from nvidia-smi, if it works."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert TorchDevices().driver() == driver


def test_machine_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known about a driver."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert TorchDevices().driver() is None
