"""Networks from images to images, for attacks that make the whole image or a change without a bound of its own."""

import flax.linen as nn
import jax.numpy as jnp

from mgan_jax.models.classifier import initialise
from mgan_jax.models.layers import Conv, Dense, flatten, swap_batch
from mgan_jax.types import Array, Network

FORMS = ("dense", "convolutional")
OUTPUTS = {"linear": lambda x: x, "sigmoid": nn.sigmoid}


class Autoencoder(nn.Module):
    """Images [B, H, W, C] -> [B, H, W, C]."""

    form: str
    widths: tuple[int, ...]
    output: str

    @nn.compact
    def __call__(self, images: Array) -> Array:
        made = self.dense(images) if self.form == "dense" else self.convolutional(images)
        return OUTPUTS[self.output](made)

    def dense(self, images: Array) -> Array:
        x = flatten(swap_batch(images))
        for width in self.widths:
            x = nn.relu(Dense(width)(x))
        return swap_batch(Dense(images[0].size)(x)).reshape(images.shape)

    def convolutional(self, images: Array) -> Array:
        x, before = swap_batch(images), []
        for i, width in enumerate(self.widths):
            before.append(x)
            x = nn.relu(Conv(width, 3, stride=1 if i == 0 else 2)(x))
        for width, beside in zip(self.widths[-2::-1], before[:0:-1], strict=True):
            larger = Conv(width, 3, upsample=True)(x)[:, : beside.shape[1], : beside.shape[2]]
            x = nn.relu(larger) + beside
        return swap_batch(Conv(images.shape[-1], 3)(x))


def autoencoder(form: str = "convolutional", widths: tuple[int, ...] = (8, 16, 32), output: str = "linear") -> Network:
    """Fully connected, or an encoder with strides 1, 2, 2, ... whose layers are added to the decoder's of the same size.

    Args:
      form: "dense", hidden layers of these widths; or "convolutional", channels of the encoder, which the decoder mirrors,
        for any image of at least 2 ** (number of widths - 1) pixels a side.
      widths: one a layer.
      output: "linear", any number, as perturbations are; "sigmoid", between 0 and 1.

    Returns:
      A `Network` whose apply gives [B, H, W, C] of its images' shape.

    Raises:
      ValueError: another form or output, no widths, or one below 1.
    """
    if form not in FORMS or output not in OUTPUTS:
        raise ValueError(f"form is {form!r}, output {output!r}; choose of {', '.join(FORMS)} and of {', '.join(OUTPUTS)}")
    if not widths or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}; choose at least one width, all >= 1")
    module = Autoencoder(form, tuple(widths), output)
    return Network(
        init=lambda key, image_shape: initialise(key, module, jnp.zeros((1, *image_shape))),
        apply=module.apply,
    )
