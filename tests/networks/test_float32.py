"""float32 is IEEE float32 within `ieee_float32`, whatever torch's flags are, and the flags are restored after it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from harness.networks.evaluation import full_precision
from harness.networks.float32 import ieee_float32

NEWER = hasattr(torch.backends, "fp32_precision")
SETTINGS = {
    "products": "torch.backends.cuda.matmul.allow_tf32 = True",
    "no_products": "torch.backends.cuda.matmul.allow_tf32 = False",
    "no_convolutions": "torch.backends.cudnn.allow_tf32 = False",
    "high": "torch.set_float32_matmul_precision('high')",
    "medium": "torch.set_float32_matmul_precision('medium')",
}
NEWER_SETTINGS = {
    "everything": "torch.backends.fp32_precision = 'tf32'",
    "newer_products": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "newer_convolutions": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "newer_cudnn": "torch.backends.cudnn.fp32_precision = 'tf32'",
    "products_on_cpu": "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "convolutions_on_cpu": "torch.backends.mkldnn.conv.fp32_precision = 'bf16'",
}
if NEWER:
    SETTINGS |= NEWER_SETTINGS


def state() -> dict[str, object]:
    """Return all flags of torch about float32; "raises" for one that torch does not tell."""
    getters = {
        "matmul": lambda: torch.backends.cuda.matmul.allow_tf32,
        "cudnn": lambda: torch.backends.cudnn.allow_tf32,
        "precision": torch.get_float32_matmul_precision,
    }
    if NEWER:
        for library in ("cudnn", "mkldnn"):
            for kind in ("conv", "rnn"):
                getters[f"{library}.{kind}"] = lambda where=(library, kind): newer(*where)
        getters["cuda.matmul"] = lambda: torch.backends.cuda.matmul.fp32_precision
        getters["mkldnn.matmul"] = lambda: newer("mkldnn", "matmul")
    found: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, getter in getters.items():
            try:
                found[name] = getter()
            except RuntimeError:
                found[name] = "raises"
    return found


def newer(library: str, kind: str) -> str:
    return getattr(getattr(torch.backends, library), kind).fp32_precision


@pytest.fixture(autouse=True)
def flags_restored() -> Iterator[None]:
    """Restore torch's flags after each test, and those of whole libraries, which the block leaves alone."""
    with ieee_float32():
        yield
        if NEWER:
            torch.backends.fp32_precision = "none"
            torch.backends.cudnn.fp32_precision = "none"


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_flags_within_and_after_the_block(setting: str) -> None:
    """Within it, no flag allows less than float32 and none raises; after it, all are as before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(setting)
    before = state()
    with ieee_float32():
        within = state()
    assert set(within.values()) == ({False, "highest", "ieee"} if NEWER else {False, "highest"})
    assert state() == before


def test_error_within_the_block() -> None:
    """The flags are restored too."""
    torch.set_float32_matmul_precision("high")
    with pytest.raises(ZeroDivisionError), ieee_float32():
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == "high"


def test_evaluation() -> None:
    """It computes in float32, without autocast."""
    torch.set_float32_matmul_precision("medium")
    with torch.autocast("cpu", torch.bfloat16), full_precision():
        assert torch.get_float32_matmul_precision() == "highest"
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


FRESH = """
import warnings
warnings.simplefilter("error")
import torch
from harness.networks.float32 import ieee_float32
from harness.training.stepping import uses_tf32
print(uses_tf32(torch.device("cuda")))
with ieee_float32():
    print(uses_tf32(torch.device("cuda")))
print(uses_tf32(torch.device("cuda")))
"""


def test_fresh_process_with_the_variable_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own defaults use TF32, the block does not, and nothing warns."""
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1")
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["True", "False", "True"]
    assert done.stderr == ""
