"""The choice between fused kernels and PyTorch's operations, and the kernels in Triton's interpreter and compiler."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness import kernels
from harness.kernels.layer_norm_function import KernelMismatch, Variant, check_layer_norm, plain_layer_norm, variant_of
from harness.kernels.selection import KernelUnavailable, Selection, check_variant
from harness_vision.resnet20_network import ResNet20Network

CPU = torch.device("cpu")
WIDE = Variant(torch.float32, torch.float32, 64, residual=True, relu=True)
NARROW = WIDE._replace(channels=16)

HAS_TRITON = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")


def triton_version() -> tuple[int, ...]:
    """Return major and minor version, or zeros without Triton."""
    if not HAS_TRITON:
        return (0, 0)
    return tuple(int(part) for part in version("triton").split(".")[:2])


def passes(variant: Variant, device: torch.device) -> None:
    """Accept every variant."""


def fails(error: Exception) -> Callable[[Variant, torch.device], None]:
    """Return a check that raises an error."""

    def check(variant: Variant, device: torch.device) -> None:
        raise error

    return check


def in_another_process(arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with environment variables."""
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


@needs_triton
def test_kernels_in_the_interpreter() -> None:
    """All of `layer_norm_cases.py` passes, in a process of its own: Triton decides at import whether it interprets."""
    cases = Path(__file__).parent / "layer_norm_cases.py"
    done = in_another_process(["-m", "pytest", "-q", "-x", str(cases)], TRITON_INTERPRET="1", HARNESS_PLAIN_KERNELS="")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout


@pytest.mark.skipif(triton_version() < (3, 3), reason="older versions of Triton have another interface of the compiler")
def test_kernels_are_compiled(tmp_path: Path) -> None:
    """Both kernels become machine code for A100, H100 and B200, with vectorized loads; no GPU is needed for that."""
    script = Path(__file__).parent / "compile_kernels.py"
    done = in_another_process([str(script), "80", "90", "100"], TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["forward", "backward"] * 3


def test_no_kernels_on_the_cpu() -> None:
    """An architecture gets None there, and nothing of the kernels is imported."""
    code = (
        "import sys, torch\nfrom harness import kernels\n"
        "x = torch.randn(2, 8, 3, 3).to(memory_format=torch.channels_last)\n"
        "assert kernels.layer_norm(x, torch.ones(8), torch.zeros(8), 1e-6) is None\n"
        "assert kernels.describe('cpu') == 'plain PyTorch: kernels need a CUDA device'\n"
        "assert 'triton' not in sys.modules and 'harness.kernels.triton_layer_norm' not in sys.modules"
    )
    done = in_another_process(["-c", code], TRITON_INTERPRET="")
    assert done.returncode == 0, done.stderr


def test_switch_of_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are switched off are described so."""
    monkeypatch.setenv("HARNESS_PLAIN_KERNELS", "1")
    assert kernels.describe("cuda") == "plain PyTorch: HARNESS_PLAIN_KERNELS is set"
    assert not kernels.is_enabled()
    with kernels.enabled(True):
        assert kernels.is_enabled()
        with kernels.enabled(False):
            assert not kernels.is_enabled()
        assert kernels.is_enabled()


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a channels-last image."""
    return torch.zeros(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)


def misaligned(*shape: int) -> Tensor:
    """Return a channels-last image at an address that is no multiple of 16."""
    batch, channels, height, width = shape
    storage = torch.zeros(batch * channels * height * width + 1)
    return storage[1:].view(batch, height, width, channels).permute(0, 3, 1, 2)


VECTOR = torch.zeros(8)
X = image(2, 8, 3, 3)


def test_tensors_that_kernels_take() -> None:
    """The variant has the dtypes, the channels, and what is fused."""
    assert variant_of(X, VECTOR, VECTOR, None, False) == Variant(torch.float32, torch.float32, 8, False, False)
    bf16 = X.bfloat16()
    assert variant_of(bf16, VECTOR, VECTOR, bf16, True) == Variant(torch.bfloat16, torch.float32, 8, True, True)
    assert variant_of(bf16, VECTOR.bfloat16(), VECTOR.bfloat16(), None, True) is not None
    assert variant_of(image(1, 1024, 1, 1), torch.zeros(1024), torch.zeros(1024), None, True) is not None
    assert str(WIDE) == "64 channels, float32, residual, relu"


@pytest.mark.parametrize(
    ("x", "weight", "bias", "residual"),
    [
        (image(0, 8, 3, 3), VECTOR, VECTOR, None),
        (torch.zeros(2, 8, 3, 3), VECTOR, VECTOR, None),
        (image(2, 8, 3, 4)[..., :3], VECTOR, VECTOR, None),
        (image(2, 8, 3, 3)[:, :, ::2], VECTOR, VECTOR, None),
        (misaligned(2, 8, 3, 3), VECTOR, VECTOR, None),
        (torch.zeros(2, 9, 8), VECTOR, VECTOR, None),
        (X.double(), VECTOR.double(), VECTOR.double(), None),
        (X.half(), VECTOR, VECTOR, None),
        (X, VECTOR.double(), VECTOR.double(), None),
        (X, VECTOR.bfloat16(), VECTOR.bfloat16(), None),
        (X, VECTOR, VECTOR.bfloat16(), None),
        (X, torch.zeros(1), VECTOR, None),
        (X, VECTOR, torch.zeros(9), None),
        (X, torch.zeros(16)[::2], VECTOR, None),
        (X, VECTOR.to("meta"), VECTOR, None),
        (image(1, 1025, 1, 1), torch.zeros(1025), torch.zeros(1025), None),
        (X, VECTOR, VECTOR, X.bfloat16()),
        (X, VECTOR, VECTOR, torch.zeros(2, 8, 3, 3)),
        (X, VECTOR, VECTOR, image(2, 8, 1, 1)),
        (X, VECTOR, VECTOR, misaligned(2, 8, 3, 3)),
        (X, VECTOR, VECTOR, X.to("meta")),
    ],
    ids=[
        "empty", "nchw", "columns cut off", "every second row", "address", "three dimensions", "float64", "float16",
        "weight float64", "weight bfloat16", "bias of another dtype", "weight of one", "bias of nine", "strided weight",
        "weight elsewhere", "1,025 channels", "residual of another dtype", "nchw residual", "residual of another shape",
        "residual's address", "residual elsewhere",
    ],
)  # fmt: skip
def test_tensors_that_kernels_do_not_take(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None) -> None:
    """There is no variant for them, so that PyTorch's operations get them."""
    assert variant_of(x, weight, bias, residual, True) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 64, 250, 1024])
