"""Specs: frozen values that describe handles and tasks. Each has one JSON form, from which keys are computed.

Task files contain the specs of tasks. A spec refers to a plugin by its identity, as `Plugin.identity` returns it.
"""

from __future__ import annotations

from harness.api.specs.handles import (
    CheckpointSpec,
    DerivationSpec,
    DerivedSpec,
    JointCheckpointSpec,
    JointMemberSpec,
    JointTrajectorySpec,
    MomentSpec,
    SettingSpec,
    TrajectorySpec,
    WeightsLocation,
)
from harness.api.specs.spec import (
    Identity,
    Spec,
    StreamName,
)
from harness.api.specs.tasks import (
    CheckSpec,
    CoupledMemberSpec,
    CoupledSpec,
    DeriveSpec,
    EvaluationPredictions,
    EvaluationSpec,
    Kind,
    MeasureSpec,
    PredictSpec,
    ProbeSpec,
    TaskSpec,
    TeacherSpec,
    TrainingStart,
    TrainSpec,
    task_spec_from_json,
)

__all__ = [
    "CheckSpec",
    "CheckpointSpec",
    "CoupledMemberSpec",
    "CoupledSpec",
    "DerivationSpec",
    "DeriveSpec",
    "DerivedSpec",
    "EvaluationPredictions",
    "EvaluationSpec",
    "Identity",
    "JointCheckpointSpec",
    "JointMemberSpec",
    "JointTrajectorySpec",
    "Kind",
    "MeasureSpec",
    "MomentSpec",
    "PredictSpec",
    "ProbeSpec",
    "SettingSpec",
    "Spec",
    "StreamName",
    "TaskSpec",
    "TeacherSpec",
    "TrainSpec",
    "TrainingStart",
    "TrajectorySpec",
    "WeightsLocation",
    "task_spec_from_json",
]
