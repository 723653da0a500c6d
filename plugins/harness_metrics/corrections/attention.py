"""`F.multi_head_attention_forward` with its linear maps as calls of their own.

The function hands itself to a `TorchFunctionMode` as a whole, and its maps run where the mode is not asked. The copy here never
hands itself over: within the mode, each of its maps is a call of `F.linear`.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch.nn.functional as F


def _never(tensors: Any) -> bool:
    return False


def _open_copy(function: Any) -> Any:
    """Return a copy of a function whose question whether its arguments override it is always answered by no."""
    code: Any = function.__code__
    names = dict(vars(F), has_torch_function=_never)
    return FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)


OPEN_FUNCTIONS: dict[Any, Any] = {F.multi_head_attention_forward: _open_copy(F.multi_head_attention_forward)}
"""Functions that contain linear maps, and their copies that show them."""