def test_check_of_a_right_function(channels: int, dtype: torch.dtype) -> None:
    """PyTorch's operations in float32, rounded to the dtype, pass for all variants."""

    def rounded(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, relu: bool) -> Tensor:
        wide = None if residual is None else residual.float()
        return plain_layer_norm(x.float(), weight.float(), bias.float(), wide, eps, relu).to(x.dtype)

    state = torch.get_rng_state()
    for residual in (False, True):
        for relu in (False, True):
            check_layer_norm(Variant(dtype, torch.float32, channels, residual, relu), CPU, rounded)
    assert torch.equal(state, torch.get_rng_state())


def wrong(change: str) -> Callable[..., Tensor]:
    """Return a function with one mistake."""

    def function(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, relu: bool) -> Tensor:
        if change == "no eps":
            eps = 0.1
        if change == "no residual":
            residual = 0 * residual
        if change == "no relu":
            relu = False
        if change == "no gradient of weight":
            weight = weight.detach() + 0 * weight
        if change == "half the gradient of bias":
            bias = bias.detach() / 2 + bias / 2
        if change == "no gradient of residual":
            residual = residual.detach() + 0 * residual
        if change == "gradient of x":
            x = 1.01 * x - 0.01 * x.detach()
        y = plain_layer_norm(x, weight, bias, residual, eps, relu)
        if change == "a NaN":
            y = y + torch.where(torch.arange(y.shape[3]) == 2, float("nan"), 0.0)
        if change == "last pixel":
            y = y * (torch.arange(y.shape[3]) < y.shape[3] - 1)
        return y

    return function


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no eps", "the output is off by"),
        ("no residual", "the output is off by"),
        ("no relu", "the output is off by"),
        ("a NaN", "the output is off by nan"),
        ("last pixel", "the output is off by"),
        ("no gradient of weight", "the gradient by weight is off by"),
        ("half the gradient of bias", "the gradient by bias is off by"),
        ("no gradient of residual", "the gradient by residual is off by"),
        ("gradient of x", "the gradient by x is off by"),
    ],
)
def test_check_of_a_wrong_function(change: str, message: str) -> None:
    """The error says what is wrong and by how much."""
    with pytest.raises(KernelMismatch, match=message):
        check_layer_norm(WIDE, CPU, wrong(change))


