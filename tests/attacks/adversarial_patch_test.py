"""Adversarial patches: the placing by hand and by a plain loop, the losses, and what patches learn on digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from mgan_jax.attacks.adversarial_patch import adversarial_patch, patch_loss
from mgan_jax.attacks.adversarial_patch_generator import adversarial_patch_generator, crops
from mgan_jax.attacks.placing import Places, draw_places, place, side_of
from mgan_jax.models.autoencoder import autoencoder
from mgan_jax.models.discriminator import discriminator


@pytest.fixture(scope="module")
def digits(trained):
    classifier, variables, data = trained
    train, test = ([jnp.asarray(part) for part in split] for split in (data.train, data.test))
    return classifier, variables, train, test


def at(row, column, side, angle=0.0):
    return Places(*(jnp.array([value], jnp.float32) for value in (row, column, side, angle)))


@pytest.mark.parametrize(("angle", "turns"), [(0.0, 0), (np.pi / 2, 1), (np.pi, 2)])
def test_a_patch_on_the_grid_is_copied_and_turns_by_right_angles(angle, turns):
    patch = np.random.default_rng(0).random((3, 3, 2)).astype(np.float32)
    images = np.random.default_rng(1).random((1, 7, 6, 2)).astype(np.float32)
    made, covered = place(patch, images, at(4, 2, 3, angle), "square")
    expected = images.copy()
    expected[0, 3:6, 1:4] = np.rot90(patch, turns)
    np.testing.assert_allclose(made, expected, atol=0 if turns == 0 else 1e-6)
    assert covered.sum() == 9 and covered[0, 3:6, 1:4].all()


@pytest.mark.parametrize("shape", ["round", "square"])
def test_placing_is_the_plain_loop_and_leaves_the_rest_alone_bit_for_bit(shape):
    rng = np.random.default_rng(0)
    patches = rng.random((3, 5, 5, 1)).astype(np.float32)
    images = rng.random((3, 12, 11, 1)).astype(np.float32)
    places = draw_places(jax.random.key(0), 3, (12, 11, 1), (0.1, 0.3), shape, 40.0)
    made, covered = place(patches, images, places, shape)
    np.testing.assert_array_equal(np.where(covered[..., None], 0, made), np.where(covered[..., None], 0, images))
    for b in range(3):
        row, column, side, angle = (float(part[b]) for part in places)
        for i in range(12):
            for j in range(11):
                u = np.cos(angle) * (i - row) + np.sin(angle) * (j - column)
                v = np.cos(angle) * (j - column) - np.sin(angle) * (i - row)
                inside = np.hypot(u, v) <= side / 2 if shape == "round" else max(abs(u), abs(v)) <= side / 2
                assert covered[b, i, j] == inside
                if inside:
                    y, x = (min(max(5 * w / side + 2, 0), 4) for w in (u, v))
                    y0, x0 = min(int(y), 3), min(int(x), 3)
                    p, dy, dx = patches[b, :, :, 0], y - y0, x - x0
                    top = (1 - dx) * p[y0, x0] + dx * p[y0, x0 + 1]
                    bottom = (1 - dx) * p[y0 + 1, x0] + dx * p[y0 + 1, x0 + 1]
                    assert made[b, i, j, 0] == pytest.approx((1 - dy) * top + dy * bottom, abs=1e-5)


@pytest.mark.parametrize("shape", ["round", "square"])
def test_patches_lie_within_the_image_everywhere_and_cover_their_share(shape):
    images = jnp.zeros((400, 28, 28, 1))
    places = draw_places(jax.random.key(0), 400, (28, 28, 1), (0.1, 0.1), shape, 45.0)
    covered = place(jnp.ones((9, 9, 1)), images, places, shape)[1]
    shares = covered.mean((1, 2))
    assert shares.mean() == pytest.approx(0.1, abs=0.001) and shares.min() > 0.08  # none is cut by a border
    assert covered.any(0).sum() > (700 if shape == "square" else 740)  # and nearly every pixel is covered by some
    assert float(places.angle.min()) < -0.7 and float(places.angle.max()) > 0.7
    assert side_of(0.25, "square", (8, 8, 1)) == 4 and side_of(np.pi / 16, "round", (8, 8, 1)) == pytest.approx(4)


def test_a_white_patch_is_nowhere_brighter_than_white():
    flat = lambda variables, images: images.reshape(len(images), -1)[:, :2]  # noqa: E731
    attack, images = adversarial_patch(flat).attack, jnp.zeros((64, 28, 28, 1))
    state = {"patch": jnp.ones((10, 10, 1))}
    result = jax.jit(attack)(state, jax.random.key(0), {}, images, jnp.zeros(64, jnp.int32))
    assert result.adversarial.max() == 1


def test_the_gradient_of_a_patch_is_spread_over_what_it_covers():
    images = jnp.zeros((2, 9, 9, 1))
    places = draw_places(jax.random.key(0), 2, (9, 9, 1), (0.3, 0.3), "round", 90.0)
    gradient = jax.grad(lambda patch: place(patch, images, places, "round")[0].sum())(jnp.full((4, 4, 1), 0.5))
    covered = place(jnp.ones((4, 4, 1)), images, places, "round")[1]
    assert (gradient > 0).all() and gradient.sum() == pytest.approx(float(covered.sum()), rel=1e-5)


def test_the_loss_is_the_logarithm_of_the_probability():
    logits = jnp.array([[2.0, 0.0, -1.0], [0.5, 3.0, 0.0]])
    probabilities = np.asarray(jax.nn.softmax(logits))
    labels = jnp.array([0, 1])
    np.testing.assert_allclose(patch_loss(logits, labels, None), -np.log(1 - probabilities[[0, 1], [0, 1]]), rtol=1e-5)
    np.testing.assert_allclose(patch_loss(logits, labels, 2), -np.log(probabilities[:, 2]), rtol=1e-5)
    assert np.isfinite(patch_loss(1e6 * logits, labels, None)).all()


def test_a_learned_patch_fools_unseen_digits_where_a_random_one_does_not(digits):
    classifier, variables, train, test = digits
    made = adversarial_patch(classifier.apply, area=0.15, num_steps=200)
    state = jax.jit(made.fit)(jax.random.key(0), variables, *train)
    attack = jax.jit(made.attack)
    rate = lambda patch: float(attack({"patch": patch}, jax.random.key(1), variables, *test).success.mean())  # noqa: E731
    patch = state["patch"]
    assert patch.shape == (4, 4, 1) and patch.min() >= 0 and patch.max() <= 1
    chance = np.mean([rate(jax.random.uniform(jax.random.key(i), patch.shape)) for i in range(5)])
    assert rate(patch) > chance + 0.15


def test_a_targeted_patch_draws_to_its_class(digits):
    classifier, variables, train, test = digits
    made = adversarial_patch(classifier.apply, area=(0.2, 0.3), target_label=4, num_steps=300, batch_size=64)
    state = jax.jit(made.fit)(jax.random.key(0), variables, *train)
    attack = jax.jit(made.attack)
    result = attack(state, jax.random.key(1), variables, *test)
    random = attack({"patch": jax.random.uniform(jax.random.key(5), state["patch"].shape)}, jax.random.key(1), variables, *test)
    share = lambda result: (result.logits.argmax(-1) == 4).mean()  # noqa: E731
    assert share(result) > share(random) + 0.08
    assert not result.success[test[1] == 4].any()
    assert (result.l0 <= 0.35 * 64).all() and (result.l0 > 0).mean() > 0.9


def test_crops_are_windows_of_samples_and_all_places_occur():
    samples = jnp.arange(2 * 5 * 6.0).reshape(2, 5, 6, 1)
    made = np.asarray(crops(jax.random.key(0), samples, 400, 4))
    corners = made[:, 0, 0, 0]
    np.testing.assert_array_equal(
        made[..., 0] - corners[:, None, None], np.broadcast_to(np.arange(5 * 6).reshape(5, 6)[:4, :4], (400, 4, 4))
    )
    assert set(corners) == {30 * n + 6 * i + j for n in range(2) for i in range(2) for j in range(3)}


@pytest.mark.parametrize("gan_weight", [0.0, 3.0])
def test_generated_patches_fool_and_resemble_the_samples_if_that_counts(gan_weight, digits):
    classifier, variables, train, test = digits
    sample = jnp.zeros((1, 8, 8, 1)).at[:, :, :4].set(1.0)
    make = lambda **more: adversarial_patch_generator(  # noqa: E731
        classifier.apply, autoencoder("dense", (32,), "sigmoid"), discriminator((8,)), gan_weight, learning_rate=3e-3, **more
    )
    made = make(area=0.25, num_steps=600)
    state = jax.jit(made.fit)(jax.random.key(0), variables, *train, sample)
    assert jax.jit(made.attack)(state, jax.random.key(1), variables, *test).success.mean() > 0.35
    # A patch on the grid that covers all of an image is all that is seen of it.
    patches = make(area=1.0, max_rotation=0.0).attack(state, jax.random.key(1), variables, *test).adversarial
    distance = jnp.abs(patches - sample).mean()
    assert distance < 0.05 if gan_weight else distance > 0.2


@pytest.mark.parametrize("digit", [0, 4])
def test_patches_are_of_the_class_whose_samples_they_learned_from(digit, digits):
    classifier, variables, train, test = digits
    made = adversarial_patch_generator(
        classifier.apply, autoencoder("dense", (64,), "sigmoid"), discriminator((16,)), gan_weight=5.0, area=1.0,
        max_rotation=0.0, num_steps=1500, learning_rate=2e-3,
    )  # fmt: skip
    state = jax.jit(made.fit)(jax.random.key(0), variables, *train, train[0][train[1] == digit])
    # A patch on the grid that covers all of an image is all that is seen of it.
    patches = jax.jit(made.attack)(state, jax.random.key(1), variables, *test).adversarial
    flat = lambda images: images.reshape(len(images), -1)  # noqa: E731
    read = KNeighborsClassifier(5).fit(flat(train[0]), train[1]).predict(flat(patches))
    assert (read == digit).mean() > 0.9


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"area": 0.0}, "0.0"),
        ({"area": (0.3, 0.1)}, "0.3"),
        ({"area": [0.1, 0.2, 0.3]}, "0.2"),
        ({"area": float("nan")}, "nan"),
        ({"shape": "star"}, "star"),
        ({"max_rotation": 200.0}, "200"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"num_steps": 0}, "num_steps 0"),
        ({"learning_rate": -1.0}, "-1.0"),
    ],
)
def test_bad_arguments_are_refused_when_building(arguments, shown):
    with pytest.raises(ValueError, match=shown):
        adversarial_patch(lambda v, x: x, **arguments)
    with pytest.raises(ValueError, match=shown):
        adversarial_patch_generator(lambda v, x: x, autoencoder(), discriminator(), **arguments)


def test_what_was_not_learned_is_refused(digits):
    classifier, variables, train, test = digits
    made = adversarial_patch(classifier.apply)
    with pytest.raises(ValueError, match="target_label"):
        made.attack({"patch": jnp.zeros((3, 3, 1))}, jax.random.key(0), variables, *test, test[1])
    with pytest.raises(ValueError, match=r"-0\.5"):
        adversarial_patch_generator(classifier.apply, autoencoder(), discriminator(), gan_weight=-0.5)
    with pytest.raises(ValueError, match="target_label is 10"):
        adversarial_patch(classifier.apply, target_label=10).fit(jax.random.key(0), variables, *train)
    generated = adversarial_patch_generator(classifier.apply, autoencoder(), discriminator(), patch_size=9)
    with pytest.raises(ValueError, match="at least 9"):
        generated.fit(jax.random.key(0), variables, *train)
