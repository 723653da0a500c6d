"""The base class of the modes that see every operation of a run."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class OperationMode(TorchDispatchMode):
    """Calls `__torch_dispatch__` for every operation of the code inside `with`, without the compiler of torch."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False. Otherwise torch would import its compiler, which takes a second, to skip `__torch_dispatch__`."""
        return False
