"""An attack's success, the one definition of it; of jax's arrays and of NumPy's alike."""

from typing import Any


def tried(labels: Any, correct: Any, targets: Any = None) -> Any:
    """Which images an attack is to fool: those that are read correctly, but not those of the class that it aims at.

    Args:
      labels: [N] true classes.
      correct: [N] bool, whether the clean image is read correctly.
      targets: [N] aims, or one for all; None: any class but the true one.

    Returns:
      [N] bool.
    """
    return correct if targets is None else correct & (labels != targets)


def fooled(labels: Any, correct: Any, decisions: Any, targets: Any = None) -> Any:
    """On which images it succeeds: of those that it is to fool, those that are misread, or read as the class that it aims at.

    Args:
      labels, correct, targets: as in `tried`.
      decisions: [N] what the adversarial images are read as; -1, `engine.NO_CLASS`, is no success.

    Returns:
      [N] bool.
    """
    reached = decisions != labels if targets is None else decisions == targets
    return tried(labels, correct, targets) & (decisions >= 0) & reached
