"""What is left of adversarial images after noise, rotation, blur and rounding, on their own network and on its siblings."""

from typing import Any

import jax
import numpy as np

from mgan_jax import engine
from mgan_jax.experiments.networks import Networks, siblings
from mgan_jax.experiments.stages import rows
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run
from mgan_jax.metrics import destruction, named
from mgan_jax.transformations import transformation
from mgan_jax.types import Split, Variables

BATCH = 500


def check_transformations(config: Any) -> None:
    """Builds every transformation of `config.transformations` in each of its strengths.

    Raises:
      ValueError: an unknown name, or a strength that is out of range.
    """
    for name, strengths in config.transformations.items():
        if not isinstance(strengths, (tuple, list)):
            raise ValueError(f"config.transformations.{name} is {strengths!r}; choose a list of strengths")
        for strength in strengths:
            transformation(name, strength)


def transformed(name: str, strength: float, seed: int, images: np.ndarray) -> np.ndarray:
    """Images [N, H, W, C] after a transformation; the same draws for the same seed, name, strength and N."""
    transform = jax.jit(transformation(name, strength))
    key, size = stream_key(seed, "transformation", name, f"{strength:g}"), min(BATCH, len(images))
    parts = []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        parts.append(np.asarray(transform(jax.random.fold_in(key, start), images[rows]))[: len(images) - start])
    return np.concatenate(parts)


def destruction_rows(run: Run, networks: Networks, test: Split, attack: str, source: str, adversarial: np.ndarray) -> list[dict]:
    """Destruction rates of one attack's images, a row for each network that sees them, transformation and strength.

    Args:
      run: the seed; `config.transformations` is {name: strengths}.
      networks: all networks.
      test: clean images and their labels.
      attack, source: the attack, and the network that it was made against.
      adversarial: [N, H, W, C].

    Returns:
      Rows with attack, source, destination, transformation, strength; `destruction_rate`, `destruction_rate_ci95` and
      `num_adversarial`, as Kurakin et al. define it; `readable_rate`, `readable_rate_ci95` and `num_readable`, the same where the
      transformed clean image is still classified correctly; `clean_kept`, the share of the correctly classified clean images
      that remain so.
    """
    seen_by = siblings(run.config, source)
    sees = {name: networks[name][1].apply for name in seen_by}

    def make(
        own: Run, clean: np.ndarray, labels: np.ndarray, adversarial: np.ndarray, seen_by: dict[str, Variables], seed: int
    ) -> list[dict]:
        strengths, found = own.config.transformations, []
        pairs = [(name, strength) for name in strengths for strength in strengths[name]]
        after = {pair: [transformed(*pair, seed, images) for images in (clean, adversarial)] for pair in pairs}
        for destination, variables in seen_by.items():
            right = lambda x, f=sees[destination], v=variables: engine.predictions(f, v, x) == labels  # noqa: E731
            before, withstood = right(clean), right(adversarial)
            for (name, strength), (plain, moved) in after.items():
                kept, restored = right(plain), right(moved)
                exact, readable = destruction(before, withstood, restored), destruction(before & kept, withstood, restored)
                found.append({
                    "attack": attack, "source": source, "destination": destination, "transformation": name,
                    "strength": strength, "destruction_rate": exact["rate"], "destruction_rate_ci95": exact["ci95"],
                    "num_adversarial": exact["n"], "readable_rate": readable["rate"],
                    "readable_rate_ci95": readable["ci95"], "num_readable": readable["n"],
                    **named("clean_kept", kept, before, "num_clean_correct"),
                })  # fmt: skip
        return found

    inputs = {
        "clean": test.images, "labels": test.labels, "adversarial": adversarial,
        "seen_by": {name: networks[name][2] for name in seen_by}, "seed": run.seed,
    }  # fmt: skip
    return rows(networks[source][0], f"destruction_{attack}", make, inputs, ("transformations",))
