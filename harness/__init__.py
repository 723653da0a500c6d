"""basin-harness: a plugin-based benchmark harness for ensembles in weight space.

What a plugin needs is here; importing it costs no torch.
"""

from harness.startup.early_interrupt import quiet_interrupts
from harness.startup.safe_path import drop_working_folder

drop_working_folder()  # before anything else is imported, which a file in the working folder could replace
quiet_interrupts()

from harness import bundles, kernels, leaderboard, statistics, streams
from harness.api import drawing, schedules
from harness.api.alignment import Alignment
from harness.api.builder import EnsembleBuilder
from harness.api.cell import Cell
from harness.api.choice import PluginChoice
from harness.api.correction import Correction, CorrectionContext, Removable
from harness.api.coupling import Coupling, CouplingStep
from harness.api.data import Split, StateDict
from harness.api.derivation import Derivation, DerivationContext, DerivationState
from harness.api.derived_weights import DerivedWeights
from harness.api.engine import Engine, EngineContext
from harness.api.ensemble import DerivationRecord, EvaluatedEnsemble
from harness.api.evaluation_set import EvaluationSet
from harness.api.figure import Epoch, Figure, FigureData, Plot, Training
from harness.api.interfaces import Architecture, Dataset, Metric, MetricValue, Objective
from harness.api.joint_trajectory import JointCheckpoint, JointTrajectory
from harness.api.moment_weights import MomentWeights
from harness.api.moments import Moments
from harness.api.observer import ObservedRun, Observer, RunResults
from harness.api.options import Options
from harness.api.predictions import Predictions
from harness.api.recipe import Augmentation, Recipe
from harness.api.setting import Setting
from harness.api.task import Outcome, Task
from harness.api.trajectory import Checkpoint, Trajectory, Weights
from harness.bundles import load_member
from harness.errors import DataError, HarnessError, PluginError, TaskFailed, UserError
from harness.execution.engines import interface as engines
from harness.registry.hookspecs import hookimpl
from harness.runs.member import Member
from harness.runs.python import run
from harness.runs.run import Run, open_run
from harness.telemetry import events

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "Architecture",
    "Augmentation",
    "Cell",
    "Checkpoint",
    "Correction",
    "CorrectionContext",
    "Coupling",
    "CouplingStep",
    "DataError",
    "Dataset",
    "Derivation",
    "DerivationContext",
    "DerivationRecord",
    "DerivationState",
    "DerivedWeights",
    "Engine",
    "EngineContext",
    "EnsembleBuilder",
    "Epoch",
    "EvaluatedEnsemble",
    "EvaluationSet",
    "Figure",
    "FigureData",
    "HarnessError",
    "JointCheckpoint",
    "JointTrajectory",
    "Member",
    "Metric",
    "MetricValue",
    "MomentWeights",
    "Moments",
    "Objective",
    "ObservedRun",
    "Observer",
    "Options",
    "Outcome",
    "Plot",
    "PluginChoice",
    "PluginError",
    "Predictions",
    "Recipe",
    "Removable",
    "Run",
    "RunResults",
    "Setting",
    "Split",
    "StateDict",
    "Task",
    "TaskFailed",
    "Training",
    "Trajectory",
    "UserError",
    "Weights",
    "bundles",
    "drawing",
    "engines",
    "events",
    "hookimpl",
    "kernels",
    "leaderboard",
    "load_member",
    "open_run",
    "run",
    "schedules",
    "statistics",
    "streams",
]
