"""The exception classes. A user's mistake is a `UserError` of one line: where, what is wrong, what is allowed."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator

from harness.text import describe_error

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")  # in torch's RuntimeErrors


class HarnessError(Exception):
    """Base class of the errors that this project raises on purpose."""


class UserError(HarnessError):
    """A mistake that the user can fix. The command line prints it without a traceback and exits with 2."""


class BenchmarkError(UserError):
    """All problems of a benchmark file, one `file:line:column: message` per line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PluginError(UserError):
    """A plugin that cannot be used. The message names the distribution, the plugin and the problem."""


class UnknownName(UserError):
    """A name that is not registered. The message has the registered ones, the nearest first."""


class DataError(UserError):
    """A data set that is missing, damaged or not the expected one. The message says which file belongs where."""


class DeviceError(UserError):
    """A device that does not exist, or that keeps failing."""


class DeviceBroken(HarnessError):
    """A device that this process can no longer use, while a new process may. The message is one line."""


class StoreError(UserError):
    """A store that cannot be read or written, because of permissions or a full disk, for example."""


class UnknownKey(StoreError):
    """A key, or the start of one, that no object and no task of a store has."""


class RunStopped(UserError):
    """A run that stopped early: store or folder cannot be written, or no device works. Finished tasks are stored."""


class DamagedObject(HarnessError):
    """A stored object that does not match its digests."""

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        self.reason = reason
        super().__init__(f"object {key[:12]} is damaged: {reason}")

    def __reduce__(self) -> tuple:
        return type(self), (self.key, self.reason)


class TaskFailed(HarnessError):
    """A task that cannot succeed as specified (diverged training, error in a plugin). Only its own cells fail."""


class PluginFailed(TaskFailed):
    """An error in a plugin, or an invalid result of one. The message names the plugin and the hook."""


class Interrupted(HarnessError):
    """The user asked to stop. The current state is stored."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'? known: a, b"` for an unknown word (at most 30 names are listed)."""
    names = sorted(known)
    hint = ";"
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        hint = f"; did you mean '{near[0]}'?"
    listed = ", ".join(names[:30]) or "none"
    if len(names) > 30:
        listed += f", … ({len(names)} in all)"
    return f"{hint} known: {listed}"


@contextlib.contextmanager
def attribute_errors(plugin: str, hook: str) -> Iterator[None]:
    """Raise `PluginFailed`, which names plugin and hook, for any exception within the block, `SystemExit` included.

    The project's own errors, `KeyboardInterrupt` and out-of-memory errors pass unchanged.
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
    """Return whether an error means that memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)


def _hint(error: BaseException) -> str:
    """Return advice for errors of torch that this project's memory formats cause."""
    if isinstance(error, RuntimeError) and "view size is not compatible" in str(error):
        return "; images and the weights of convolutions are laid out channels-last here: write flatten or reshape, not view"
    return ""
