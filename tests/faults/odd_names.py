"""Names that are neither keys nor names of parts, folders or benchmarks."""

from __future__ import annotations

NAMES = {
    "up": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "device": "CON",
    "device file": "/dev/zero",
    "drive": "C:\\Windows",
    "long": "a" * 300,
    "empty": "",
    "control": "a\x00b",
    "line break": "a" * 63 + "\n",
    "escape": "\x1b[2J",
    "capital": "A" * 64,
    "look-alike": "а" * 64,  # Cyrillic
    "full width": "ａ" * 64,
    "digits of another script": "١" * 64,
    "short": "0" * 63,
    "surrogate": "\ud800" * 64,
}
