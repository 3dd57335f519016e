"""FAB by other routes: SciPy's programs for the projections, a linear model, the published loop in NumPy, torchattacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from mgan_jax.attacks.deepfool import deepfool
from mgan_jax.attacks.fab import fab, to_hyperplane
from mgan_jax.losses import margin
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical

SIZE = {
    "l2": lambda change: np.sqrt(np.square(np.asarray(change).reshape(len(change), -1)).sum(1)),
    "linf": lambda change: np.abs(np.asarray(change)).reshape(len(change), -1).max(1),
}


@pytest.fixture(scope="module")
def digits(trained):
    """The trained classifier, its variables, 50 test images and labels."""
    classifier, variables, data = trained
    return classifier.apply, variables, jnp.asarray(data.test.images[:50]), jnp.asarray(data.test.labels[:50])


def boundaries(seed, count=24):
    """Images [count, 2, 3, 1] with exact 0 and 1, normals with zeros, and values, about a third of them out of reach."""
    draws = np.random.default_rng(seed)
    x = draws.uniform(-0.4, 1.4, (count, 2, 3, 1)).clip(0, 1).astype(np.float32)
    w = (draws.normal(size=x.shape) * 10.0 ** draws.integers(-3, 4, (count, 1, 1, 1))).astype(np.float32)
    w[draws.uniform(size=x.shape) < 0.2] = 0
    reach = [np.where(w * sign > 0, (1 - x) * w, -x * w) * sign for sign in (1, -1)]
    most = np.where(draws.uniform(size=count) < 0.5, reach[1].sum((1, 2, 3)), -reach[0].sum((1, 2, 3)))
    return x, w, (-most * draws.uniform(0, 1.5, count)).astype(np.float32)


def shortest(x, w, value, norm):
    """The same projection of one flat image by SciPy, or None where it finds the hyperplane out of reach."""
    count = len(x)
    if norm == "linf":
        # Variables: delta and its largest size, which is minimised.
        above = np.block([[np.eye(count), -np.ones((count, 1))], [-np.eye(count), -np.ones((count, 1))]])
        limits, cost = [*zip(-x, 1 - x, strict=True), (0, None)], np.append(np.zeros(count), 1.0)
        found = optimize.linprog(cost, above, np.zeros(2 * count), np.append(w, 0.0)[None], [-value], limits)
        return found.x[:-1] if found.status == 0 else None
    scale = np.abs(w).max()
    meets = {"type": "eq", "fun": lambda d: (w @ d + value) / scale, "jac": lambda d: w / scale}
    limits, exactly = list(zip(-x, 1 - x, strict=True)), {"method": "SLSQP", "options": {"ftol": 1e-12, "maxiter": 500}}
    square = lambda d: (d @ d, 2 * d)  # noqa: E731
    found = optimize.minimize(square, np.zeros(count), jac=True, bounds=limits, constraints=meets, **exactly)
    return found.x if found.success and abs(meets["fun"](found.x)) < 1e-6 else None


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projections_are_the_programs_scipy_solves(norm):
    x, w, value = boundaries(0)
    change = np.asarray(jax.jit(to_hyperplane, static_argnums=3)(x, w, value, norm), np.float64)
    assert (x + change >= -1e-6).all() and (x + change <= 1 + 1e-6).all()
    out_of_reach = 0
    for i in range(len(x)):
        flat, normal = x[i].ravel().astype(np.float64), w[i].ravel().astype(np.float64)
        reach = np.where(normal * -value[i] > 0, 1 - flat, -flat) * (normal != 0)
        if abs(normal @ reach) < abs(value[i]):
            out_of_reach += 1
            assert shortest(flat, normal, value[i], norm) is None
            np.testing.assert_allclose(change[i].ravel(), reach, atol=1e-6)
            continue
        expected = shortest(flat, normal, value[i], norm)
        np.testing.assert_allclose(normal @ change[i].ravel() + value[i], 0, atol=1e-5 * np.abs(normal).max())
        sizes = [SIZE[norm](d.reshape(1, -1))[0] for d in (change[i], expected)]
        np.testing.assert_allclose(*sizes, rtol=1e-4, atol=1e-5)
        if norm == "l2":  # in L-inf there are many of one size
            np.testing.assert_allclose(change[i].ravel(), expected, atol=1e-4)
    assert 4 <= out_of_reach <= 16


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projections_of_many_pixels_hold_the_equation_of_their_multiplier(norm):
    """By sorting, as the paper has it: in float64, on images like MNIST's and steep and flat pixels."""
    draws = np.random.default_rng(1)
    x = draws.uniform(-1, 1.2, (16, 28, 28, 1)).clip(0, 1).astype(np.float32)
    w = (draws.standard_cauchy(x.shape) * 1e-12).astype(np.float32)
    shares = draws.uniform(0.01, 0.99, 16)
    flat, normal = x.reshape(16, -1).astype(np.float64), w.reshape(16, -1).astype(np.float64)
    room = np.where(normal < 0, 1 - flat, flat)
    value = (np.abs(normal) * room).sum(1) * shares
    change = np.asarray(to_hyperplane(jnp.asarray(x), jnp.asarray(w), jnp.asarray(value, jnp.float32), norm)).reshape(16, -1)
    for i in range(16):
        steep = np.abs(normal[i])
        speed = np.ones_like(steep) if norm == "linf" else steep
        order = np.argsort(room[i] / speed)
        filled = np.append(0, np.cumsum((steep * room[i])[order]))
        rest = np.append(np.cumsum((steep * speed)[order][::-1])[::-1], 0)
        times = (room[i] / speed)[order]
        k = np.argmax(filled[:-1] + times * rest[:-1] >= value[i])
        multiplier = (value[i] - filled[k]) / rest[k]
        expected = -np.sign(normal[i]) * np.minimum(multiplier * speed, room[i])
        np.testing.assert_allclose(change[i], expected, atol=2e-5)


