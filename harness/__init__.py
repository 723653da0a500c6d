"""basin-harness: a plugin-based benchmark harness for ensembles in weight space.

What a plugin needs is here; importing it costs no torch.
"""

from harness.early_interrupt import quiet_interrupts
from harness.safe_path import drop_working_folder

drop_working_folder()  # before anything else is imported, which a file in the working folder could replace
quiet_interrupts()

from harness import drawing, leaderboard, streams
from harness.ensemble import EvaluatedEnsemble
from harness.errors import DataError, HarnessError, PluginError, TaskFailed, UserError
from harness.figure import Epoch, Figure, FigureData, Plot, Training
from harness.hookspecs import hookimpl
from harness.interfaces import (
    Architecture,
    Dataset,
    Derivation,
    Engine,
    EnsembleBuilder,
    Metric,
    MetricValue,
    Objective,
    Options,
    Session,
    Split,
    State,
    Workbench,
)
from harness.recipe import Augmentation, Recipe
from harness.task import Outcome, Task
from harness.trajectory import Cell, Checkpoint, Derived, Setting, Trajectory, Weights

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Augmentation",
    "Cell",
    "Checkpoint",
    "DataError",
    "Dataset",
    "Derivation",
    "Derived",
    "Engine",
    "EnsembleBuilder",
    "Epoch",
    "EvaluatedEnsemble",
    "Figure",
    "FigureData",
    "HarnessError",
    "Metric",
    "MetricValue",
    "Objective",
    "Options",
    "Outcome",
    "Plot",
    "PluginError",
    "Recipe",
    "Session",
    "Setting",
    "Split",
    "State",
    "Task",
    "TaskFailed",
    "Training",
    "Trajectory",
    "UserError",
    "Weights",
    "Workbench",
    "drawing",
    "hookimpl",
    "leaderboard",
    "streams",
]
