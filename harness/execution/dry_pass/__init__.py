"""A dry pass before training: everything that a training does, tried once on two images with networks that are thrown away."""

from harness.execution.dry_pass.dry_pass import DryPass

__all__ = ["DryPass"]
