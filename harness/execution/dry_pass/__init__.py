"""The dry pass before training: everything that a training does, tried once on two images. Its networks are discarded."""

from harness.execution.dry_pass.dry_pass import DryPass

__all__ = ["DryPass"]