def test_first_use_is_checked() -> None:
    """Each variant is checked once per device."""
    checked = []
    selection = Selection(lambda variant, device: checked.append((variant, device)), lambda device: True)
    for _ in range(3):
        assert selection.accepts(WIDE, CPU)
        assert selection.accepts(NARROW, CPU)
        assert selection.accepts(WIDE, torch.device("cuda", 1))
    assert checked == [(WIDE, CPU), (NARROW, CPU), (WIDE, torch.device("cuda", 1))]


def test_first_use_during_a_capture() -> None:
    """An unchecked variant is not used while the host may not wait, and is checked later; a checked one is used."""
    capturing = False
    selection = Selection(passes, lambda device: not capturing)
    assert selection.accepts(WIDE, CPU)
    capturing = True
    assert selection.accepts(WIDE, CPU)
    assert not selection.accepts(NARROW, CPU)
    capturing = False
    assert selection.accepts(NARROW, CPU)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KernelMismatch("the output is off by 0.5, with values up to 2"), "KernelMismatch: the output is off by 0.5"),
        (ModuleNotFoundError("No module named 'triton'"), "ModuleNotFoundError: No module named 'triton'"),
        (FileNotFoundError(2, "No such file or directory", "ptxas"), "FileNotFoundError: .*'ptxas'"),
    ],
)
def test_failed_check(error: Exception, reason: str) -> None:
    """One warning says why; from then on no variant is used on that device, but on others."""
    checks = [passes]
    selection = Selection(lambda variant, device: checks[0](variant, device), lambda device: True)
    assert selection.accepts(NARROW, CPU)
    checks[0] = fails(error)
    place = r"fused LayerNorm \(64 channels, float32, residual, relu\)"
    message = rf"cpu: kernels are not used, PyTorch's operations are: {place}: {reason}"
    with pytest.warns(RuntimeWarning, match=message):
        assert not selection.accepts(WIDE, CPU)
    checks[0] = passes
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not selection.accepts(WIDE, CPU)
        assert not selection.accepts(NARROW, CPU)
        assert selection.accepts(WIDE, torch.device("cuda", 0))
    assert re.match(f"plain PyTorch: {place}: {reason}", selection.describe(CPU))


def test_old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its compute capability is the reason; Triton is not asked, since its compiler ends the process there."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(KernelUnavailable, match=r"the device has compute capability 7\.5; Triton needs 8\.0"):
        check_variant(WIDE, torch.device("cuda", 0))


def test_memory_runs_out_during_a_check() -> None:
    """The error is raised, so that a group of siblings is halved; the variant is checked again later."""
    checks = [fails(torch.OutOfMemoryError("CUDA out of memory"))]
    selection = Selection(lambda variant, device: checks[0](variant, device), lambda device: True)
    with pytest.raises(torch.OutOfMemoryError):
        selection.accepts(WIDE, CPU)
    checks[0] = passes
    assert selection.accepts(WIDE, CPU)


@needs_triton
def test_description_of_a_device() -> None:
    """It has Triton's version once a kernel is in use."""
    selection = Selection(passes, lambda device: True)
    assert selection.describe(CPU) == "plain PyTorch: no kernel was checked yet"
    selection.accepts(WIDE, CPU)
    import triton

    assert selection.describe(CPU) == f"fused LayerNorm (Triton {triton.__version__})"


@pytest.mark.parametrize(
    ("device", "switch", "expected"), [("cuda:0", True, True), ("cuda:0", False, False), ("cpu", True, False)]
)
def test_networks_that_use_kernels(device: str, switch: bool, expected: bool) -> None:
    """A network uses kernels where they are used at all, if one of its modules asks for them."""
    with kernels.enabled(switch):
        assert kernels.uses_kernels(ResNet20Network(4, (3, 8, 8), 10), torch.device(device)) is expected
        assert not kernels.uses_kernels(torch.nn.Linear(2, 2), torch.device(device))
