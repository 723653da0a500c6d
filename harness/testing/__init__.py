"""Contract tests for plugins, one function per kind of plugin, and a pytest plugin with fixtures.

    from harness.testing import check_architecture

    def test_my_network():
        check_architecture(MyNetwork(), shape=(3, 16, 16), classes=7)

A function raises `AssertionError` if the plugin breaks the contract of its kind; the message says how. pytest loads the
fixtures automatically if basin-harness is installed. Importing this package does not import torch.
"""

from harness.report.contract import check_figure, figure_data
from harness.testing.alignment_contract import check_alignment
from harness.testing.contracts import (
    check_architecture,
    check_correction,
    check_dataset,
    check_derivation,
    check_ensemble_builder,
    check_metric,
    check_objective,
)
from harness.testing.coupling_contract import check_coupling
from harness.testing.engine_contract import check_engine
from harness.testing.evaluation_set_contract import check_evaluation_set
from harness.testing.fixtures import harness_catalogue, harness_run
from harness.testing.observer_contract import check_observer
from harness.testing.samples import derivation_context, evaluated_ensemble

__all__ = [
    "check_alignment",
    "check_architecture",
    "check_correction",
    "check_coupling",
    "check_dataset",
    "check_derivation",
    "check_engine",
    "check_ensemble_builder",
    "check_evaluation_set",
    "check_figure",
    "check_metric",
    "check_objective",
    "check_observer",
    "derivation_context",
    "evaluated_ensemble",
    "figure_data",
    "harness_catalogue",
    "harness_run",
]
