"""The methods and figures of "How Good is a Single Basin?" (Lion et al., AISTATS 2024), one file per method or figure."""

from __future__ import annotations

from collections.abc import Callable

from harness import Coupling, Derivation, EnsembleBuilder, Figure, Objective, hookimpl
from harness_basin.aligned import AlignedEnsemble
from harness_basin.alignments import ALIGNMENTS
from harness_basin.averages.averaging import GreedySoup, UniformSoup
from harness_basin.averages.fused import FusedEnsemble
from harness_basin.averages.soup import Soup
from harness_basin.averages.varied import VariedEnsemble
from harness_basin.constrained import ConstrainedEnsemble
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.deep import DeepEnsemble
from harness_basin.distillation import Distillation
from harness_basin.distilled import DistilledEnsemble
from harness_basin.distilled_deep import DistilledDeepEnsemble
from harness_basin.figures import AccuracyConnectivity, ForkEpochs, PairwiseCurves
from harness_basin.multi_permuted import MultiPermutedEnsemble
from harness_basin.permuted import PermutedEnsemble
from harness_basin.populations.codistilled import CodistilledEnsemble
from harness_basin.populations.couplings import COUPLINGS
from harness_basin.populations.papa import PapaEnsemble
from harness_basin.populations.repelled import RepelledEnsemble
from harness_basin.populations.simplex import SimplexEnsemble
from harness_basin.populations.wash import WashEnsemble
from harness_basin.published import PublishedEnsemble, PublishedWeights
from harness_basin.samplers.fge import FastGeometricEnsemble
from harness_basin.samplers.snapshot import SnapshotEnsemble
from harness_basin.samplers.swa import StochasticWeightAverage
from harness_basin.samplers.swag import GaussianEnsemble
from harness_basin.samplers.weight_averaging import GaussianSamples, MeanOfRun
from harness_basin.swe import StochasticWeightEnsemble


@hookimpl
def register_ensemble_builders(register: Callable[[type[EnsembleBuilder]], None]) -> None:
    """Register the paper's seven ensembles, published and aligned ones, and those of other papers."""
    register(DeepEnsemble)
    register(StochasticWeightEnsemble)
    register(ConstrainedEnsemble)
    register(PermutedEnsemble)
    register(MultiPermutedEnsemble)
    register(DistilledEnsemble)
    register(DistilledDeepEnsemble)
    register(PublishedEnsemble)
    register(AlignedEnsemble)
    register(PapaEnsemble)
    register(WashEnsemble)
    register(SimplexEnsemble)
    register(RepelledEnsemble)
    register(CodistilledEnsemble)
    register(SnapshotEnsemble)
    register(FastGeometricEnsemble)
    register(VariedEnsemble)
    register(Soup)
    register(FusedEnsemble)
    register(StochasticWeightAverage)
    register(GaussianEnsemble)


@hookimpl
def register_objectives(register: Callable[[type[Objective]], None]) -> None:
    """Register cross-entropy and distillation (paper, Eq. 1)."""
    register(CrossEntropy)
    register(Distillation)


@hookimpl
def register_derivations(register: Callable[[type[Derivation]], None]) -> None:
    """Register the alignments, the averages of weights, and the weights of published members."""
    for alignment in ALIGNMENTS:
        register(alignment)
    register(UniformSoup)
    register(GreedySoup)
    register(MeanOfRun)
    register(GaussianSamples)
    register(PublishedWeights)


@hookimpl
def register_couplings(register: Callable[[type[Coupling]], None]) -> None:
    """Register what ties the members of a population in training."""
    for coupling in COUPLINGS:
        register(coupling)


@hookimpl
def register_figures(register: Callable[[type[Figure]], None]) -> None:
    """Register figures 2a to 3 in the paper's order."""
    register(PairwiseCurves)
    register(AccuracyConnectivity)
    register(ForkEpochs)
