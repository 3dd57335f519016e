"""Classifiers of scikit-learn that attacks were not made for: what they say of images is kept, not they themselves."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from mgan_jax.types import Dataset

LEARNERS: dict[str, Callable[..., BaseEstimator]] = {
    "support_vector_machine": SVC,
    "nearest_neighbours": KNeighborsClassifier,
    "random_forest": RandomForestClassifier,
    "logistic_regression": LogisticRegression,
}
TRIAL = 100


def build_learner(name: str, arguments: dict[str, Any], seed: int = 0) -> BaseEstimator:
    """The learner of this name, not fitted.

    Args:
      name: one of `LEARNERS`.
      arguments: of scikit-learn's class.
      seed: of those that draw something.

    Raises:
      ValueError: there is none of this name, or it does not take these arguments.
    """
    if name not in LEARNERS:
        raise ValueError(f"config.learners names {name!r}; choose from {', '.join(LEARNERS)}")
    takes = LEARNERS[name]().get_params()
    unknown = [argument for argument in arguments if argument not in takes]
    if unknown:
        raise ValueError(f"config.learners.{name} does not take {unknown[0]!r}; its arguments are {', '.join(takes)}")
    drawn = {"random_state": seed} if "random_state" in takes else {}
    return LEARNERS[name](**drawn, **arguments)


def flat(images: np.ndarray) -> np.ndarray:
    """[N, H, W, C] -> [N, H W C]."""
    return images.reshape(len(images), -1)


def fitted(name: str, arguments: dict[str, Any], dataset: Dataset, num_train: int, seed: int = 0) -> BaseEstimator:
    """The learner after the first `num_train` training images.

    Raises:
      ValueError: as `build_learner`, or an argument's value that scikit-learn refuses.
    """
    images, labels = (array[:num_train] for array in dataset.train)
    learner = build_learner(name, arguments, seed)
    try:
        return learner.fit(flat(images), labels)
    except (ValueError, TypeError) as error:
        raise ValueError(f"config.learners.{name}: {error}") from error


def check_learners(config: Any, dataset: Dataset) -> None:
    """Fits every learner of `config.learners` to a handful of images.

    Raises:
      ValueError: a mistake in one, or a number of training images that there are not.
    """
    available = len(dataset.train.labels)
    if config.learners and not dataset.num_classes <= config.num_train <= available:
        raise ValueError(f"config.num_train is {config.num_train}; choose it from {dataset.num_classes} to {available}")
    for name, arguments in config.learners.items():
        fitted(name, arguments.to_dict(), dataset, min(TRIAL, config.num_train))
