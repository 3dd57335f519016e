"""Fast adversarial training: a random start and one step, or few (Wong et al. 2020, arXiv:2001.03994)."""

import jax
import jax.numpy as jnp
import optax

from mgan_jax.defenses.adversarial_training import check_warmup, trained_on, warmed_up
from mgan_jax.types import ApplyFn, Array, Classifier, Defense, Train, Variables


def fast_adversarial_training(
    classifier: Classifier,
    train: Train,
    epsilon: float = 0.3,
    step_size: float | None = None,
    num_steps: int = 1,
    epsilon_warmup: int = 0,
) -> Defense:
    """Adversarial training at the cost of num_steps + 1 ordinary trainings, by default their algorithm 3 (`random_start_steps`).

    Args:
      classifier: the network that is trained, from new initial variables; the authors' for MNIST is `models.strided_cnn`.
      train: runs the training, which it calls "network". Its learning rate has to rise from 0 first, as the authors' does over
        two fifths of the steps, and training to end early, as theirs after 10 epochs: otherwise MNIST networks learn to withstand
        this one step and little else.
      epsilon: of the L-inf ball, in units of pixels in [0, 1].
      step_size: of a step, in the same units; None: 1.25 epsilon / num_steps, for one step as published.
      num_steps: of a batch; 1 is theirs.
      epsilon_warmup: batches over which epsilon and steps rise to these from 0 along a line; theirs are of full length at once,
        which leaves some networks at chance for good, the more so the more steps.

    Returns:
      A `Defense` whose state is the new network's variables; the target's are not used.

    Raises:
      ValueError: epsilon outside (0, 1], a step size or number of steps that is not positive, or a negative warm-up.
    """
    if not 0 < epsilon <= 1 or not (step_size is None or step_size > 0) or num_steps < 1:
        raise ValueError(
            f"epsilon is {epsilon}, step_size {step_size}, num_steps {num_steps}; choose epsilon above 0 and up to 1, "
            "the others above 0"
        )
    check_warmup(epsilon_warmup)
    size = 1.25 * epsilon / num_steps if step_size is None else step_size

    def craft(key: Array, step: Array, variables: Variables, images: Array, labels: Array) -> Array:
        share = warmed_up(step, epsilon_warmup)
        return random_start_steps(classifier.apply, share * epsilon, share * size, num_steps, key, variables, images, labels)

    return trained_on(classifier, train, craft)


def random_start_steps(
    apply_fn: ApplyFn,
    epsilon: float | Array,
    step_size: float | Array,
    num_steps: int,
    key: Array,
    variables: Variables,
    images: Array,
    labels: Array,
) -> Array:
    """x + d cut to [0, 1]; d starts as u ~ U(-epsilon, epsilon), a step is clip(d + step_size sign(grad J(x + d)), +-epsilon).

    x + u, where the first gradient is taken, is not cut, as in the authors' code; where later ones are taken is. [B, H, W, C]
    like the images; `key` is consumed.
    """

    def loss(delta):
        return optax.softmax_cross_entropy_with_integer_labels(apply_fn(variables, images + delta), labels).sum()

    delta = jax.random.uniform(key, images.shape, images.dtype, -epsilon, epsilon)
    for step in range(num_steps):
        if step:
            delta = jnp.clip(images + delta, 0.0, 1.0) - images
        delta = jnp.clip(delta + step_size * jnp.sign(jax.grad(loss)(delta)), -epsilon, epsilon)
    return jnp.clip(images + delta, 0.0, 1.0)
