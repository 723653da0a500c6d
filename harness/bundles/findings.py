"""What a verification finds: lines about what agrees, what differs, and what could not be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["agrees", "note", "differs"]


@dataclass(frozen=True)
class Finding:
    """One line: what was compared (`subject`), whether it agrees, and a text. A note says what was not compared, and why."""

    status: Status
    subject: str
    text: str


@dataclass
class Findings:
    """The findings of a verification, in order."""

    found: list[Finding] = field(default_factory=list)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    @property
    def disagreements(self) -> list[Finding]:
        """The findings of what differs."""
        return [finding for finding in self.found if finding.status == "differs"]

    def agrees(self, subject: str, text: str) -> None:
        """Add something that agrees."""
        self.found.append(Finding("agrees", subject, text))

    def note(self, subject: str, text: str) -> None:
        """Add something that was not compared."""
        self.found.append(Finding("note", subject, text))

    def differs(self, subject: str, text: str) -> None:
        """Add something that differs."""
        self.found.append(Finding("differs", subject, text))

    def result(self, subject: str, problems: Iterable[str], text: str) -> bool:
        """Add one finding per problem, or `text` if there is none. Return whether there is none."""
        listed = list(problems)
        for problem in listed:
            self.differs(subject, problem)
        if not listed:
            self.agrees(subject, text)
        return not listed

    def to_json(self) -> list[dict[str, Any]]:
        """Return the findings as JSON."""
        return [asdict(finding) for finding in self.found]
