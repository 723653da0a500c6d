"""The scripts of the page, and the content security policy that allows these scripts and nothing else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_VENDORED = ("dataTables",)
_OWN = ("tables.js", "figures.js")


@cache
def page_scripts() -> tuple[str, ...]:
    """Return the texts of the page's `<script>` elements, in order: vendored ones with their licences first, then our own."""
    scripts = []
    for name in _VENDORED:
        licence = (_HERE / "vendor" / f"{name}.LICENSE.txt").read_text(encoding="utf-8").strip()
        script = (_HERE / "vendor" / f"{name}.min.js").read_text(encoding="utf-8")
        scripts.append(f"/*\n{licence}\n*/\n{script}")
    scripts += [(_HERE / "assets" / name).read_text(encoding="utf-8") for name in _OWN]
    return tuple(scripts)


def content_security_policy() -> str:
    """Return a policy without network: scripts are allowed by their digests, and images as data inside of figures."""
    digests = []
    for script in page_scripts():
        digest = hashlib.sha256(script.encode()).digest()
        digests.append(f"'sha256-{base64.b64encode(digest).decode()}'")
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {' '.join(digests)}"
