"""Data is never executed: no source evaluates text or unpickles files, and a store is read without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = ("eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load", "torch.load", "os.system")
FORBIDDEN_MODULES = ("pickle", "dill", "joblib", "marshal", "shelve")


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in the sources, with the path of its file."""
    for path in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(ROOT)), node


def test_functions_that_execute_data() -> None:
    """The only one called is `pickle.loads`, on CIFAR's batches, whose md5 is checked before."""
    found = set()
    for path, call in calls():
        name = ast.unparse(call.func)
        if name in FORBIDDEN or name.split(".")[0] in FORBIDDEN_MODULES:
            found.add((path, name))
    assert found == {("plugins/harness_vision/cifar.py", "pickle.loads")}


def test_arguments_that_execute_data() -> None:
    """No call has the argument `shell`, or `weights_only=False`."""
    found = set()
    for path, call in calls():
        for keyword in call.keywords:
            unsafe_load = keyword.arg == "weights_only" and "False" in ast.unparse(keyword.value)
            if keyword.arg == "shell" or unsafe_load:
                found.add((path, keyword.arg))
    assert found == set()


def test_verification_of_a_store(tmp_path: Path) -> None:
    """It does not import torch."""
    code = (
        "import sys; from pathlib import Path; from harness.store import Store\n"
        f"print(list(Store(Path({str(tmp_path)!r})).maintenance.find_corruption()))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
