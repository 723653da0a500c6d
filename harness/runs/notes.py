"""Lines about what is unusual in a run: failures, retries, damaged objects. Equal messages become one line with a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from harness.telemetry import events

Say = Callable[[str], None]

_MESSAGES = 20  # different messages of one kind that are printed, at most; the event log has them all


class Notes:
    """Prints the first event of each kind and message at once, and the number of the others at the run's end."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._seen: dict[tuple[str, str], int] = {}
        self._messages: Counter[str] = Counter()

    def show(self, event: events.Event) -> None:
        """Print what is worth a line."""
        if isinstance(event, events.EngineOpened):
            self._say(f"{event.engine} engine: {event.message}")
        elif isinstance(event, events.ObserverFailed):
            self._say(f"observer {event.observer} failed and gets no more events: {event.message}")
        elif isinstance(event, events.ObjectQuarantined):
            self._note("set aside", "", f"{event.message}; moved to {event.path} and computed again")
        elif isinstance(event, events.RunWarning):
            self._note("warning", "", event.message)
        elif isinstance(event, events.TaskWaiting):
            self._note("waiting", event.description, event.message)
        elif isinstance(event, events.OutOfMemory | events.TaskRetried):
            self._note("tried again", event.description, event.message)
        elif isinstance(event, events.TaskEnded) and event.status == "failed":
            self._note("failed", event.description, event.message)
        elif isinstance(event, events.TaskEnded) and event.taken_over:
            self._note("taken over", event.description, "another run has done it")
        elif isinstance(event, events.RunEnded):
            self._say_counts()

    def _note(self, kind: str, subject: str, message: str) -> None:
        """Print a message of a kind with its subject, or count it if it was printed before or there were too many."""
        known = (kind, message)
        if known in self._seen:
            self._seen[known] += 1
            return
        self._seen[known] = 1
        self._messages[kind] += 1
        if self._messages[kind] <= _MESSAGES:
            self._say(_line(kind, subject, message))
        if self._messages[kind] == _MESSAGES:
            self._say(f"further lines of this kind ({kind}) are left out; events.jsonl in the run's folder has them all")

    def _say_counts(self) -> None:
        """Print how often each message that was printed once came again."""
        for (kind, message), count in self._seen.items():
            more = count - 1
            if more:
                self._say(f"{kind} {more} more {'times' if more > 1 else 'time'} for the same reason: {message}")
        self._seen.clear()


def _line(kind: str, subject: str, message: str) -> str:
    """Return a line; the messages of quarantined and repeated work say themselves what they are about."""
    prefix = "" if kind in ("set aside", "tried again") else f"{kind}: "
    return f"{prefix}{subject}: {message}" if subject else f"{prefix}{message}"
