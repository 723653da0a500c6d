"""Architectures, data sets and evaluation sets for image classification.

Importing this package imports neither torch nor timm. The modules imported here declare names and options; `build` and `load`
import the implementations (`resnet20_network.py`, `vit_network.py`, `pictures.py`) and the libraries when they are called.
"""

from collections.abc import Callable

from harness import Architecture, Dataset, EvaluationSet, hookimpl
from harness_vision.cifar import Cifar10, Cifar100
from harness_vision.digits import Digits
from harness_vision.resnet20 import ResNet20
from harness_vision.shift import EVALUATION_SETS
from harness_vision.timm_backbones import TimmBackbone
from harness_vision.tiny_imagenet import TinyImageNet
from harness_vision.vit import ViT


@hookimpl
def register_architectures(register: Callable[[type[Architecture]], None]) -> None:
    """Register the paper's two networks and the family of timm's networks."""
    for architecture in (ResNet20, ViT, TimmBackbone):
        register(architecture)


@hookimpl
def register_datasets(register: Callable[[type[Dataset]], None]) -> None:
    """Register the paper's three data sets and digits, which needs no download."""
    for dataset in (Cifar10, Cifar100, TinyImageNet, Digits):
        register(dataset)


@hookimpl
def register_evaluation_sets(register: Callable[[type[EvaluationSet]], None]) -> None:
    """Register corrupted test images and images of other classes."""
    for evaluation_set in EVALUATION_SETS:
        register(evaluation_set)
