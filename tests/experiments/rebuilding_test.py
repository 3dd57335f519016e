"""Pictures of what defenses learn from that change their training images."""

from types import SimpleNamespace

import numpy as np
from ml_collections import ConfigDict

from mgan_jax.experiments.defending import Defended
from mgan_jax.experiments.rebuilding import rebuilt

CONFIG = {
    "attacks": {},
    "teachers": {"towards": {"method": "pgd", "arguments": {"epsilon": 0.3, "num_steps": 20, "step_size": None}}},
    "defenses": {
        "robust": {"method": "robust_features", "of": "base", "arguments": {"num_steps": 50, "batch_size": 10}},
        "non_robust_features": {"learned_from": ("towards",)},
        "squeezing": {"arguments": {}},
    },
}


def test_images_take_on_the_features_or_the_label_of_another_class(trained):
    classifier, variables, data = trained
    run = SimpleNamespace(config=ConfigDict(CONFIG), dataset=data, seed=0)
    names = ("none", "base", *CONFIG["defenses"])
    fitted = dict.fromkeys(names, Defended(run, classifier, variables, None, {}, 0.0))
    assert rebuilt("squeezing", fitted) == rebuilt("none", fitted) == {}
    robust = rebuilt("robust", fitted)
    assert list(robust) == ["training image", "start", "rebuilt"]
    image, start, made = robust.values()
    labels = np.arange(10)
    np.testing.assert_array_equal(start, image[labels - 1])
    features = [np.asarray(classifier.features(variables, x)) for x in (image, start, made)]
    apart, left = (np.linalg.norm(features[0] - other, axis=1) for other in features[1:])
    assert (left < 0.5 * apart).all() and (np.abs(made - image).max((1, 2, 3)) > 0.1).all()
    _, moved = rebuilt("non_robust_features", fitted).values()
    decisions = classifier.apply(variables, moved).argmax(-1)
    assert (decisions == (labels + 1) % 10).mean() > 0.7 and np.abs(moved - image).max() <= 0.3 + 1e-6
