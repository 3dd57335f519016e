"""Generators of images from codes: what a GAN or a variational autoencoder learns, and what a defense inverts."""

import flax.linen as nn
import jax.numpy as jnp

from mgan_jax.models.classifier import initialise
from mgan_jax.models.convolution import upsampled_convolution
from mgan_jax.models.layers import Conv, Dense, swap_batch
from mgan_jax.types import Array, Network, Variables

FORMS = ("dense", "convolutional")


class Decoder(nn.Module):
    """Codes [B, K] -> images [B, H, W, C] in (0, 1).

    The last layer's bias is an image of its own, `offset` [H, W, C]: from it the network knows the shape of what it makes.
    """

    form: str
    widths: tuple[int, ...]
    image_shape: tuple[int, int, int]

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        offset = self.param("offset", nn.initializers.zeros, self.image_shape)
        made = self.dense(codes) if self.form == "dense" else self.convolutional(codes)
        return nn.sigmoid(made + offset[None])

    def dense(self, codes: Array) -> Array:
        x = codes.T
        for width in self.widths:
            x = nn.relu(Dense(width)(x))
        height, breadth, channels = self.image_shape
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[0], height * breadth * channels))
        return (x.T @ kernel).reshape(-1, *self.image_shape)

    def convolutional(self, codes: Array) -> Array:
        height, breadth, channels = self.image_shape
        halvings = range(len(self.widths), -1, -1)
        sizes = [(-(-height // 2**n), -(-breadth // 2**n)) for n in halvings]
        x = nn.relu(Dense(self.widths[0] * sizes[0][0] * sizes[0][1])(codes.T))
        x = x.reshape(self.widths[0], *sizes[0], -1)
        for width, (rows, columns) in zip(self.widths[1:], sizes[1:], strict=False):
            x = nn.relu(Conv(width, 3, upsample=True)(x)[:, :rows, :columns])
        kernel = self.param("kernel", nn.initializers.zeros, (3, 3, x.shape[0], channels))
        return swap_batch(upsampled_convolution(x, kernel)[:, :height, :breadth])


def decoder(code_size: int = 32, widths: tuple[int, ...] = (256,), form: str = "dense") -> Network:
    """Fully connected with ReLU, or a dense layer and convolutions of images that double in size; a sigmoid at the end.

    Args:
      code_size: K, numbers in a code.
      widths: of the hidden layers; of the convolutional form channels, each layer's image twice as large as the one before.
      form: "dense", which a CPU can afford to invert; or "convolutional".

    Returns:
      A `Network`: `init(key, image_shape)` and `apply(variables, codes [B, K]) -> images [B, H, W, C]` in (0, 1).

    Raises:
      ValueError: another form, no widths, or a number below 1.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; choose one of {', '.join(FORMS)}")
    if code_size < 1 or not widths or min(widths) < 1:
        raise ValueError(f"code_size is {code_size}, widths {tuple(widths)}; choose at least one width, all >= 1")

    def apply(variables: Variables, codes: Array) -> Array:
        return Decoder(form, tuple(widths), variables["params"]["offset"].shape).apply(variables, codes)

    return Network(
        init=lambda key, image_shape: initialise(key, Decoder(form, tuple(widths), image_shape), jnp.zeros((1, code_size))),
        apply=apply,
    )
