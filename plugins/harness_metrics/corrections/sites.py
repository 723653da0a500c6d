"""Where a network is corrected: the outputs of its linear maps and convolutions, or of the normalizations that follow them.

A map that BatchNorm follows is left to recomputed statistics. The classifier is never corrected: it is every map whose output
reaches the logits without another map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from harness import TaskFailed
from harness_metrics.corrections.calls import Call, Product, recorded_calls

# Operations of the graph of gradients that move or copy values.
_MOVES = ("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Squeeze", "Unsqueeze", "Alias", "Clone", "ToCopy")
_PARTS = ("Select", "Slice", "Split", "SplitWithSizes", "Unbind", "Expand")


@dataclass(frozen=True)
class Site:
    """A call whose output is corrected, with the channel axis of its output.

    `weight` and `bias` name of parameters that a correction can be folded into. They are empty if the call lacks one
    of them, or shares one with another call.
    """

    call: int
    axis: int
    weight: str = ""
    bias: str = ""


def find_sites(network: nn.Module, images: Tensor, before_normalization: bool) -> list[Site]:
    """Return the sites of a network in evaluation mode, in the order of its forward pass on normalized images.

    `before_normalization`: also where a normalization without running statistics follows a map, correct the map's output.
    Raise `TaskFailed` for a network with maps that are not seen: products with parameters, and recurrent layers.
    """
    recording = recorded_calls(network, images)
    calls, logits = recording.calls, recording.logits
    _require_no_hidden_maps(network, recording.products)
    maps = {call.output_node: call for call in calls if not call.kind.normalizes}
    normalizations = _direct_normalizations(calls, maps)
    excluded = _classifiers(logits, maps)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    uses = Counter(id(tensor) for call in calls for tensor in (call.weight, call.bias) if tensor is not None)
    sites = []
    for call in maps.values():
        follower = normalizations.get(call.number)
        if call.number in excluded or (follower is not None and follower.keeps_statistics):
            continue
        corrected = call if follower is None or before_normalization else follower
        sites.append(_site(corrected, names, uses))
    return sites


def _require_no_hidden_maps(network: nn.Module, products: Sequence[Product]) -> None:
    """Raise `TaskFailed` if a product has a parameter as a factor, itself or rearranged."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for product in products:
        for tensor in product.tensors:
            name = names.get(id(_leaf(tensor)))
            if name is not None:
                raise TaskFailed(
                    f"the network multiplies its parameter '{name}' by {product.function}, whose output cannot be corrected: "
                    "write it with F.linear or a convolution, or take the correction none"
                )


def _leaf(tensor: Tensor) -> Tensor:
    """Return the tensor that another one is a rearrangement or copy of, or the tensor itself."""
    node: Any = tensor.grad_fn
    while node is not None and (_moves(node) or _name(node) in _PARTS):
        node = node.next_functions[0][0]
    return tensor if node is None else getattr(node, "variable", tensor)


def _site(call: Call, names: Mapping[int, str], uses: Mapping[int, int]) -> Site:
    parameters = (call.weight, call.bias)
    own = all(id(tensor) in names and uses[id(tensor)] == 1 for tensor in parameters)
    if not own or not call.kind.foldable:
        return Site(call.number, call.axis)
    weight, bias = (names[id(tensor)] for tensor in parameters)
    return Site(call.number, call.axis, weight, bias)


def _direct_normalizations(calls: Sequence[Call], maps: Mapping[Any, Call]) -> dict[int, Call]:
    """Return the normalization of each map's output, by the map's number, where nothing but moves and copies is between."""
    found = {}
    for call in calls:
        if call.kind.normalizes:
            node = call.input_node
            while node is not None and node not in maps and _moves(node):
                node = node.next_functions[0][0]
            if node in maps:
                found[maps[node].number] = call
    return found


def _moves(node: Any) -> bool:
    return _name(node) in _MOVES and len(node.next_functions) == 1


def _name(node: Any) -> str:
    return type(node).__name__.partition("Backward")[0]


def _classifiers(logits: Tensor, maps: Mapping[Any, Call]) -> set[int]:
    """Return the numbers of the maps that reach the logits without another map; the last map if the graph is cut."""
    found = set()
    seen = set()
    pending = [logits.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in maps:
            found.add(maps[node].number)
        else:
            pending += [parent for parent, _ in node.next_functions]
    if not found and maps:
        return {max(call.number for call in maps.values())}
    return found
