"""Architectures and data sets for image classification.

Importing this costs neither torch nor timm: these files declare what a benchmark file can choose, and `build` and `load`
import the files that do the work (`resnet20_network.py`, `vit_network.py`, `pictures.py`) and the libraries.
"""

from collections.abc import Callable

from harness import Architecture, Dataset, hookimpl
from harness_vision.cifar import Cifar10, Cifar100
from harness_vision.digits import Digits
from harness_vision.resnet20 import ResNet20
from harness_vision.timm_backbones import TimmBackbone
from harness_vision.tiny_imagenet import TinyImageNet
from harness_vision.vit import ViT


@hookimpl
def register_architectures(register: Callable[[type[Architecture]], None]) -> None:
    """Register the paper's two networks and everything timm has."""
    for architecture in (ResNet20, ViT, TimmBackbone):
        register(architecture)


@hookimpl
def register_datasets(register: Callable[[type[Dataset]], None]) -> None:
    """Register the paper's three data sets, and digits, which needs no download."""
    for dataset in (Cifar10, Cifar100, TinyImageNet, Digits):
        register(dataset)
