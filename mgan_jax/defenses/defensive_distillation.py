"""Defensive distillation (Papernot et al. 2016, arXiv:1511.04508): a network learns from the softened answers of another."""

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.defenses.retraining import learn_afresh, replacing
from mgan_jax.types import Array, Classifier, Defense, Train, Variables


def defensive_distillation(classifier: Classifier, train: Train, temperature: float = 20.0, batch_size: int = 500) -> Defense:
    """A teacher learns the labels, then a student of the same architecture the teacher's softmax(z / T); T = 1 in use.

    Both are trained by the cross-entropy of softmax(z(x) / T) (section IV). A student that has fitted the teacher at T has
    logits about T times as large as a network trained at T = 1, and answers with them undivided: its softmax is then 0 or 1 to
    float32's precision and the gradient of its cross-entropy underflows. That hides the gradient and nothing else: attacks on the
    logits themselves, as Carlini & Wagner's (arXiv:1608.04644, section VIII), or on logits divided by T, find what they look for.

    Args:
      classifier: of teacher and student.
      train: trains the `teacher`, then the `student`.
      temperature: T; 20 is the authors' choice for MNIST, of 1 to 100 that they tried.
      batch_size: images at once when the teacher answers.

    Returns:
      A `Defense` whose state is the student's variables; neither `fit` nor `apply` looks at the target's.

    Raises:
      ValueError: a temperature or batch size below 1.
    """
    if not 1 <= temperature < float("inf") or batch_size < 1:
        raise ValueError(f"temperature is {temperature}, batch_size {batch_size}; choose both finite and >= 1")

    @jax.jit
    def soften(variables: Variables, images: Array) -> Array:
        return jax.nn.softmax(classifier.apply(variables, images) / temperature)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        del variables
        teacher_key, student_key = jax.random.split(key)
        teacher = learn_afresh(teacher_key, "teacher", classifier, train, images, labels, temperature)
        starts = range(0, len(images), batch_size)
        soft = [np.asarray(soften(teacher, jnp.asarray(images[start : start + batch_size]))) for start in starts]
        return learn_afresh(student_key, "student", classifier, train, images, np.concatenate(soft), temperature)

    return replacing(classifier, fit)