def test_no_gradient_no_offset_and_vanishing_gradients_project_without_nan():
    x = jnp.stack([jnp.full((2, 2, 1), value) for value in (0.0, 1.0, 0.5, 0.5, 0.5)])
    w = jnp.stack([jnp.full((2, 2, 1), value) for value in (1.0, 1.0, 0.0, 1e-37, 1.0)])
    for norm in ("linf", "l2"):
        change = to_hyperplane(x, w, jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0]), norm)
        expected = [0.0, -0.25, 0.0, -0.5, 0.0]
        np.testing.assert_allclose(change, np.broadcast_to(np.reshape(expected, (5, 1, 1, 1)), x.shape), atol=1e-7)


@pytest.mark.parametrize("classes", [9, None])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_finds_the_smallest_change_of_a_linear_model_within_the_bounds(norm, classes, images):
    """Each half-space's nearest point within [0, 1] is a projection, checked above; the nearest half-space is the answer."""
    classifier = linear((8, 8, 1), 10)
    variables = classifier.init(jax.random.key(0))
    x = images[0]
    logits = np.asarray(classifier.apply(variables, x), np.float64)
    labels = logits.argmax(1)
    weights = np.asarray(variables["params"]["output"]["kernel"])
    attack = jax.jit(fab(classifier.apply, norm, 20, num_target_classes=classes))
    result = attack(jax.random.key(0), variables, x, jnp.asarray(labels, jnp.int32))
    nearest = np.full(8, np.inf)
    for k in range(10):
        w = jnp.asarray((weights[:, [k]] - weights[:, labels]).T.reshape(8, 8, 8, 1))
        gap = logits[np.arange(8), k] - logits[np.arange(8), labels]
        change = np.asarray(to_hyperplane(x, w, jnp.asarray(gap, jnp.float32), norm))
        meets = np.abs((np.asarray(w) * change).sum((1, 2, 3)) + gap) < 1e-4
        nearest = np.where((labels != k) & meets, np.minimum(nearest, SIZE[norm](change)), nearest)
    assert result.success.all()
    np.testing.assert_allclose(SIZE[norm](result.adversarial - x), nearest, rtol=1e-3, atol=1e-4)
    assert (result.used == (20 * 9)).all()


