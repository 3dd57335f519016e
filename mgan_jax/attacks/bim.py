"""Basic iterative method (Kurakin et al. 2017, arXiv:1607.02533): FGSM in small steps, from the image itself."""

from collections.abc import Sequence

from mgan_jax.attacks.pgd import pgd
from mgan_jax.types import ApplyFn, Attack


def bim(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | str | None = None,
) -> Attack:
    """`pgd` without a random start, which returns the last iterate that fools, or else the one closest to it.

    Defaults: epsilon is that of Madry et al., the others are ours. Kurakin et al. step by 1/255 and take min(255 epsilon + 4,
    1.25 * 255 epsilon) steps: step_size=1 / 255, and num_steps.

    Args:
      apply_fn: the target.
      epsilon: radius of the ball; K of them give results [K, B, ...].
      norm: "linf" or "l2".
      num_steps: gradient steps.
      step_size: of each, as in `pgd`; None: 2.5 epsilon / num_steps.

    Raises:
      ValueError: as in `pgd`.
    """
    return pgd(apply_fn, epsilon, num_steps, step_size, random_start=False, norm=norm)
