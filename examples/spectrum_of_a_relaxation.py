"""See which frequencies a relaxation removes: the error by mode after some sweeps, as a figure."""

import jax
import matplotlib.pyplot as plt
import numpy as np

from solvers import GaussSeidel, Jacobi, gallery, solve, spectrum

jax.config.update("jax_enable_x64", True)
problem = gallery.lifted(64).problem
exact = solve(problem).value
start = np.random.default_rng(0).standard_normal(exact.shape)  # all frequencies alike

figure, axes = plt.subplots(layout="constrained")
for name, method in {
    "Jacobi": Jacobi(max_steps=20, rtol=0),
    "Jacobi, ω = 0.8": Jacobi(0.8, max_steps=20, rtol=0),
    "Gauss–Seidel": GaussSeidel(max_steps=20, rtol=0),
}.items():
    u = solve(problem, method, initial=start, throw=False).value
    error = spectrum.error_by_mode(u, exact, problem.grid)
    axes.semilogy(np.arange(1, 64), error, label=name)
    factors = np.abs(spectrum.damping_factors(method, problem.operator))
    print(
        f"{name}: the smoothest mode times {factors[0]:.4f} a sweep, the middle {factors[31]:.4f}"
    )
axes.set(xlabel="frequency, half-waves per box", ylabel="error after 20 sweeps")
axes.legend()
figure.savefig("spectrum_of_a_relaxation.png")
