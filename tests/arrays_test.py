"""Functions of images, logits and mutants: the same for NumPy's arrays, JAX's and lists, jitted or not; nothing of nothing."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import engine, inversion, losses, metrics, population, saliency, squeezers, transformations
from mgan_jax.mutation.weight_shuffling import weight_shuffling

pytestmark = pytest.mark.numerical

RNG = np.random.default_rng(0)
IMAGES = RNG.random((5, 6, 7, 1), np.float32)
OTHERS = RNG.random((5, 6, 7, 1), np.float32)
LOGITS, MORE = RNG.normal(0, 1, (2, 5, 4)).astype(np.float32)
LABELS, DECISIONS = np.array([0, 3, 1, 1, 2]), np.array([1, 3, 0, 2, 2])
NETWORK = {"params": {"output": {"kernel": RNG.normal(0, 1, (42, 4)).astype(np.float32), "bias": np.zeros(4, np.float32)}}}
GENERATOR = {"kernel": RNG.normal(0, 1, (3, 42)).astype(np.float32)}
MUTANTS = jax.tree.map(lambda leaf: np.stack([leaf, leaf[..., ::-1], -leaf]), NETWORK)
STARTS = RNG.normal(0, 1, (2, 3)).astype(np.float32)
DESCENT = inversion.Descent(3, 0.1, 0.5, "momentum")
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def one_key_for_all():
    with jax.debug_key_reuse(False):
        yield


def apply_fn(variables, images):
    layer = variables["params"]["output"]
    return images.reshape(len(images), 42) @ layer["kernel"] + layer["bias"][None]


def decode(variables, codes):
    return jax.nn.sigmoid(codes @ variables["kernel"]).reshape(-1, 6, 7, 1)


WEIGHTS = weight_shuffling(0.5)
# name: (function, arrays of which all have a row an image)
BY_IMAGE = {
    "margin": (losses.margin, (LOGITS, LABELS)),
    "runner_up": (losses.runner_up, (LOGITS, LABELS)),
    "runners_up": (partial(losses.runners_up, count=2), (LOGITS, LABELS)),
    "rounding of losses": (losses.rounding, (LOGITS, LABELS)),
    "settled": (partial(losses.settled, dtype=jnp.dtype("float16")), (LOGITS,)),
    "finite_rows": (losses.finite_rows, (LOGITS,)),
    "margin_to_fool": (losses.margin_to_fool, (LOGITS, LABELS, DECISIONS)),
    "disagreement": (losses.disagreement, (LOGITS, LABELS)),
    "log_odds": (losses.log_odds, (LOGITS, LABELS)),
    "relative_disagreement": (losses.relative_disagreement, (LOGITS, LABELS, MORE, DECISIONS)),
    "decide": (engine.decide, (LOGITS,)),
    "straight_through": (squeezers.straight_through, (IMAGES, OTHERS)),
    "bit_depth": (squeezers.bit_depth(2), (IMAGES,)),
    "bit_depth with a slope": (squeezers.bit_depth(2, 5.0), (IMAGES,)),
    "median": (squeezers.median(2), (IMAGES,)),
    "non_local_means": (squeezers.non_local_means(3, 1, 40.0), (IMAGES,)),
    "gaussian_noise": (partial(transformations.gaussian_noise(0.1), KEY), (IMAGES,)),
    "rotation": (partial(transformations.rotation(20.0), KEY), (IMAGES,)),
    "blur": (partial(transformations.blur(0.5), KEY), (IMAGES,)),
    "rounding of transformations": (partial(transformations.rounding(3), KEY), (IMAGES,)),
    "gradient": (partial(saliency.gradient(apply_fn), KEY, NETWORK), (IMAGES, LABELS)),
    "gradient_times_input": (partial(saliency.gradient_times_input(apply_fn), KEY, NETWORK), (IMAGES, LABELS)),
    "smooth_grad": (partial(saliency.smooth_grad(apply_fn, 2), KEY, NETWORK), (IMAGES, LABELS)),
    "invert": (lambda x: inversion.invert(decode, GENERATOR, x, STARTS, DESCENT), (IMAGES,)),
    "evaluate by map": (lambda x: jnp.moveaxis(engine.evaluate(apply_fn, MUTANTS, x, method="map"), 1, 0), (IMAGES,)),
    "evaluate by vmap": (lambda x: jnp.moveaxis(engine.evaluate(apply_fn, MUTANTS, x, method="vmap"), 1, 0), (IMAGES,)),
}
OF_BATCH = {
    "untargeted_hinge": (losses.untargeted_hinge, (LOGITS, LABELS)),
    "targeted_hinge": (losses.targeted_hinge, (LOGITS, LABELS)),
    "least_squares": (partial(losses.least_squares, goal=1.0), (LOGITS[0],)),
    "norm_hinge": (partial(losses.norm_hinge, bound=0.5), (IMAGES,)),
    "label_entropy": (losses.label_entropy, (LOGITS,)),
    "errors": (partial(inversion.errors, decode, GENERATOR), (RNG.normal(0, 1, (2, 5, 3)).astype(np.float32), IMAGES)),
    "sample": (
        lambda leaf: population.sample(WEIGHTS, KEY, {"params": {"output": {"kernel": leaf}}}, 3),
        (np.eye(4, dtype=np.float32),),
    ),
}
HOST = {
    "logits": (lambda x: engine.logits(apply_fn, NETWORK, x, 2), (IMAGES,)),
    "predictions": (lambda x: engine.predictions(apply_fn, NETWORK, x), (IMAGES,)),
    "probabilities": (lambda x: engine.probabilities(apply_fn, NETWORK, x), (IMAGES,)),
    "votes of engine": (lambda x: engine.votes(apply_fn, MUTANTS, x, batch_size=2).T, (IMAGES,)),
    "outputs": (lambda x: np.moveaxis(engine.outputs(apply_fn, MUTANTS, x), 1, 0), (IMAGES,)),
    "votes of population": (lambda x: population.votes(apply_fn, found(IMAGES, LABELS), x).T, (IMAGES,)),
}
YES, ALSO = RNG.random((2, 9)) < 0.5
RATES, PREDICTED = RNG.random(9), RNG.integers(0, 3, 9)
FLIPS = RNG.random((2, 4, 9)) < 0.5
# name: (function, arrays that are of one shape, what it gives of arrays of nothing)
MEASURES = {
    "named": (lambda x, y: metrics.named("a", x, y, "n"), (YES, ALSO), {"a": None, "a_ci95": None, "n": 0}),
    "share": (metrics.share, (YES, ALSO), {"rate": None, "ci95": None, "n": 0}),
    "transfer": (metrics.transfer, (YES, ALSO, ~YES, ~ALSO), {"rate": None, "ci95": None, "n": 0}),
    "destruction": (metrics.destruction, (YES, ALSO, ~ALSO), {"rate": None, "ci95": None, "n": 0}),
    "paired_difference": (
        metrics.paired_difference,
        (YES, ALSO),
        {"difference": None, "difference_ci95": None, "num_images": 0},
    ),
    "auroc": (lambda x, y: metrics.auroc(x[:5], y), (RATES, RATES**2), None),
    "true_positive_rate": (lambda x, y: metrics.true_positive_rate(x[:5], y), (RATES, RATES**2), None),
    "two_way_bootstrap": (lambda *m: metrics.two_way_bootstrap(m, lambda r: r[0].mean() - r[1].mean(), 9, 0.9, 0), FLIPS, None),
    "class_matched": (lambda x, y: metrics.class_matched(x, y, y), (RATES, PREDICTED), None),
    "entropy": (metrics.entropy, (PREDICTED,), None),
    "fooling_rate": (
        metrics.fooling_rate,
        (PREDICTED, PREDICTED[::-1], PREDICTED),
        {**dict.fromkeys(("fooling", "fooling_ci95", "collateral", "collateral_ci95")), "num_images": 0, "num_others": 0},
    ),
    "ssim": (metrics.ssim, (IMAGES, OTHERS), np.zeros(0)),
    "kept_order": (metrics.kept_order, (LOGITS, MORE), {"num": 0, "second": None, "third": None, "kendall": None}),
}

MODULES = (losses, metrics, squeezers, transformations, engine, population, inversion, saliency)
LAST = {"digest", "digests", "qualified"}  # the last tests are of these
WITHOUT_ARRAYS = {"wilson", "standard_error", "squeezer", "transformation", "chosen_method", "check_descent"}


def test_every_public_function_is_here():
    public = [
        (name, module.__name__.split(".")[-1], function)
        for module in MODULES
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    ]
    tables, names = [*BY_IMAGE, *OF_BATCH, *HOST, *MEASURES, *LAST], [name for name, _, _ in public]
    here = {key if " of " in key else key.split(" ")[0] for key in tables}
    called = {name if names.count(name) == 1 else f"{name} of {module}": function for name, module, function in public}
    assert set(called) - here == WITHOUT_ARRAYS
    for name in WITHOUT_ARRAYS:
        taken = [str(one.annotation) for one in inspect.signature(called[name]).parameters.values()]
        assert not any(kind in said for said in taken for kind in ("Array", "ndarray", "Variables")), name


@pytest.mark.parametrize("name", MEASURES)
def test_measures_of_every_container_and_of_nothing(name):
    function, arrays, nothing = MEASURES[name]
    expected = function(*arrays)
    for given in ([jnp.asarray(array) for array in arrays], [array.tolist() for array in arrays]):
        for one, other in zip(jax.tree.leaves(function(*given)), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    found = function(*(array[..., :0] if name == "two_way_bootstrap" else array[:0] for array in arrays))
    assert (found == nothing).all() if name == "ssim" else found == nothing
    if name not in ("auroc", "true_positive_rate", "entropy"):
        for wrong in (arrays[0][:-1], arrays[0][None]):
            with pytest.raises(ValueError, match="choose"):
                function(wrong, *arrays[1:])
    if arrays[0].dtype == bool and name != "two_way_bootstrap":
        with pytest.raises(ValueError, match="choose booleans"):
            function(arrays[0].astype(int), *arrays[1:])


def found(images, labels):
    return population.qualified(apply_fn, WEIGHTS, KEY, NETWORK, images, labels, 4, 0.5)


def same(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*BY_IMAGE, *OF_BATCH])
def test_containers_and_compilation_change_nothing(name):
    function, arrays = {**BY_IMAGE, **OF_BATCH}[name]
    expected = function(*map(jnp.asarray, arrays))
    same(function(*arrays), expected)
    same(jax.jit(function)(*arrays), expected)
    if name not in ("straight_through", "sample", "errors", "least_squares"):
        same(function(*(array.tolist() for array in arrays)), expected)


@pytest.mark.parametrize("name", HOST)
def test_containers_change_nothing_on_the_host(name):
    function, arrays = HOST[name]
    swapped = (array.astype(array.dtype.newbyteorder("S")) for array in arrays)
    for given in (map(jnp.asarray, arrays), (array.tolist() for array in arrays), swapped):
        same(function(*given), function(*arrays))


@pytest.mark.parametrize("name", [*BY_IMAGE, *HOST])
def test_nothing_of_no_images(name):
    function, arrays = {**BY_IMAGE, **HOST}[name]
    some, none = function(*arrays), function(*(array[:0] for array in arrays))
    for full, empty in zip(jax.tree.leaves(some), jax.tree.leaves(none), strict=True):
        assert empty.shape == (0, *full.shape[1:]) and empty.dtype == full.dtype
    if name in BY_IMAGE:
        jitted = jax.jit(function)(*(array[:0] for array in arrays))
        assert [leaf.shape for leaf in jax.tree.leaves(jitted)] == [leaf.shape for leaf in jax.tree.leaves(none)]


@pytest.mark.parametrize(
    "name", [name for name in [*BY_IMAGE, *HOST] if name not in ("decide", "finite_rows", "straight_through")]
)
def test_arrays_of_another_shape_or_kind_are_refused(name):
    function, arrays = {**BY_IMAGE, **HOST}[name]
    wrong = [(arrays[0][0], *arrays[1:]), (arrays[0][None], *arrays[1:])]
    if arrays[0] is IMAGES:
        wrong += [(IMAGES > 0.5, *arrays[1:])]
        wrong += [(IMAGES * np.nan, *arrays[1:])] if not name.startswith("evaluate") else []
        wrong += [(IMAGES * 255, *arrays[1:])] if name != "invert" and not name.startswith("evaluate") else []
    if len(arrays) > 1:
        wrong += [(arrays[0], change(arrays[1]), *arrays[2:]) for change in (lambda x: x[1:], lambda x: x[:, None], np.float32)]
        wrong += [(arrays[0], LABELS + 1, *arrays[2:])] if arrays[0] is LOGITS and arrays[1] is LABELS else []
    for given in wrong:
        with pytest.raises(ValueError, match=r"choose|not finite|the classes are"):
            function(*given)


def test_mutants_that_are_one_network_are_refused():
    for call in (partial(engine.votes, apply_fn), partial(engine.evaluate, apply_fn), partial(engine.outputs, apply_fn)):
        for mutants in (NETWORK, {}, {**MUTANTS, "more": np.zeros(2)}):
            with pytest.raises(ValueError, match="leading axis M"):
                call(mutants, IMAGES)
    with pytest.raises(ValueError, match=r"kernel'\] is of the shape \(3, 4, 42\), the network's of \(42, 4\)"):
        turned = {"params": {"output": {"kernel": np.zeros((3, 4, 42)), "bias": np.zeros((3, 4))}}}
        engine.votes(apply_fn, turned, IMAGES, NETWORK)


def test_logits_that_are_not_finite_are_no_class():
    logits = np.array([[0, 1], [np.nan, 1], [np.inf, 0], [0, -np.inf]], np.float32)
    assert engine.decide(logits).tolist() == [1, -1, -1, -1]
    network = lambda variables, images: jnp.log(images.reshape(len(images), -1)) + variables  # noqa: E731
    images = np.array([0.5, 0.25, 0, 0], np.float32).reshape(2, 1, 2, 1)
    assert engine.predictions(network, np.zeros(2, np.float32)[None], images).tolist() == [0, -1]
    mutants = np.array([[[0, 0]], [[0, np.nan]]], np.float32)
    assert engine.votes(network, mutants, images).tolist() == [[0, -1], [-1, -1]]


def test_qualified_mutants_need_images_to_qualify_by():
    for images, labels, message in (
        (IMAGES[:0], LABELS[:0], "give some"),
        (IMAGES, LABELS[1:], "one class an image"),
        (IMAGES, LABELS + 1, "the classes are 0 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            found(images, labels)
    assert population.digests(jax.tree.map(jnp.asarray, MUTANTS)) == population.digests(MUTANTS)
    numbers = found(IMAGES.tolist(), LABELS.tolist()), found(jnp.asarray(IMAGES), jnp.asarray(LABELS))
    assert numbers[0].digests == numbers[1].digests == found(IMAGES, LABELS).digests
    assert population.digest(jax.tree.map(jnp.asarray, NETWORK)) == population.digest(NETWORK)