def published(apply, gradients, x, label, norm, num_steps, alpha_max=0.1, eta=1.05, beta=0.9):
    """Algorithm 1 for one image and one run in plain NumPy, without the final search: the nearest image that fools, or None.

    `apply(x)` are logits [K], `gradients(x)` theirs, [K, H, W, C].
    """
    size = lambda d: np.abs(d).max() if norm == "linf" else np.sqrt((d**2).sum())  # noqa: E731
    dual = lambda w: np.abs(w).sum() if norm == "linf" else np.sqrt((w**2).sum())  # noqa: E731

    def way(z, w, value):
        """Bisection of the multiplier."""
        steep = np.abs(w)
        room = np.where(w * value < 0, 1 - z, z)
        speed = (steep > 0) if norm == "linf" else steep
        low, high = 0.0, (room[steep > 0] / speed[steep > 0]).max()
        for _ in range(60):
            middle = (low + high) / 2
            short = (steep * np.minimum(middle * speed, room)).sum() < abs(value)
            low, high = (middle, high) if short else (low, middle)
        return -np.sign(w * value) * np.minimum(high * speed, room)

    original, out, smallest = x, None, np.inf
    for _ in range(num_steps):
        logits, rows = apply(x), gradients(x)
        values, normals = logits - logits[label], rows - rows[label]
        distances = [np.inf if k == label else abs(values[k]) / dual(normals[k]) for k in range(len(logits))]
        s = int(np.argmin(distances))
        change = way(x, normals[s], values[s])
        original_change = way(original, normals[s], values[s] + (normals[s] * (original - x)).sum())
        alpha = min(size(change) / (size(change) + size(original_change)), alpha_max)
        x = ((1 - alpha) * (x + eta * change) + alpha * (original + eta * original_change)).clip(0, 1)
        if apply(x).argmax() != label:
            if size(x - original) < smallest:
                out, smallest = x, size(x - original)
            x = (1 - beta) * original + beta * x
    return out


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_equals_the_published_algorithm_in_numpy(norm, digits, monkeypatch):
    apply_fn, variables, images, labels = digits
    images, labels = images[:6], labels[:6]
    monkeypatch.setattr("mgan_jax.attacks.fab.SEARCH_STEPS", 0)
    result = jax.jit(fab(apply_fn, norm, 12, num_target_classes=None))(jax.random.key(0), variables, images, labels)
    one = jax.jit(lambda x: apply_fn(variables, x[None])[0])
    rows = jax.jit(jax.jacrev(one))
    as_float = lambda f: lambda x: np.asarray(f(jnp.asarray(x, jnp.float32)), np.float64)  # noqa: E731
    for i in np.flatnonzero(result.clean_correct):
        x = np.asarray(images[i], np.float64)
        expected = published(as_float(one), as_float(rows), x, int(labels[i]), norm, 12)
        sizes = [SIZE[norm](np.asarray(a)[None] - x[None])[0] for a in (result.adversarial[i], expected)]
        np.testing.assert_allclose(*sizes, rtol=1e-2)
        assert result.success[i]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_is_nearer_than_deepfool_and_the_nearer_the_more_it_does(norm, digits):
    apply_fn, variables, images, labels = digits
    run = lambda attack: jax.jit(attack)(jax.random.key(0), variables, images, labels)  # noqa: E731
    sizes = lambda result: np.where(result.success, getattr(result, norm), np.inf)[np.asarray(result.clean_correct)]  # noqa: E731
    theirs = run(deepfool(apply_fn, norm))
    few, many = run(fab(apply_fn, norm, 20, num_target_classes=3)), run(fab(apply_fn, norm, 20, 2))
    everywhere = run(fab(apply_fn, norm, 20, num_target_classes=0))
    assert np.isfinite(sizes(many)).all()
    for result in (few, many, everywhere):
        assert np.median(sizes(result)) <= np.median(sizes(theirs))
    assert (sizes(many) <= sizes(few) * 1.001).all()
    correct = np.asarray(many.clean_correct)
    for result, used in ((few, 20 * 3), (many, 20 * 9 * 2), (everywhere, 20 * 9)):
        assert (result.used[correct] == used).all()
        # Those that are wrong from the start are left alone.
        assert not result.used[~correct].any() and not result.l2[~correct].any()
    # Each norm is smallest where it is asked for.
    other = run(fab(apply_fn, {"linf": "l2", "l2": "linf"}[norm], 20, num_target_classes=3))
    assert np.median(sizes(few)) < np.median(sizes(other))


