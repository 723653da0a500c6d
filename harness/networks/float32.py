"""IEEE float32 for products and convolutions, whatever torch's flags and the environment say.

By default, torch lets cuDNN round the inputs of float32 convolutions to TF32 (10 bits of mantissa). Flags and environment
variables, which some containers set, do the same for matrix products, and on CPUs torch can be told to use bfloat16. All flags
are set here; `forbid_tf32_in_environment` of `harness/execution/device.py` sets the variables of workers.

torch 2.9 added settings named `fp32_precision`, one per library and kind of operation. They and the older flags describe the
same state; the older getters raise an exception if it was changed by the newer settings to what they cannot express. So both
are set here, and the newer ones are read where they exist.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Value = TypeVar("Value", bool, str)

_IEEE = "ieee"
_KINDS = (
    ("cuda", "matmul"),
    ("cudnn", "conv"),
    ("cudnn", "rnn"),
    ("mkldnn", "matmul"),
    ("mkldnn", "conv"),
    ("mkldnn", "rnn"),
)


def set_ieee_float32() -> None:
    """Set torch's flags so that float32 products and convolutions are computed in float32."""
    with _no_deprecation_warnings():
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
    for setting in _settings():
        setting.fp32_precision = _IEEE


@contextlib.contextmanager
def ieee_float32() -> Iterator[None]:
    """Compute float32 products and convolutions in float32 within the block; restore torch's flags after it."""
    flags = _read_flags()
    precisions = [setting.fp32_precision for setting in _settings()]
    set_ieee_float32()
    try:
        yield
    finally:
        _set_flags(flags)
        for setting, precision in zip(_settings(), precisions, strict=True):
            if setting.fp32_precision != precision:
                setting.fp32_precision = precision


def _settings() -> list[Any]:
    """Return torch's settings that have an attribute `fp32_precision`. There are none before torch 2.9."""
    if not hasattr(torch.backends, "fp32_precision"):
        return []
    return [getattr(getattr(torch.backends, library), kind) for library, kind in _KINDS]


@dataclass(frozen=True)
class _Flags:
    """The older flags: of products, of their precision (`highest`, `high`, `medium`), of cuDNN. None if torch does not tell."""

    matmul_tf32: bool | None
    matmul_precision: str | None
    cudnn_tf32: bool | None


def _read_flags() -> _Flags:
    return _Flags(
        _read(lambda: torch.backends.cuda.matmul.allow_tf32),
        _read(torch.get_float32_matmul_precision),
        _read(lambda: torch.backends.cudnn.allow_tf32),
    )


def _read(getter: Callable[[], Value]) -> Value | None:
    """Return a flag; None if the newer settings have a state that it cannot express."""
    with _no_deprecation_warnings(), contextlib.suppress(RuntimeError):
        return getter()
    return None


def _set_flags(flags: _Flags) -> None:
    with _no_deprecation_warnings():
        if flags.matmul_tf32 is not None:
            torch.backends.cuda.matmul.allow_tf32 = flags.matmul_tf32
        if flags.matmul_precision is not None:  # knows more than the flag before, and sets it too
            torch.set_float32_matmul_precision(flags.matmul_precision)
        if flags.cudnn_tf32 is not None:
            torch.backends.cudnn.allow_tf32 = flags.cudnn_tf32


@contextlib.contextmanager
def _no_deprecation_warnings() -> Iterator[None]:
    """Ignore torch 2.9's warning about the older flags, which are set on purpose."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings")
        yield
