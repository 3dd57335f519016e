"""PixelCNN (van den Oord et al. 2016, arXiv:1601.06759): a density of images, value by value in raster order."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.models.classifier import initialise
from mgan_jax.models.convolution import convolution
from mgan_jax.models.layers import swap_batch
from mgan_jax.types import Array, Autoregressive, Variables


def causal_mask(size: int, channels: int, features: int, groups: int, strict: bool) -> np.ndarray:
    """Which weights [size // 2 + 1, size, channels, features] of the upper half of a square kernel look at earlier values.

    Channels and features are divided into `groups` of consecutive ones, the i-th of the image's channel i. Of the centre a
    feature sees the groups up to its own (mask B), or those before it where `strict` (mask A).
    """
    mask = np.ones((size // 2 + 1, size, channels, features), np.float32)
    mask[-1, size // 2 + 1 :] = 0
    seen, own = (np.arange(number) * groups // number for number in (channels, features))
    mask[-1, size // 2] = seen[:, None] < own[None] if strict else seen[:, None] <= own[None]
    return mask


class CausalConv(nn.Module):
    """A convolution of the values above and to the left, of images [C, H, W, B] or of the one patch that a pixel sees."""

    features: int
    size: int
    groups: int
    strict: bool = False

    @nn.compact
    def __call__(self, x: Array, patch: bool = False) -> Array:
        """[C, H, W, B] -> [features, H, W, B]; a patch [size // 2 + 1, size, C, B] -> [features, B]."""
        channels, reach = x.shape[-2 if patch else 0], self.size // 2
        mask = causal_mask(self.size, channels, self.features, self.groups, self.strict)
        kernel = mask * self.param("kernel", nn.initializers.zeros, mask.shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        if patch:
            return kernel.reshape(-1, self.features).T @ x.reshape(-1, x.shape[-1]) + bias[:, None]
        padded = jnp.pad(x, ((0, 0), (reach, 0), (reach, reach), (0, 0)))
        return convolution(padded, kernel, padding="VALID") + bias[:, None, None, None]


def read(rows: Array, column: Array | int, size: int) -> Array:
    """The patch [h, size, C, B] of padded rows [h, W + size - 1, C, B] that the pixel in this column sees."""
    return jax.lax.dynamic_slice_in_dim(rows, column, size, axis=1)


def write(rows: Array, column: Array | int, size: int, values: Array) -> Array:
    """The same rows with values [C, B] in this column of the last."""
    return jax.lax.dynamic_update_slice(
        rows, values[None, None].astype(rows.dtype), (rows.shape[0] - 1, column + size // 2, 0, 0)
    )


class PixelCNN(nn.Module):
    """Residual layers h + relu(f(h)) between a strict convolution and two that look at the pixel alone."""

    width: int
    num_layers: int
    size: int
    num_levels: int
    channels: int

    def setup(self) -> None:
        self.first = CausalConv(self.width, self.size, self.channels, strict=True)
        self.hidden = [CausalConv(self.width, 3, self.channels) for _ in range(self.num_layers)]
        self.last = CausalConv(self.width, 1, self.channels)
        self.output = CausalConv(self.channels * self.num_levels, 1, self.channels)

    def __call__(self, images: Array) -> Array:
        """[B, H, W, C] -> log-probabilities [B, H, W, C, num_levels]."""
        h = nn.relu(self.first(swap_batch(images) - 0.5))
        for layer in self.hidden:
            h = h + nn.relu(layer(h))
        made = self.output(nn.relu(self.last(h)))
        return nn.log_softmax(made.reshape(self.channels, self.num_levels, *made.shape[1:]).transpose(4, 2, 3, 0, 1))

    def rows(self, breadth: int, batch: int, dtype: jnp.dtype) -> list[Array]:
        """What the layers have seen before the first row: nothing, [h, W + size - 1, C, B] each."""
        shapes = [(self.size, self.channels)] + [(3, self.width)] * self.num_layers
        return [jnp.zeros((size // 2 + 1, breadth + size - 1, channels, batch), dtype) for size, channels in shapes]

    def pixel(self, column: Array, seen: list[Array]) -> tuple[Array, list[Array]]:
        """Log-probabilities [C, num_levels, B] of the pixel in this column of the last row, and the rows with its own."""
        images, *others = seen
        h, kept = nn.relu(self.first(read(images, column, self.size), True)), [images]
        for layer, rows in zip(self.hidden, others, strict=True):
            rows = write(rows, column, 3, h)
            kept.append(rows)
            h = h + nn.relu(layer(read(rows, column, 3), True))
        made = self.output(nn.relu(self.last(h[None, None], True))[None, None], True)
        return nn.log_softmax(made.reshape(self.channels, self.num_levels, -1), axis=1), kept


def pixel_cnn(width: int = 32, num_layers: int = 5, size: int = 7, num_levels: int = 16) -> Autoregressive:
    """Masked convolutions: mask A, `size` x `size`, then `num_layers` residual ones of 3 x 3, mask B; a softmax over levels.

    Small and plain: no gates, so that of the values above a pixel some at the right are out of sight (the blind spot that van den
    Oord et al. 2016, arXiv:1606.05328, mend with a second stack). The authors have 256 levels and 15 layers.

    `rewrite` keeps what every layer has computed for the rows that later pixels look at (Ramachandran et al. 2017,
    arXiv:1704.06001): a value is never computed twice, while a pass of the whole network for each would cost H W of them.

    Args:
      width: features of a layer, a multiple of the images' channels.
      num_layers: residual layers.
      size: of the first kernel, odd.
      num_levels: grey levels.

    Returns:
      An `Autoregressive`.

    Raises:
      ValueError: an even size; fewer than two levels or one of the others; in `init`, a width that the channels do not divide.
    """
    if size < 1 or size % 2 == 0 or num_levels < 2:
        raise ValueError(f"size is {size}, num_levels {num_levels}; choose an odd size and at least two levels")
    if width < 1 or num_layers < 0:
        raise ValueError(f"width is {width}, num_layers {num_layers}; choose width >= 1 and num_layers >= 0")

    def module(channels: int) -> PixelCNN:
        return PixelCNN(width, num_layers, size, num_levels, channels)

    def init(key: Array, image_shape: tuple[int, int, int]) -> Variables:
        if width % image_shape[-1]:
            raise ValueError(f"width is {width}; choose a multiple of the images' {image_shape[-1]} channels")
        return initialise(key, module(image_shape[-1]), jnp.zeros((1, *image_shape)))

    def levels(images: Array) -> Array:
        return jnp.round(images * (num_levels - 1))

    def apply(variables: Variables, images: Array) -> Array:
        return module(images.shape[-1]).apply(variables, levels(images) / (num_levels - 1))

    def log_likelihood(variables: Variables, images: Array) -> Array:
        chosen = levels(images).astype(jnp.int32)[..., None]
        return jnp.take_along_axis(apply(variables, images), chosen, axis=-1).sum((1, 2, 3, 4))

    def rewrite(variables: Variables, images: Array, choose: Callable[[Array, Array], Array]) -> Array:
        batch, _, breadth, channels = images.shape
        net, dtype = module(channels), jnp.result_type(jnp.float32, images, *jax.tree.leaves(variables))

        def one_pixel(column: Array, carry: tuple[list[Array], Array]) -> tuple[list[Array], Array]:
            seen, row = carry
            for channel in range(channels):
                log_probabilities, seen = net.apply(variables, column, seen, method="pixel")
                level = choose(log_probabilities[channel].T, row[column, channel])
                row = row.at[column, channel].set((level / np.float32(num_levels - 1)).astype(dtype))
                seen = [write(seen[0], column, size, row[column] - 0.5), *seen[1:]]
            return seen, row

        def one_row(seen: list[Array], row: Array) -> tuple[list[Array], Array]:
            # The last row moves up, and an empty one takes its place.
            seen = [jnp.concatenate([rows[1:], jnp.zeros_like(rows[:1])]) for rows in seen]
            return jax.lax.fori_loop(0, breadth, one_pixel, (seen, row))

        rows = net.apply(variables, breadth, batch, dtype, method="rows")
        _, rewritten = jax.lax.scan(one_row, rows, images.astype(dtype).transpose(1, 2, 3, 0))
        return rewritten.transpose(3, 0, 1, 2).astype(images.dtype)

    return Autoregressive(init, apply, log_likelihood, rewrite, num_levels)
