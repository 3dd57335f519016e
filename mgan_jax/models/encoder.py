"""Networks from images to a few numbers each: the encoder of a variational autoencoder, and the critic of a GAN."""

import flax.linen as nn
import jax.numpy as jnp

from mgan_jax.models.classifier import initialise
from mgan_jax.models.layers import Conv, Dense, flatten, swap_batch
from mgan_jax.types import Array, Network

FORMS = ("dense", "convolutional")


class Encoder(nn.Module):
    """Images [B, H, W, C] -> [B, outputs]."""

    form: str
    widths: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = swap_batch(images)
        if self.form == "dense":
            x = flatten(x)
            for width in self.widths:
                x = nn.leaky_relu(Dense(width)(x), 0.2)
        else:
            for width in self.widths:
                x = nn.leaky_relu(Conv(width, 3, stride=2)(x), 0.2)
            x = flatten(x)
        return Dense(self.outputs)(x).T


def network(outputs: int, widths: tuple[int, ...], form: str) -> Network:
    """An `Encoder` as a `Network`.

    Raises:
      ValueError: another form, no widths, or a number below 1.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}")
    if outputs < 1 or not widths or min(widths) < 1:
        raise ValueError(f"outputs is {outputs}, widths {tuple(widths)}; choose at least one width, all >= 1")
    module = Encoder(form, tuple(widths), outputs)
    return Network(
        init=lambda key, image_shape: initialise(key, module, jnp.zeros((1, *image_shape))),
        apply=module.apply,
    )


def encoder(code_size: int = 32, widths: tuple[int, ...] = (256,), form: str = "dense") -> Network:
    """Layers with leaky ReLU, then for each of the K numbers of a code a mean and a log variance.

    Args:
      code_size: K.
      widths: of the hidden layers; of the convolutional form channels, each layer with stride 2.
      form: "dense" or "convolutional".

    Returns:
      A `Network` from images [B, H, W, C] to [B, 2 K], the means first.

    Raises:
      ValueError: another form, no widths, or a number below 1.
    """
    return network(2 * code_size, widths, form)
