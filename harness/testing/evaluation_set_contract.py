"""The contract of evaluation sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.data import Split
from harness.api.evaluation_set import EvaluationSet
from harness.errors import PluginFailed

if TYPE_CHECKING:
    from harness.api.interfaces import Dataset


def check_evaluation_set(evaluation_set: EvaluationSet, dataset: Dataset, root: Path) -> None:
    """Check that every split of an evaluation set loads from the data root in the form of the test split, equally each time.

    Names and fingerprints of the splits differ. A paired set has the test images' labels; images of other classes have the
    label 0.
    """
    import torch

    from harness.execution.plugin_results import check_split

    dataset = dataset.located(root)
    name = evaluation_set.full_name
    evaluation_set.check(dataset)
    evaluation_set.locate(dataset, root)
    _, test = dataset.load(root)
    splits = list(evaluation_set.splits(dataset))
    assert splits, f"{name}: it has no splits"
    assert len(set(splits)) == len(splits), f"{name}: two splits have one name"
    fingerprints = {evaluation_set.fingerprint(dataset, split) for split in splits}
    assert "" not in fingerprints, f"{name}: a fingerprint is empty"
    assert len(fingerprints) == len(splits), f"{name}: two splits have one fingerprint"
    for split in splits:
        loaded = evaluation_set.load(dataset, split, root)
        try:
            check_split(f"{name}: a split '{split}'", loaded, dataset)
        except PluginFailed as error:
            raise AssertionError(str(error)) from None
        _check_labels(f"{name}: split '{split}'", evaluation_set, loaded, test)
    again = evaluation_set.load(dataset, splits[-1], root)
    assert torch.equal(again.images, loaded.images), f"{name}: loading split '{splits[-1]}' twice gives other images"


def _check_labels(what: str, evaluation_set: EvaluationSet, split: Split, test: Split) -> None:
    import torch

    if evaluation_set.out_of_distribution:
        assert not split.labels.any(), f"{what}: has labels other than 0, though its images are of none of the classes"
    elif evaluation_set.paired:
        assert torch.equal(split.labels, test.labels), f"{what}: its labels are not those of the test images"
