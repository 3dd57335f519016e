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
      lcr: {"operator protocol rate": {"normal" or attack: label change rates [n]}}.
      epsilon_rows: dicts with attack, epsilon, success_rate, lcr, normal_lcr.
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


def write_adversarial(path: Path, material: Material) -> None:
    """adversarial.npz, lossless: `clean`, `labels`, and for each attack `images_<attack>` and `success_<attack>`."""
    arrays = {"clean": material.clean_images, "labels": material.labels}
    for name, made in material.adversarial.items():
        arrays |= {f"images_{name.replace(' ', '_')}": made.images, f"success_{name.replace(' ', '_')}": made.success}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write(path, buffer.getvalue())
