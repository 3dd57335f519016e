"""JSMA by other routes: worked examples by hand, plain loops over all pairs in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.jsma import best_pair, jsma
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


def model(kernel, bias):
    """A linear model on 2 x 2 images: kernel [4, classes], bias [classes]."""
    classifier = linear((2, 2, 1), len(bias))
    made = {**classifier.init(jax.random.key(0))}
    made["params"] = {"output": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)}}
    return classifier.apply, made


def run(apply_fn, variables, images, label, target=None, **more):
    images = jnp.asarray(images, jnp.float32).reshape(-1, 2, 2, 1)
    labels = jnp.full(len(images), label, jnp.int32)
    targets = None if target is None else jnp.full(len(images), target, jnp.int32)
    attack = jax.jit(jsma(apply_fn, **more))
    return attack(jax.random.key(0), variables, images, labels, targets)


# dF_0 / dX = (3, 2, -1, 4) and the sum of the others (-1, -4, 1, 2): of the six pairs (0, 1) has alpha 5, beta -5, saliency 25;
# (1, 2) 1, -3, 3; (1, 3) 6, -2, 12; for (0, 2), (0, 3) and (2, 3) beta >= 0. The two best features alone would be 3 and 0.
KERNEL = np.array([[3, -1, 0], [2, -4, 0], [-1, 1, 0], [4, 2, 0]])


def test_the_pair_worked_by_hand_is_taken():
    apply_fn, variables = model(KERNEL, [0, 4, 0])
    result = run(apply_fn, variables, np.zeros(4), 1, 0, gamma=0.5)
    np.testing.assert_array_equal(result.adversarial.ravel(), [1, 1, 0, 0])
    # (5, -1, 0) after one step, for which two gradients were taken, and two more where it was seen to fool.
    assert result.success.all() and result.used[0] == 4 and result.l0[0] == 2


def test_saturated_pixels_leave_the_search_and_without_a_pair_it_ends():
    apply_fn, variables = model(KERNEL, [0, 100, 0])
    result = run(apply_fn, variables, np.zeros(4), 1, 0, gamma=1.0)
    # After (0, 1) only (2, 3) is left, of beta 3.
    np.testing.assert_array_equal(result.adversarial.ravel(), [1, 1, 0, 0])
    assert not result.success.any() and result.used[0] == 4
    result = run(apply_fn, variables, [1, 0, 0, 0], 1, 0, gamma=1.0)
    # Feature 0 is there already: (1, 3) is best.
    np.testing.assert_array_equal(result.adversarial.ravel(), [1, 1, 0, 1])


def test_theta_below_zero_is_the_mirror():
    apply_fn, variables = model(-KERNEL, [0, 4, 0])
    forward = run(*model(KERNEL, [0, 4, 0]), np.zeros(4), 1, 0, gamma=0.5)
    # -K (1 - x) + const: the same problem from the other end.
    bias = np.array([0, 4, 0]) + KERNEL.sum(0)
    result = run(*model(-KERNEL, bias), np.ones(4), 1, 0, theta=-1.0, gamma=0.5)
    np.testing.assert_array_equal(result.adversarial, 1 - forward.adversarial)
    np.testing.assert_array_equal(result.success, forward.success)
    nothing = run(apply_fn, variables, np.zeros(4), 1, 0, theta=-1.0, gamma=0.5)
    np.testing.assert_array_equal(nothing.adversarial, 0)


def test_untargeted_moves_away_from_the_label():
    # Away from 1: alpha = dF_1 < 0 and the sum of the others > 0. (0, 1): -5, 5, 25, the greatest.
    apply_fn, variables = model(KERNEL, [0, 4, 0])
    result = run(apply_fn, variables, np.zeros(4), 1, gamma=0.5)
    np.testing.assert_array_equal(result.adversarial.ravel(), [1, 1, 0, 0])
    assert result.success.all()


def test_small_steps_go_on_with_the_same_pixels_and_gamma_counts_features():
    apply_fn, variables = model(KERNEL, [0, 8, 0])
    result = run(apply_fn, variables, np.zeros(4), 1, 0, theta=0.25, gamma=0.5)
    # 8 - 5 s < 5 s from s = 0.8 on, that is after four steps of a quarter.
    np.testing.assert_allclose(result.adversarial.ravel(), [1, 1, 0, 0])
    assert result.success.all() and result.used[0] == 10
    few = run(apply_fn, variables, np.zeros(4), 1, 0, theta=0.25, gamma=0.25)
    np.testing.assert_array_equal(few.adversarial, 0)
    # Saliencies 25 of (0, 1) and 3 of (2, 3), which is left then.
    apply_fn, variables = model([[3, -1, 0], [2, -4, 0], [-1, -1, 0], [4, 0, 0]], [0, 100, 0])
    assert run(apply_fn, variables, np.zeros(4), 1, 0, gamma=0.5).l0[0] == 2
    assert run(apply_fn, variables, np.zeros(4), 1, 0, gamma=1.0).l0[0] == 4


def saliency_by_loops(u, v, domain):
    """The greatest (u_p + u_q)(v_p + v_q) with both sums positive, over all pairs; 0 where there is none."""
    best, where = 0.0, None
    for p, q in itertools.combinations(np.flatnonzero(domain), 2):
        a, b = float(u[p]) + float(u[q]), float(v[p]) + float(v[q])
        if a > 0 and b > 0 and a * b > best:
            best, where = a * b, (p, q)
    return best, where


@pytest.mark.parametrize("kind", ["independent", "opposed", "equal", "tiny", "many ties"])
def test_the_pair_is_the_best_of_all_pairs(kind):
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 24, 40)).astype(np.float32)
    if kind == "opposed":
        v = (0.2 * v - u).astype(np.float32)
    elif kind == "equal":
        v = u
    elif kind == "tiny":
        u, v = u * np.float32(1e-30), v * np.float32(1e-25)
    elif kind == "many ties":
        u, v = np.round(u), np.round(v)
    domain = rng.uniform(size=(24, 40)) < np.linspace(0, 1, 24)[:, None]
    p, q, there = (np.asarray(part) for part in jax.jit(best_pair)(u, v, domain))
    for n in range(24):
        best, where = saliency_by_loops(u[n], v[n], domain[n])
        assert there[n] == (where is not None)
        if there[n]:
            assert p[n] != q[n] and domain[n, p[n]] and domain[n, q[n]]
            a, b = (float(side[n, p[n]]) + float(side[n, q[n]]) for side in (u, v))
            np.testing.assert_allclose(a * b, best, rtol=1e-5)


def by_loops(apply_fn, variables, image, label, target, theta, gamma, outputs):
    """The whole attack on one image, all pairs looked at, gradients from the full Jacobian."""
    forward = (lambda x: apply_fn(variables, x[None])[0]) if outputs == "logits" else None
    forward = forward or (lambda x: jax.nn.softmax(apply_fn(variables, x[None])[0]))
    jacobian = jax.jit(jax.jacrev(forward))
    x, changed = np.array(image), np.zeros(image.size, bool)
    while True:
        logits = np.asarray(apply_fn(variables, x[None]))[0]
        if logits.argmax() == target if target is not None else logits.argmax() != label:
            return x, True
        slopes = np.asarray(jacobian(x)).reshape(len(logits), -1)
        goal, sign = (target, 1.0) if target is not None else (label, -1.0)
        sign *= np.sign(theta)
        own, others = sign * slopes[goal], sign * np.delete(slopes, goal, 0).sum(0)
        domain = x.ravel() < 1 if theta > 0 else x.ravel() > 0
        if outputs == "softmax":
            others = -own
        _, pair = saliency_by_loops(own, -others, domain)
        if pair is None:
            return x, False
        changed[list(pair)] = True
        if changed.sum() > gamma * changed.size:
            return x, False
        flat = x.ravel().copy()
        flat[list(pair)] = np.clip(flat[list(pair)] + theta, 0, 1)
        x = flat.reshape(x.shape)


@pytest.mark.parametrize(
    ("theta", "gamma", "outputs", "aimed"),
    [(1.0, 0.2, "logits", True), (0.5, 0.1, "softmax", True), (-0.6, 0.2, "logits", False)],
)
def test_the_whole_attack_is_the_papers_loop(trained, theta, gamma, outputs, aimed):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:8]), jnp.asarray(data.test.labels[:8])
    targets = (labels + 3) % 10 if aimed else None
    result = jax.jit(jsma(classifier.apply, theta, gamma, outputs))(jax.random.key(0), variables, images, labels, targets)
    apply_fn = jax.jit(classifier.apply)
    successes = 0
    for n in range(8):
        target = int(targets[n]) if aimed else None
        arguments = np.asarray(images[n]), int(labels[n]), target, theta, gamma, outputs
        expected, fooled = by_loops(apply_fn, variables, *arguments)
        assert bool(result.success[n]) == (fooled and bool(result.clean_correct[n]))
        successes += fooled
        if fooled:  # a failed one is returned as its best iterate, not its last
            np.testing.assert_allclose(result.adversarial[n], expected, atol=1e-6)
    assert successes >= 3


def test_networks_are_fooled_by_few_pixels_and_stop_one_by_one(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:100]), jnp.asarray(data.test.labels[:100])
    result = jax.jit(jsma(classifier.apply, gamma=0.3))(jax.random.key(0), variables, images, labels)
    assert (result.success == result.clean_correct).all()
    assert result.l0.max() <= 0.3 * 64 and len(np.unique(result.used)) > 2
    seven = jax.jit(jsma(classifier.apply, gamma=0.3, num_slots=7))(jax.random.key(0), variables, images, labels)
    np.testing.assert_array_equal(seven.adversarial, result.adversarial)
    np.testing.assert_array_equal(seven.used, result.used)
    change = np.asarray(result.adversarial - images)
    np.testing.assert_array_equal(np.asarray(result.adversarial)[change != 0], 1.0)


def test_coloured_images_are_searched_by_feature(images):
    classifier = linear((8, 8, 3), 4)
    variables = classifier.init(jax.random.key(1))
    coloured = jnp.concatenate([images[0], images[0][::-1], 1 - images[0]], -1)
    labels = classifier.apply(variables, coloured).argmax(-1).astype(jnp.int32)
    result = jax.jit(jsma(classifier.apply, gamma=0.1))(jax.random.key(0), variables, coloured, labels)
    assert result.success.any() and (np.asarray(result.adversarial != coloured).reshape(8, -1).sum(1) <= 19).all()


@pytest.mark.parametrize(
    "bad",
    [{"theta": 0.0}, {"theta": 1.5}, {"theta": -0.001}, {"gamma": 0.0}, {"gamma": 1.1}, {"outputs": "odds"}, {"num_slots": 0}],
)
def test_bad_arguments_are_refused_when_building(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad.values()))!s}.*choose"):
        jsma(lambda variables, images: images, **bad)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_memory_grows_with_features_and_not_with_their_pairs(shape):
    classifier = linear(shape, 10)
    given = jax.eval_shape(lambda: (jax.random.key(0), classifier.init(jax.random.key(0)), jnp.zeros((100, *shape))))
    labels = jax.ShapeDtypeStruct((100,), jnp.int32)
    attack = jax.jit(jsma(classifier.apply)).lower(*given, labels).compile()
    features = int(np.prod(shape))
    assert attack.memory_analysis().temp_size_in_bytes < 16 * 4 * 100 * features < 4 * features**2 * 16
