"""Resolve abbreviated keys, as users type them."""

from __future__ import annotations

import re

from harness.errors import StoreError, UnknownKey
from harness.store.errors import explained
from harness.store.layout import Layout

_EXPECTED = "4 to 64 hexadecimal digits, as the rows and `harness plan --json` print them"


def resolve_key(layout: Layout, prefix: str) -> str:
    """Return the one key, of an object or a task, that starts with a prefix.

    Raise `StoreError` if the prefix is not 4 to 64 hexadecimal digits or several keys start with it,
    and `UnknownKey` if none does.
    """
    if not re.fullmatch(r"[0-9a-f]{4,64}", prefix):
        raise StoreError(f"{prefix[:80]!r} is not a key; {_EXPECTED}")
    with explained(layout.root, "cannot be read"):
        found = layout.keys_starting_with(prefix)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownKey(f"{layout.root}: nothing under '{prefix}'; give more or other digits")
    raise StoreError(f"{layout.root}: {len(found)} things under '{prefix}'; give more or other digits")
