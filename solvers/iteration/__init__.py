"""The one loop behind every iterative method: budget, stopping, history, status."""

from solvers.iteration.claims import statistics_of as statistics_of
from solvers.iteration.history import HISTORY as HISTORY
from solvers.iteration.loop import iterate as iterate
from solvers.iteration.loop import power_of_two as power_of_two
from solvers.iteration.loop import repeated as repeated
from solvers.iteration.method import AbstractIteration as AbstractIteration
from solvers.iteration.method import AbstractPreconditioner as AbstractPreconditioner
from solvers.iteration.method import as_preconditioner as as_preconditioner
from solvers.iteration.method import fixed_steps as fixed_steps
from solvers.iteration.method import refuse_options as refuse_options
from solvers.iteration.method import stopping as stopping
from solvers.iteration.method import with_budget as with_budget
from solvers.iteration.reason import Reason as Reason
from solvers.iteration.reason import has_succeeded as has_succeeded
from solvers.iteration.reason import lineax_result as lineax_result
from solvers.iteration.reason import message as message
from solvers.iteration.reason import reason_of as reason_of
from solvers.iteration.unknowns import Operator as Operator
from solvers.iteration.unknowns import RaveledOperator as RaveledOperator
from solvers.iteration.unknowns import norm as norm
from solvers.iteration.unknowns import read_vector as read_vector
from solvers.iteration.unknowns import size_of as size_of
from solvers.iteration.unknowns import without_mean as without_mean
