"""Every method on every backend that JAX finds, and on other machines by their results."""
