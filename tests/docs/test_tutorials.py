"""The files of the tutorials, written and run as the pages say."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import harness
from harness import DataError
from harness.registry.catalogue import Catalogue, Registration, load_catalogue
from harness.registry.discovery import Source
from harness.testing import check_architecture, check_dataset
from harness_basin.matching import derive_symmetry

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
FILE = re.compile(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TREES = ("birch", "maple", "oak")


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows; each follows a paragraph that ends with its name."""
    files = FILE.findall((TUTORIALS / page).read_text(encoding="utf-8"))
    assert len(files) >= 4
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")


def catalogue_with(kind: str, cls: type) -> Catalogue:
    """Return the installed plugins and one more."""
    return Catalogue([*load_catalogue(), Registration(kind, cls.name, cls, Source("tutorial", "tutorial 0"))])


def board(folder: Path, benchmark: str, catalogue: Catalogue) -> harness.Run:
    """Return the finished run of a benchmark that a page shows."""
    run = harness.run(
        folder / benchmark,
        out=folder / "run",
        store=folder / "store",
        data=folder / "data",
        workers=1,
        device="cpu",
        progress=False,
        catalogue=catalogue,
    )
    assert run.status == "done", run.failures
    return run


def paint_leaves(folder: Path, train: int, test: int) -> None:
    """Write images of three classes, which differ in color; sizes differ, and some images are gray."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for label, tree in enumerate(TREES):
            target = folder / split / tree
            target.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 150, (36 + number % 3, 40, 3), dtype=np.uint8)
                pixels[..., label] += 100
                Image.fromarray(pixels).save(target / f"{number:03}.png")
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(folder / "train" / "oak" / "999.png")


@pytest.fixture
def packed_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[harness.Dataset]:
    """The data set of the page, declared with the lines that `pack.py` printed for painted images."""
    write_files("own-data-set.md", tmp_path)
    paint_leaves(tmp_path / "leaves", train=32, test=8)
    (tmp_path / "data").mkdir()
    command = [sys.executable, "pack.py", "leaves", "data/leaves.npz"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    plugin = tmp_path / "leaves.py"
    declared = []
    for line in plugin.read_text(encoding="utf-8").splitlines():
        declared.append(printed.pop(0) if line.endswith("# printed by pack.py") else line)
    assert printed == []
    plugin.write_text("\n".join(declared), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "leaves", raising=False)
    leaves: type[harness.Dataset] = importlib.import_module("leaves").Leaves
    return leaves


def test_own_data_set_keeps_the_contract(packed_leaves: type[harness.Dataset], tmp_path: Path) -> None:
    """The declared normalization is that of the images, in [0, 1], and labels follow the names of the folders."""
    dataset = packed_leaves()
    check_dataset(dataset, tmp_path / "data")
    train, test = dataset.load(tmp_path / "data")
    assert (dataset.shape, dataset.num_classes, dataset.train_size) == ((3, 32, 32), 3, 97)
    assert train.labels.bincount().tolist() == [32, 32, 33]
    assert len(test) == 24
    means, deviations = dataset.normalization
    scaled = train.images.double() / 255
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.tensor(means).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3), correction=0), torch.tensor(deviations).double(), atol=1e-4, rtol=0)


def test_own_data_set_without_its_file(packed_leaves: type[harness.Dataset], tmp_path: Path) -> None:
    """The error names the file and the command that makes it; other bytes are refused."""
    path = tmp_path / "data" / "leaves.npz"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"leaves\.npz is not the file that was declared; run pack\.py again"):
        packed_leaves().load(tmp_path / "data")
    path.unlink()
    with pytest.raises(DataError, match=r"leaves\.npz is missing; make it with: python pack\.py leaves .*leaves\.npz$"):
        packed_leaves().load(tmp_path / "data")


def test_board_of_the_own_data_set(packed_leaves: type[harness.Dataset], tmp_path: Path) -> None:
    """Classes that differ in color are learned: every ensemble is better than chance, which is 33 %."""
    run = board(tmp_path, "leaves.yaml", catalogue_with("dataset", packed_leaves))
    rows = run.rows
    assert set(rows["method"]) == {"deep", "constrained", "permuted"}
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].min() > 60


def test_own_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the contract, learns in both sizes, and `permuted` aligns its members by the groups that the page names."""
    write_files("own-architecture.md", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("residual_network", "residual_plugin"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    architecture = importlib.import_module("residual_plugin").Residual
    check_architecture(architecture(), shape=(1, 8, 8), classes=10)

    run = board(tmp_path, "residual.yaml", catalogue_with("architecture", architecture))
    rows = run.rows
    assert set(rows["status"]) == {"done"}
    assert set(rows["architecture"]) == {"residual", "narrow"}
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].min() > 80

    network = architecture().build((1, 8, 8), 10)
    symmetry = derive_symmetry(network, torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert [group.size for group in symmetry.groups] == [32, 64, 64]
