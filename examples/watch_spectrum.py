"""Watch which frequencies a model of your own learns first: errors by frequency over its training.

Put your model, inputs and targets in the place of these; more inputs a sample need no change.
"""

import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from nets import MLP, Fit, frequency_errors, low_frequency_ratio

x = np.random.default_rng(0).uniform(-1, 1, (500, 2))  # no grid is needed
y = np.sin(3 * x[:, :1]) + 0.5 * np.sin(12 * x[:, 1:])
model = MLP(2, (64, 64), outputs=1, frequency=6.0, rngs=nnx.Rngs(0))  # any flax.nnx module
variance = 0.02  # of the filter: low frequencies are those below about 1/√0.02 = 7

(share,) = low_frequency_ratio(x, y, [variance])
print(f"{share:.0%} of the target is at low frequencies")
steps, errors = [], []
for snapshot in Fit(model, x, y, optimizer=optax.adam(1e-3), every=50, max_steps=2000):
    steps.append(snapshot.step)
    errors.append(frequency_errors(x, y, snapshot.predict(x), variance))
    if snapshot.step % 400 == 0:
        print(f"step {snapshot.step}: {errors[-1].low:.3f} low, {errors[-1].high:.3f} high")

figure, axes = plt.subplots(layout="constrained")
axes.semilogy(steps, [e.low for e in errors], "-", label="low frequencies")
axes.semilogy(steps, [e.high for e in errors], "--", label="high frequencies")
axes.set(xlabel="training step", ylabel="relative error")
axes.legend()
figure.savefig("watch_spectrum.png")
