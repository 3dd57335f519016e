"""Peers that the tests of several attacks share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture
def art_classifier(trained):
    """The trained network as the Adversarial Robustness Toolbox wants it; skipped where that is not installed."""
    estimators = pytest.importorskip("art.estimators")
    from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
    from art.estimators.estimator import LossGradientsMixin

    classifier, variables, data = trained

    class Classifier(ClassGradientsMixin, ClassifierMixin, LossGradientsMixin, estimators.BaseEstimator):
        estimator_params = estimators.BaseEstimator.estimator_params
        input_shape = data.image_shape

        def __init__(self):
            super().__init__(model=classifier, clip_values=(0.0, 1.0))
            self.nb_classes = 10
            self.forward = jax.jit(lambda x: classifier.apply(variables, x))
            self.backward = jax.jit(jax.grad(lambda x, label: (self.forward(x) * jax.nn.one_hot(label, 10)).sum()))
            self.jacobian = jax.jit(jax.vmap(jax.jacrev(lambda image: self.forward(image[None])[0])))

        def fit(self, x, y, **more):
            raise NotImplementedError

        def predict(self, x, **more):
            return np.array(self.forward(jnp.asarray(x, jnp.float32)))

        def loss_gradient(self, x, y, **more):
            raise NotImplementedError

        def class_gradient(self, x, label=None, **more):
            if label is None:
                return np.array(self.jacobian(jnp.asarray(x, jnp.float32)))
            labels = jnp.broadcast_to(jnp.asarray(label), (len(x),))
            return np.array(self.backward(jnp.asarray(x, jnp.float32), labels))[:, None]

    return Classifier()
