"""Interface of alignments: derivations that move members within the symmetries of their network. Imports no torch."""

from __future__ import annotations

from typing import ClassVar

from harness.api.derivation import Derivation


class Alignment(Derivation):
    """Moves networks close to others in weight space; their functions stay. Registered like any derivation.

    An alignment of a pair (`joint = False`) has two parents, the reference and the network to move, and returns the latter. A
    joint one has all M members as parents and returns all of them. It has an option `members` with a default, which the method
    that aligns an ensemble sets to M. The first member is never moved, except by an alignment with `normal_form`.
    """

    choice_name: ClassVar[str] = ""
    """The name by which options of methods choose it, as in `by: weights`; by default the registered name."""
    joint: ClassVar[bool] = False
    """Whether all members are aligned at once."""
    normal_form: ClassVar[bool] = False
    """Whether it brings all members into a normal form first, the first one, too. Such an alignment is joint."""

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """The number of results: one moved network, or all members."""
        if not self.joint:
            return 1
        members: int = self.options.members
        return members

    @property
    def keeps_function(self) -> bool:
        """Whether the moved networks compute what they computed before. Options may give that up, for the method `fused`."""
        return True

    def for_members(self, members: int) -> Alignment:
        """Return the alignment of an ensemble of M members."""
        if not self.joint:
            return self
        return type(self)(self.options.replace(members=members))
