"""The opponent of a generator of whole images: one number for an image, without any normalisation across images."""

from mgan_jax.models.encoder import network
from mgan_jax.types import Network


def critic(widths: tuple[int, ...] = (256, 256), form: str = "dense") -> Network:
    """Layers with leaky ReLU and one linear unit: the logit of being real, or a Wasserstein critic's value.

    Gulrajani et al. (2017, arXiv:1704.00028, section 4) want no batch normalisation in a critic whose gradient is penalised
    image by image; there is none.

    Args:
      widths: of the hidden layers; of the convolutional form channels, each layer with stride 2.
      form: "dense" or "convolutional".

    Returns:
      A `Network` from images [B, H, W, C] to scores [B].

    Raises:
      ValueError: another form, no widths, or a number below 1.
    """
    made = network(1, widths, form)
    return made._replace(apply=lambda variables, images: made.apply(variables, images)[:, 0])
