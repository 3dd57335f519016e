"""L-BFGS by other routes: SciPy's L-BFGS-B on the same objective, and the nearest point of a hyperplane within the box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from mgan_jax.attacks.lbfgs import lbfgs, nearer, newton_step
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


@pytest.fixture
def digits(trained):
    """The trained classifier, its variables, 20 test images and labels."""
    classifier, variables, data = trained
    return classifier, variables, jnp.asarray(data.test.images[:20]), jnp.asarray(data.test.labels[:20])


def test_the_inverse_hessian_meets_the_secant_equation_and_is_that_of_a_quadratic_once_all_is_seen():
    generator = np.random.default_rng(0)
    size, count = 4, 6
    root = generator.normal(size=(2, size, size))
    hessian = root @ root.transpose(0, 2, 1) + 2 * np.eye(size)
    steps = generator.normal(size=(count, 2, size))
    # Conjugate steps, the last `size` of them: then BFGS knows the whole quadratic.
    for i in range(count - size + 1, count):
        for j in range(count - size, i):
            form = lambda a, b: np.einsum("bi,bij,bj->b", a, hessian, b)[:, None]  # noqa: E731
            steps[i] -= form(steps[i], steps[j]) / form(steps[j], steps[j]) * steps[j]
    changes = np.einsum("bij,pbj->pbi", hessian, steps)
    s, y = np.zeros((2, size, 2, size), np.float32)
    for i in range(count):
        s[i % size], y[i % size] = steps[i], changes[i]
    s, y, counts = jnp.asarray(s), jnp.asarray(y), jnp.full(2, count)
    np.testing.assert_allclose(newton_step(jnp.asarray(changes[-1], jnp.float32), s, y, counts), steps[-1], rtol=1e-3, atol=1e-4)
    gradient = generator.normal(size=(2, size)).astype(np.float32)
    solved = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    np.testing.assert_allclose(newton_step(jnp.asarray(gradient), s, y, counts), solved, rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(newton_step(jnp.asarray(gradient), 0 * s, 0 * y, 0 * counts), gradient)


def test_a_linear_model_is_left_at_the_nearest_point_of_its_boundary_within_the_box(images):
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    head = variables["params"]["output"]
    images = images[0]
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    result = jax.jit(lbfgs(classifier.apply, num_searches=12))(jax.random.key(0), variables, images, labels)
    assert result.success.all()
    for i, own in enumerate(np.asarray(labels)):
        w = np.asarray(head["kernel"][:, 1 - own] - head["kernel"][:, own], np.float64)
        x = np.asarray(images[i], np.float64).ravel()
        offset = float(head["bias"][1 - own] - head["bias"][own])
        # x(m) = clip(x + m w) is nearest to x among all with its value of w x; the boundary's m by bisection.
        low, high = 0.0, 1e3
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if w @ np.clip(x + middle * w, 0, 1) + offset > 0 else (middle, high)
        best = np.linalg.norm(np.clip(x + high * w, 0, 1) - x)
        assert best * (1 - 1e-4) <= result.l2[i] <= best * 1.01 + 1e-3


def test_it_is_as_near_as_scipy_with_the_same_search(digits):
    classifier, variables, images, labels = digits
    targets = (labels + 1) % 10
    result = jax.jit(lbfgs(classifier.apply))(jax.random.key(0), variables, images, labels, targets)
    assert result.success[np.asarray(result.clean_correct)].all()

    @jax.jit
    def objective(x, image, c, target):
        def value(x):
            logits = classifier.apply(variables, x.reshape(1, 8, 8, 1))[0]
            return c * jnp.sqrt(jnp.square(x - image).sum() + 1e-10) - jax.nn.log_softmax(logits)[target], logits.argmax()

        return jax.value_and_grad(value, has_aux=True)(x)

    ratios = []
    for i in range(6):
        image, target, best = np.asarray(images[i]).ravel(), targets[i], np.inf

        def evaluate(x, c, image=image, target=target):
            (value, decision), gradient = objective(x.astype(np.float32), image, np.float32(c), target)
            return float(value), np.asarray(gradient, np.float64), int(decision)

        works, fails, c = 0.0, np.inf, 1.0
        for _ in range(10):
            found = minimize(lambda x, c=c: evaluate(x, c)[:2], image, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 64)
            if evaluate(found.x, c)[2] == target:
                works, best = c, min(best, np.linalg.norm(found.x - image))
            else:
                fails = c
            c = c / 10 if works == 0 else c * 10 if np.isinf(fails) else np.sqrt(works * fails)
        ratios.append(float(result.l2[i]) / best)
    assert 0.85 < np.median(ratios) < 1.03 and max(ratios) < 1.2


def test_c_is_found_from_far_off_and_untargeted_images_go_to_their_runner_up(digits):
    classifier, variables, images, labels = digits
    run = lambda **more: jax.jit(lbfgs(classifier.apply, **more))(jax.random.key(0), variables, images, labels)  # noqa: E731
    usual, above, below = run(), run(initial_c=1e3, num_searches=12), run(initial_c=1e-3, num_searches=12)
    correct = np.asarray(usual.clean_correct)
    for other in (usual, above, below):
        assert other.success[correct].all()
        np.testing.assert_allclose(np.median(other.l2[correct]), np.median(usual.l2[correct]), rtol=0.03)
        assert not other.l2[~correct].any()
    # A c without bisection is no minimal distance.
    assert np.median(run(initial_c=1e-2, num_searches=1, num_evaluations=100).l2[correct]) > 1.05 * np.median(usual.l2[correct])
    runner_up = np.argsort(np.asarray(classifier.apply(variables, images)), axis=1)[:, -2]
    assert (usual.logits.argmax(-1) == runner_up)[correct].mean() > 0.9
    assert (usual.used <= 10 * 51).all() and len(np.unique(usual.used)) > 5


def test_what_fools_from_nearer_is_kept_and_else_what_is_closest_to_fooling():
    state = lambda margin, distance: (jnp.zeros((1, 1)), jnp.array([margin]), jnp.array([distance]))  # noqa: E731
    assert nearer(state(-1.0, 2.0), state(-3.0, 2.5)) and not nearer(state(-3.0, 2.5), state(-1.0, 2.0))
    assert nearer(state(-1.0, 9.0), state(0.0, 0.0)) and not nearer(state(0.0, 0.0), state(-1.0, 9.0))
    assert nearer(state(1.0, 3.0), state(2.0, 0.0)) and not nearer(state(jnp.nan, 0.0), state(2.0, 5.0))


@pytest.mark.parametrize(
    "more",
    [{"num_searches": 0}, {"num_evaluations": 0}, {"num_pairs": 0}, {"initial_c": 0.0}, {"initial_c": float("nan")}],
)
def test_bad_arguments_are_refused_when_building(more, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        lbfgs(target[0].apply, **more)
