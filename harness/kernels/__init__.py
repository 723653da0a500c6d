"""Kernels for GPUs, and the choice between them and PyTorch's operations. Knows nothing of networks. Imports torch when called.

An architecture asks `layer_norm` for the result and does without where it is None. Its modules that ask have the attribute
`uses_kernels = True`: such networks are captured, not compiled.
"""

from harness.kernels.selection import describe, enabled, is_enabled, layer_norm, uses_kernels

__all__ = ["describe", "enabled", "is_enabled", "layer_norm", "uses_kernels"]
