"""The embedded set: scikit-learn's 1,797 handwritten digits, 8 x 8 (Alpaydin & Kaynak 1998)."""

import numpy as np

from mgan_jax.datasets.split import checked, split_dataset
from mgan_jax.types import Dataset, Split


def digits(seed: int = 0, num_validation: int = 350) -> Dataset:
    """1,797 digits of 8 x 8 x 1 pixels in 17 grey levels; needs no download.

    The 447 test images are the same for every seed; the seed divides the other 1,350 into train and validation.

    Args:
      seed: of the split.
      num_validation: validation images.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    examples = checked((data.images / 16).astype(np.float32), data.target.astype(np.int32), 10, "digits")
    order = np.random.default_rng(0).permutation(len(examples.labels))
    take = lambda rows: Split(examples.images[rows], examples.labels[rows])  # noqa: E731
    return split_dataset(take(order[447:]), take(order[:447]), 10, "0123456789", num_validation, seed)
