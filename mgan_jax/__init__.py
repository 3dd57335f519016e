"""Mutation testing of neural networks, and the adversarial samples that pass it, in JAX."""

__version__ = "0.1.0"
