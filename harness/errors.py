"""The exception tree. Everything a user can cause is a `UserError` and reads as one line: where, what, what is allowed."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

from harness.text import describe_error

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")  # in torch's RuntimeErrors


class HarnessError(Exception):
    """Base of every error this project raises on purpose."""


class UserError(HarnessError):
    """A mistake that the user can fix. The command line prints it without a traceback and exits with 2."""


class BenchmarkError(UserError):
    """Problems in a benchmark file, all of them at once, one `file:line:column: message` a line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PluginError(UserError):
    """A plugin that cannot be used: the message names the distribution, the plugin and the offence."""


class UnknownName(UserError):
    """A name that nobody registered; the message offers the nearest ones."""


class DataError(UserError):
    """A data set that is missing, damaged or not what it says; the message says which file to put where."""


class DeviceError(UserError):
    """A device that is not there."""


class StoreError(UserError):
    """A store that cannot be read or written: permissions, a full disk."""


class RunStopped(UserError):
    """A run that had to stop before it was done: the store or the run's folder takes no more. What was computed is on disk."""


class DamagedObject(HarnessError):
    """A stored object whose bytes no longer match their digests."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"object {key[:12]} is damaged: {reason}")

    def __reduce__(self) -> tuple:
        return type(self), (self.key, self.reason)


class TaskFailed(HarnessError):
    """Work that cannot succeed as specified (a diverged member, a plugin that raised). It fails its cells only."""


class PluginFailed(TaskFailed):
    """A plugin raised, or gave what it may not give; the message names the plugin and the hook. It fails its cells only."""


class Interrupted(HarnessError):
    """The user asked to stop; the state reached is on disk."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'? known: a, b"` for an unknown word (at most 30 names are listed)."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    listed = ", ".join(names[:30]) + (f", … ({len(names)} in all)" if len(names) > 30 else "")
    return f"{hint} known: {listed or 'none'}"


@contextlib.contextmanager
def attribute_errors(plugin: str, hook: str) -> Iterator[None]:
    """Turn whatever a plugin's hook raises, an exit too, into `PluginFailed` that names both.

    The project's own errors, the user's interruption and out-of-memory errors pass unchanged.
    """
    try:
        yield
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:
        if is_out_of_memory(error):
            raise
        raise PluginFailed(f"{plugin}: {hook} raised {describe_error(error)}{_hint(error)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def _hint(error: BaseException) -> str:
    """Say what of the harness an error may come from, where torch's own words do not."""
    if isinstance(error, RuntimeError) and "view size is not compatible" in str(error):
        return "; images and the weights of convolutions are laid out channels-last here: write flatten or reshape, not view"
    return ""
