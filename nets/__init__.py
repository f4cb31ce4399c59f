"""Networks that minimise the Ritz energy of an elliptic problem, or fit samples."""

from nets.ansatz import input_size as input_size
from nets.boundaries import HardBoundary as HardBoundary
from nets.boundaries import PenaltyBoundary as PenaltyBoundary
from nets.fitting import Fit as Fit
from nets.fitting import FitSnapshot as FitSnapshot
from nets.losses import cross_entropy as cross_entropy
from nets.losses import mean_squared_error as mean_squared_error
from nets.networks import MLP as MLP
from nets.networks import FourierMLP as FourierMLP
from nets.networks import MultiscaleMLP as MultiscaleMLP
from nets.optimizers import energy_natural_gradient as energy_natural_gradient
from nets.optimizers import in_turn as in_turn
from nets.quadrature import GaussLegendre as GaussLegendre
from nets.quadrature import GridEnergy as GridEnergy
from nets.quadrature import PaperSum as PaperSum
from nets.refinement import QuadratureCheck as QuadratureCheck
from nets.refinement import QuadratureWarning as QuadratureWarning
from nets.resnet import ResNet18 as ResNet18
from nets.ritz import ritz_energy as ritz_energy
from nets.training import RitzTraining as RitzTraining
from nets.training import TrainingState as TrainingState
