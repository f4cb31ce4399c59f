"""Programs of several processes: how a process joins the others, and a command that starts them.

`initialize()` makes a program one of several. On one machine its copies are started by

    python -m solvers.processes 2 examples/many_processes.py

and on a cluster by what starts programs there. Slurm, Open MPI 4, Kubernetes and TPU pods tell JAX
all it has to know; where nothing does, set for each copy `JAX_COORDINATOR_ADDRESS` (address and
port of the first), `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` (from 0).
"""

from solvers.processes.joining import initialize as initialize
from solvers.processes.starting import run as run
from solvers.processes.starting import variables as variables
