"""JAX-accelerated solvers for elliptic problems, as lineax solvers."""

from solvers import gallery as gallery
from solvers import spectrum as spectrum
from solvers.direct import FastDiagonalization as FastDiagonalization
from solvers.grid import Boundary as Boundary
from solvers.grid import Grid as Grid
from solvers.hybrid import FixedHandoff as FixedHandoff
from solvers.hybrid import Hybrid as Hybrid
from solvers.hybrid import SpectralHandoff as SpectralHandoff
from solvers.hybrid import advise as advise
from solvers.iteration import Reason as Reason
from solvers.iteration import as_preconditioner as as_preconditioner
from solvers.krylov import ConjugateGradient as ConjugateGradient
from solvers.multigrid.cycle import Cycle as Cycle
from solvers.multigrid.multigrid import Multigrid as Multigrid
from solvers.multigrid.prediction import predict_factor as predict_factor
from solvers.operators import EllipticOperator as EllipticOperator
from solvers.problems import Poisson as Poisson
from solvers.relaxation.chebyshev import Chebyshev as Chebyshev
from solvers.relaxation.gauss_seidel import GaussSeidel as GaussSeidel
from solvers.relaxation.gauss_seidel import Ordering as Ordering
from solvers.relaxation.gauss_seidel import optimal_over_relaxation as optimal_over_relaxation
from solvers.relaxation.jacobi import Jacobi as Jacobi
from solvers.relaxation.lines import LineRelaxation as LineRelaxation
from solvers.solution import Solution as Solution
from solvers.solution import SolveError as SolveError
from solvers.solution import solve as solve
