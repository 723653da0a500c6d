"""Whether metrics, and the evaluation sets that they name, fit the data sets of a benchmark. Reads no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api.evaluation_set import EvaluationSet
from harness.api.interfaces import Dataset, Metric
from harness.benchmark.resolver import check_errors
from harness.errors import DataError

if TYPE_CHECKING:
    from harness.registry.catalogue import Catalogue


def dataset_errors(metric: Metric, dataset: Dataset) -> tuple[str, ...]:
    """Return why a metric cannot be measured on a data set.

    Nothing if the data set knows what is asked only once it is located: the plan of a run asks the located one.
    """

    def check() -> None:
        try:
            metric.check_dataset(dataset)
        except DataError:
            return

    return check_errors(check)


def evaluation_set_errors(evaluation_set: EvaluationSet, dataset: Dataset, catalogue: Catalogue) -> tuple[str, ...]:
    """Return why an evaluation set does not exist for a data set, with the names of those that do."""
    if not check_errors(_check, type(evaluation_set)(), dataset):
        return check_errors(_check, evaluation_set, dataset)
    known = []
    for name in catalogue.names("evaluation_set"):
        if not check_errors(_check, catalogue.get("evaluation_set", name)(), dataset):
            known.append(name)
    advice = f"known for it: {', '.join(known)}" if known else "there is none for it"
    return tuple(f"{error}; {advice}" for error in check_errors(_check, evaluation_set, dataset))


def _check(evaluation_set: EvaluationSet, dataset: Dataset) -> None:
    try:
        evaluation_set.check(dataset)
    except DataError:
        return
