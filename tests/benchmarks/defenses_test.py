"""PyTorch's decoders and its inversion give what ours do, on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.inversion import Descent, invert
from mgan_jax.models.decoder import decoder

torch = pytest.importorskip("torch")
defenses = pytest.importorskip("benchmarks.defenses")


@pytest.mark.parametrize(("form", "widths"), [("dense", (16,)), ("convolutional", (8, 4))])
def test_decoders_and_inversion(form, widths):
    made = decoder(defenses.CODE_SIZE, widths, form)
    leaves, treedef = jax.tree.flatten(made.init(jax.random.key(0), (28, 28, 1)))
    rng = np.random.default_rng(1)
    variables = jax.tree.unflatten(treedef, [leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32) for leaf in leaves])
    theirs = defenses.torch_decoder(form, variables, widths)
    codes = rng.normal(size=(5, defenses.CODE_SIZE)).astype(np.float32)
    expected = theirs(torch.from_numpy(codes)).detach().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(made.apply(variables, codes), expected, rtol=1e-4, atol=1e-5)
    images, starts = rng.random((3, 28, 28, 1)).astype(np.float32), rng.normal(size=(2, defenses.CODE_SIZE)).astype(np.float32)
    descent = Descent(4, defenses.LEARNING_RATE, defenses.MOMENTUM, "momentum")
    ours = invert(made.apply, variables, images, jnp.asarray(starts), descent)
    found, errors = defenses.torch_invert(
        theirs, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(starts), 4
    )
    np.testing.assert_allclose(ours.codes, found, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(ours.errors, errors, rtol=1e-4)
