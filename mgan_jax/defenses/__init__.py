"""Defenses: `NamedTuple(fit, apply, purify)`; the defended classifier is again an `ApplyFn`."""
