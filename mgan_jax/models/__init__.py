"""Networks in Flax Linen: target classifiers, AdvGAN's generator and discriminator."""
