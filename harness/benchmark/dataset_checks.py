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
    """Return why an evaluation set does not exist for a data set, with the names of those of its kind that do."""
    errors = check_errors(_check, evaluation_set, dataset)
    if not errors or not check_errors(_check, type(evaluation_set)(), dataset):  # only its options do not fit
        return errors
    known = []
    for registration in catalogue.in_order("evaluation_set"):
        other = registration.cls()
        assert isinstance(other, EvaluationSet)
        alike = other.out_of_distribution == evaluation_set.out_of_distribution
        if alike and not check_errors(_check, other, dataset):
            known.append(other.name)
    advice = f"known for it: {', '.join(sorted(known))}" if known else "there is none like it"
    return tuple(f"{error}; {advice}" for error in errors)


def _check(evaluation_set: EvaluationSet, dataset: Dataset) -> None:
    try:
        evaluation_set.check(dataset)
    except DataError:
        return
