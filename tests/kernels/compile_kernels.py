"""Compile both kernels for compute capabilities (90, say) without a GPU. Print a name per kernel that has vectorized loads."""

from __future__ import annotations

import sys
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compile_kernel

from harness.kernels import triton_layer_norm

IMAGES = {"x", "y", "residual", "grad", "grad_x", "grad_residual"}
COUNTS = {"rows", "tiles"}
CONSTANTS = {"CHANNELS": 64, "BLOCK": 64, "ROWS": 32, "RELU": True, "RESIDUAL": True}


def compiled(kernel: Any, capability: int) -> Any:
    """Return a kernel for 64 channels in bfloat16 with residual and ReLU, as a launch on aligned tensors compiles it."""
    signature = {}
    aligned = {}
    constants = {}
    for position, name in enumerate(kernel.arg_names):
        if name in CONSTANTS:
            signature[name] = "constexpr"
            constants[(position,)] = CONSTANTS[name]
        elif name in COUNTS:
            signature[name] = "i32"
        elif name == "eps":
            signature[name] = "fp32"
        else:
            signature[name] = "*bf16" if name in IMAGES else "*fp32"
            if name not in ("weight", "bias"):
                aligned[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    return compile_kernel(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})


for capability in sys.argv[1:]:
    for name, kernel in (("forward", triton_layer_norm._forward_kernel), ("backward", triton_layer_norm._backward_kernel)):
        found = compiled(kernel, int(capability))
        assert found.asm["cubin"]
        if "ld.global.v4" in found.asm["ptx"]:
            print(name)
