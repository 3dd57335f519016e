"""Whether an attack succeeds and whether an image withstands it, by decisions; of jax's arrays and of NumPy's alike.

The decisions are those of the program that evaluates the images, whatever their lead. An attack's own `success` demands besides
a lead beyond rounding (`losses.margin_to_fool`). An image that is misread by less is then no success, and withstands neither.
"""

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


def withstands(labels: Any, correct: Any, decisions: Any, targets: Any = None) -> Any:
    """Which images withstand an attack: those that are read correctly, clean and still.

    Of a targeted attack these are the images that do not get their target, but are read as some class. An image that it is not
    to fool withstands it.

    Args:
      labels, correct, decisions, targets: as in `fooled`; what is read as no class does not withstand.

    Returns:
      [N] bool.
    """
    still = decisions == labels if targets is None else ~fooled(labels, correct, decisions, targets)
    return correct & (decisions >= 0) & still
