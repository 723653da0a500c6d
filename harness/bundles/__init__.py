"""Bundles: published runs, which others can check on their machine and whose members they can use.

`open_bundle` reads a bundle, and `load_member` makes a network of one of its members. `docs/publishing.md` describes both.
"""

from harness.bundles.bundle import Bundle, EnsembleEntry, open_bundle
from harness.bundles.digests import FileDigest
from harness.bundles.member_config import MemberConfig
from harness.bundles.member_weights import load_member, read_weights
from harness.registry.recorded_identity import is_recorded_identity

__all__ = [
    "Bundle",
    "EnsembleEntry",
    "FileDigest",
    "MemberConfig",
    "is_recorded_identity",
    "load_member",
    "open_bundle",
    "read_weights",
]
