"""What the networks are made of: pooling, and layers whose structure is data.

Inside a network the batch is the last axis, [C, H, W, B] and [features, B]: on a CPU pooling, ReLU and narrow filters then run
over images as vectors. Accelerators lay arrays out as they like, whatever the order of their axes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mgan_jax.models.convolution import convolution, promoted, upsampled_convolution
from mgan_jax.types import Array


def swap_batch(x: Array) -> Array:
    """The batch from the first axis to the last, or back: [B, H, W, C] <-> [C, H, W, B], [B, features] <-> [features, B]."""
    return jnp.swapaxes(x, 0, -1)


def _neurons(module: nn.Module) -> int:
    """How many neurons a layer has; as many as its kernel where it has one, which may be that of some neurons alone."""
    return module.get_variable("params", "kernel").shape[-1] if module.has_variable("params", "kernel") else module.features


class Conv(nn.Module):
    """A square convolution [C, H, W, B] -> [features, H', W', B] with bias, its kernel left at zero.

    `classifier.draw_kernels` fills the kernels of a whole network from one draw, which compiles ten times faster.

    Attributes:
      features: filters.
      size: of the kernel.
      stride: of both axes.
      padding: "SAME" or "VALID".
      upsample: whether pixels are repeated 2 x 2 first; only for size 3, stride 1 and "SAME".
      batch_first: XLA's own convolution of [B, H, W, C]; on a CPU the fastest of 32 channels and more where nothing is
        differentiated.
    """

    features: int
    size: int
    stride: int = 1
    padding: str = "SAME"
    upsample: bool = False
    batch_first: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = _neurons(self)
        channels = x.shape[-1 if self.batch_first else 0]
        kernel = self.param("kernel", nn.initializers.zeros, (self.size, self.size, channels, features))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        if self.batch_first:
            axes = ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(*promoted(x, kernel), (self.stride,) * 2, self.padding, dimension_numbers=axes)
            return y + bias[None, None, None]
        y = upsampled_convolution(x, kernel) if self.upsample else convolution(x, kernel, self.stride, self.padding)
        return y + bias[:, None, None, None]


class Dense(nn.Module):
    """A dense layer [in, B] -> [features, B] with bias, its kernel, [in, features], left at zero as in `Conv`."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = _neurons(self)
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[0], features))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        return kernel.T @ x + bias[:, None]


class InstanceNorm(nn.Module):
    """Each channel of each image normalised by its own mean and variance (Ulyanov et al. 2016, arXiv:1607.08022).

    No state, and a batch of one works. [C, H, W, B] -> [C, H, W, B], with scale and bias. One pixel is its own mean, and would be
    0 whatever the image: it is left as it is.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[0],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[0],))
        if x.shape[1:3] == (1, 1):
            return x * scale[:, None, None, None] + bias[:, None, None, None]
        mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
        weight = lax.rsqrt(variance + self.epsilon) * scale[:, None, None, None]
        return (x - mean) * weight + bias[:, None, None, None]


@jax.custom_vjp
def max_pool(images: Array) -> Array:
    """2 x 2 maxima, [C, H, W, B] -> [C, H // 2, W // 2, B]; a tie's gradient goes to the first maximum alone.

    Differentiable in reverse mode only.
    """
    return _max_pool(images)[0]


def _max_pool(images: Array) -> tuple[Array, tuple[Array, Array]]:
    """The maxima, and (which of the four each was; an empty array of the images' shape otherwise)."""
    height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
    largest = images[:, 0:height:2, 0:width:2]
    place = jnp.zeros(largest.shape, jnp.int8)
    for number, (i, j) in enumerate(((0, 1), (1, 0), (1, 1)), 1):
        other = images[:, i:height:2, j:width:2]
        place = jnp.where(other > largest, jnp.int8(number), place)
        largest = jnp.where(other > largest, other, largest)
    return largest, (place, jnp.zeros((*images.shape[1:3], 0)))


def _max_pool_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    """Each gradient beside three zeros; sums of spread slices, which differentiating them gives, are slower."""
    place, (height, width, _) = saved[0], saved[1].shape
    channels, rows, columns, batch = place.shape
    four = jnp.arange(4, dtype=jnp.int8).reshape(1, 1, 2, 1, 2, 1)
    to_images = jnp.where(place[:, :, None, :, None] == four, gradient[:, :, None, :, None], 0.0)
    to_images = to_images.reshape(channels, 2 * rows, 2 * columns, batch)
    return (jnp.pad(to_images, ((0, 0), (0, height - 2 * rows), (0, width - 2 * columns), (0, 0))),)


max_pool.defvjp(_max_pool, _max_pool_backward)


def max_pool_batch_first(images: Array) -> Array:
    """`max_pool` of [B, H, W, C]; slices as there would be five times slower in this order of the axes."""
    return lax.reduce_window(images, jnp.array(-jnp.inf, images.dtype), lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def flatten(images: Array) -> Array:
    """[C, H, W, B] -> [H W C, B]; features of a pixel stay together, as in images [B, H, W, C] that are flattened."""
    return images.transpose(1, 2, 0, 3).reshape(-1, images.shape[-1])


class Gated(nn.Module):
    """A layer followed by ReLU whose structure is data: gates beside the parameters, written by mutation operators.

    Plain: relu(f(x)). Residual, where input and output shapes agree: x + relu(f(x)). The gates, of the collection
    `structure`, are scalars, which LD, LA and AFR write, and `source` [features] int32, which NEB and NS write: the neuron
    whose output appears at each place, -1 for none, an output of 0. They rest at `activation=True`, `active=True`,
    `repeated=False` and `source=0, 1, 2, ...`; at rest the layer computes exactly what it would without them.

    A plain layer has no `source`: what a neuron gives there is its weights' alone, 0 where they are 0, with ReLU and without.
    In a residual layer x reaches the output around the weights.

    Attributes:
      layer: f, a Linen layer.
      residual: whether x is added; only then do the gates `active`, `repeated` and `source` exist.
    """

    layer: nn.Module
    residual: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        gate = lambda name, rest: self.variable("structure", name, lambda: jnp.array(rest)).value  # noqa: E731
        activation, batch_first = gate("activation", True), getattr(self.layer, "batch_first", False)

        def branch(z: Array) -> Array:
            if batch_first:
                # XLA fuses convolutions through a maximum, not through a select: three times faster, but another derivative at 0.
                return jnp.maximum(z, jnp.where(activation, 0.0, -jnp.inf))
            return jnp.where(activation, nn.relu(z), z)

        z = self.layer(x)
        if not self.residual:
            return branch(z)
        axis = x.ndim - 1 if batch_first else 0
        rest = np.arange(x.shape[axis], dtype=np.int32)
        active, repeated, source = gate("active", True), gate("repeated", False), gate("source", rest)
        # Linen's scopes do not reach into lax.cond: the second application works on the parameters themselves.
        layer, params = self.layer.clone(parent=None), {"params": self.layer.variables["params"]}

        def taken(y: Array) -> Array:
            exists = jnp.expand_dims(source >= 0, [i for i in range(y.ndim) if i != axis])
            return jnp.where(exists, jnp.take(y, source, axis, mode="clip"), 0.0)

        def changed(y: Array) -> Array:
            y = taken(y)
            return lax.cond(repeated, lambda y: taken(y + branch(layer.apply(params, y))), lambda y: y, y)

        y = x + jnp.where(active, branch(z), 0.0)
        return lax.cond(repeated | (source != rest).any(), changed, lambda y: y, y)
