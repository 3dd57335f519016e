"""Detectors of adversarial images: `NamedTuple(fit, score)`, larger scores are more suspicious."""
