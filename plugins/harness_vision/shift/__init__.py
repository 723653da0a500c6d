"""Evaluation sets: corrupted test images, and images of other classes. Importing this package does not import torch."""

from harness import EvaluationSet
from harness_vision.shift.c_like import CLike
from harness_vision.shift.cifar_c import Cifar10C, Cifar100C
from harness_vision.shift.photo_patches import PhotoPatches
from harness_vision.shift.svhn import Svhn

EVALUATION_SETS: tuple[type[EvaluationSet], ...] = (Cifar10C, Cifar100C, CLike, Svhn, PhotoPatches)
