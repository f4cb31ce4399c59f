"""A training's output goes to a solver: what is left to do, when to go over, and how."""

from solvers.hybrid.advice import Advice as Advice
from solvers.hybrid.advice import advise as advise
from solvers.hybrid.handover import Deflation as Deflation
from solvers.hybrid.handover import Galerkin as Galerkin
from solvers.hybrid.handover import Guess as Guess
from solvers.hybrid.handover import ScaledGuess as ScaledGuess
from solvers.hybrid.hybrid import Hybrid as Hybrid
from solvers.hybrid.hybrid import HybridPlan as HybridPlan
from solvers.hybrid.hybrid import HybridSolution as HybridSolution
from solvers.hybrid.scheduler import FixedHandoff as FixedHandoff
from solvers.hybrid.scheduler import Handoff as Handoff
from solvers.hybrid.scheduler import SpectralHandoff as SpectralHandoff