@pytest.mark.parametrize("norm, epsilons", [("linf", (0.0, 0.06, 0.12)), ("l2", (0.0, 0.3, 0.6))])
def test_within_a_ball_it_finds_what_lies_in_it_and_returns_nothing_outside(norm, epsilons, digits):
    apply_fn, variables, images, labels = digits
    run = lambda attack: jax.jit(attack)(jax.random.key(0), variables, images, labels)  # noqa: E731
    free = run(fab(apply_fn, norm, 15, num_target_classes=3))
    swept = run(fab(apply_fn, norm, 15, num_target_classes=3, epsilon=epsilons))
    clean_margin = margin(apply_fn(variables, images), labels)
    for k, epsilon in enumerate(epsilons):
        assert SIZE[norm](swept.adversarial[k] - images).max() <= epsilon + 1e-6
        near = np.asarray(free.success) & (np.asarray(getattr(free, norm)) <= epsilon)
        np.testing.assert_array_equal(swept.success[k], near)
        lost = np.asarray(swept.clean_correct[k] & ~swept.success[k])
        assert (swept.used[k][lost] == 45).all() and (swept.used[k][near] <= 45).all()
        # What failed is the iterate closest to fooling.
        assert (margin(swept.logits[k], labels) <= clean_margin + 1e-4).all()
    assert 0 < swept.success[1].sum() < swept.success[2].sum()
    assert (swept.used[2][np.asarray(swept.success[2])] < 45).any()
    np.testing.assert_array_equal(swept.adversarial[0], images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_restarts_begin_where_the_key_says_and_get_an_attack_off_a_plateau(norm):
    """Where nothing is farther than .01 from grey the logits are constant: the first run, from there, cannot move."""

    def plateau(variables, x):
        fooling = jnp.maximum(jnp.abs(x - 0.5).max((1, 2, 3)) - 0.01, 0.0) - 0.05
        return jnp.stack([jnp.zeros_like(fooling), fooling], 1)

    grey, labels = jnp.full((4, 6, 6, 1), 0.5), jnp.zeros(4, jnp.int32)
    assert not jax.jit(fab(plateau, norm, 10))(jax.random.key(0), {}, grey, labels).success.any()
    attack = jax.jit(fab(plateau, norm, 10, 3))
    first, second = (attack(jax.random.key(seed), {}, grey, labels) for seed in range(2))
    assert first.success.all() and second.success.all() and (first.used == 30).all()
    assert (first.adversarial != second.adversarial).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_aims(norm, digits):
    apply_fn, variables, images, labels = digits
    targets = (labels + 1) % 10
    run = lambda attack, *more: jax.jit(attack)(jax.random.key(0), variables, images, labels, *more)  # noqa: E731
    result, free = run(fab(apply_fn, norm, 30), targets), run(fab(apply_fn, norm, 30))
    correct = np.asarray(result.clean_correct)
    assert (result.logits.argmax(-1) == targets)[correct].mean() > 0.95 and (result.used <= 30).all()
    both = np.asarray(result.success & free.success)
    assert (getattr(free, norm)[both] <= getattr(result, norm)[both] * 1.02).all()


@pytest.mark.parametrize("norm, name", [("linf", "Linf"), ("l2", "L2")])
def test_is_as_near_as_torchattacks(norm, name, digits):
    torch = pytest.importorskip("torch")
    torchattacks = pytest.importorskip("torchattacks")
    apply_fn, variables, images, labels = digits
    images, labels = images[:25], labels[:25]
    params = variables["params"]
    modules = [torch.nn.Flatten()]
    for layer in (params["dense1"]["layer"], params["output"]):
        module = torch.nn.Linear(*layer["kernel"].shape)
        module.weight.data = torch.tensor(np.array(layer["kernel"]).T)
        module.bias.data = torch.tensor(np.array(layer["bias"]))
        modules += [module, torch.nn.ReLU()]
    network = torch.nn.Sequential(*modules[:-1]).eval()
    theirs_in = torch.tensor(np.array(images)).permute(0, 3, 1, 2)
    np.testing.assert_allclose(network(theirs_in).detach(), apply_fn(variables, images), atol=1e-3)
    for targeted in (True, False):
        attack = torchattacks.FAB(network, name, eps=None, steps=20, multi_targeted=targeted, n_classes=10)
        found = attack(theirs_in, torch.tensor(np.array(labels), dtype=torch.long))
        result = jax.jit(fab(apply_fn, norm, 20, num_target_classes=9 if targeted else None))(
            jax.random.key(0), variables, images, labels
        )
        theirs = SIZE[norm](found.numpy().transpose(0, 2, 3, 1) - np.asarray(images))
        correct = np.asarray(result.clean_correct)
        ours = SIZE[norm](result.adversarial - images)
        fooled = network(found).argmax(1).numpy() != np.asarray(labels)
        assert result.success[correct].all() and fooled[correct].mean() > 0.9
        both = correct & fooled
        assert np.median(ours[both]) <= 1.005 * np.median(theirs[both])
        assert np.median(ours[both]) >= 0.9 * np.median(theirs[both])


@pytest.mark.parametrize(
    "name, value",
    [("norm", "l1"), ("num_steps", 0), ("num_restarts", 0), ("num_target_classes", -1), ("epsilon", -0.1), ("epsilon", 1.5),
     ("alpha_max", 1.1), ("beta", -0.1), ("eta", 0.9), ("eta", float("nan"))],
)  # fmt: skip
def test_bad_arguments_are_refused_when_building(name, value, target):
    with pytest.raises(ValueError, match=rf"{value}.*(choose|positive)"):
        fab(target[0].apply, **{name: value})
