"""What pictures are made of."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mgan_jax.workdir import write


class AttackMaterial(NamedTuple):
    """`images` [N, H, W, C], `probabilities` [N, num_classes] of the target on them, `success` [N] bool."""

    images: np.ndarray
    probabilities: np.ndarray
    success: np.ndarray


class Material(NamedTuple):
    """Everything a report shows beside the rows.

    Attributes:
      clean_images, labels, probabilities: [N, H, W, C], [N], [N, num_classes] of the test images.
      class_names: one a class.
      adversarial: {attack: AttackMaterial} of the same images.
      lcr: {"operator protocol rate": {"normal": label change rates [n] of clean images, attack: [2, n] of its adversarial
        set and of the same images clean}}, named as "GF unfiltered 0.1"; empty where no mutant qualified.
      epsilon_rows: dicts with attack, epsilon, success_rate, misclassification, normal_lcr, and lcr or None.
      history: {stage: {metric: [steps]}}.
      threat_model: sentences.
    """

    clean_images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    adversarial: dict[str, AttackMaterial]
    lcr: dict[str, dict[str, np.ndarray]]
    epsilon_rows: list[dict]
    history: dict[str, dict[str, np.ndarray]]
    threat_model: list[str]


class PurifiedMaterial(NamedTuple):
    """Images before and after purification, and those that a defense learned from.

    Attributes:
      before: {"clean" or attack: images [N, H, W, C]}.
      after: {defense: {"clean" or attack: images [N, H, W, C]}}, of defenses that change images.
      rebuilt: {defense: {what: images [num_classes, H, W, C]}}, of defenses that learn from training images that they change.
      labels: [N]; class_names: one a class.
    """

    before: dict[str, np.ndarray]
    after: dict[str, dict[str, np.ndarray]]
    rebuilt: dict[str, dict[str, np.ndarray]]
    labels: np.ndarray
    class_names: tuple[str, ...]


def write_adversarial(path: Path, material: Material) -> None:
    """adversarial.npz, lossless and in whole or not at all.

    It holds `clean` [N, H, W, C] float32, `labels` [N], `class_names`, the names of the attacks as `attacks`, and for each
    attack `images_<attack>` [N, H, W, C] float32 and `success_<attack>` [N] bool, a space in its name written `_`.
    """
    names = [name.replace(" ", "_") for name in material.adversarial]
    arrays = {
        "clean": np.asarray(material.clean_images, np.float32),
        "labels": np.asarray(material.labels),
        "class_names": np.array(material.class_names, dtype=str),
        "attacks": np.array(names, dtype=str),
    }
    for name, made in zip(names, material.adversarial.values(), strict=True):
        arrays[f"images_{name}"] = np.asarray(made.images, np.float32)
        arrays[f"success_{name}"] = np.asarray(made.success, bool)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write(Path(path), buffer.getvalue())
