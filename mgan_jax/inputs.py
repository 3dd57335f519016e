"""What every public function does first: look at the arrays that it is given.

What container, rank, shape and dtype tell raises ValueError, while tracing too. Values are looked at where they are known, once a
batch; under somebody's own `jax.jit` they are not.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.types import ApplyFn, Array, Classifier, Variables

LARGEST_OF_FEW_LEVELS = 127
"""8-bit images reach beyond it; a set of bytes that does not may count in other units, as 0 and 1 or 0 to 16."""


def in_native_order(array: Any) -> Any:
    """NumPy's arrays with bytes in the machine's own order, which JAX takes for granted; anything else as it is."""
    foreign = isinstance(array, (np.ndarray, np.generic)) and not array.dtype.isnative
    return array.astype(array.dtype.newbyteorder("=")) if foreign else array


def as_array(value: Any, name: str) -> Array | np.ndarray:
    """Lists, and what else NumPy reads, as an array; JAX's and NumPy's own as they are, bytes in the machine's own order.

    Raises:
      ValueError: it is no array of numbers.
    """
    if isinstance(value, (jax.Array, np.ndarray)):
        found = value
    else:
        try:
            found = np.asarray(value)
        except jax.errors.TracerArrayConversionError:
            found = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} cannot be read as an array: {error}") from None
    if not (jnp.issubdtype(found.dtype, jnp.number) or found.dtype == bool):
        raise ValueError(f"{name} are of the type {found.dtype}; choose numbers")
    return in_native_order(found)


def known(array: Array | np.ndarray) -> bool:
    """Whether values can be looked at: not while tracing, nor where other processes hold some."""
    return not isinstance(array, jax.core.Tracer) and getattr(array, "is_fully_addressable", True)


def as_variables(tree: Any) -> Any:
    """A tree whose NumPy leaves are JAX's, which can be indexed by tracers and have `.at`."""
    own = lambda leaf: jnp.asarray(in_native_order(leaf)) if isinstance(leaf, (np.ndarray, np.generic)) else leaf  # noqa: E731
    return jax.tree.map(own, tree)


def exact(x: Array) -> Array:
    """In float32 at least: halves have too few digits for sums, and too small a range for squares."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def as_scores(scores: Array | np.ndarray) -> Array | np.ndarray:
    """A detector's scores as they are compared: NaN is infinite, since what cannot answer for an image does not let it pass."""
    return (jnp if isinstance(scores, jax.Array) else np).nan_to_num(scores, nan=np.inf, posinf=np.inf, neginf=-np.inf)


def as_alike(boolean: bool = False, rank: int = 1, **arrays: Any) -> list[np.ndarray]:
    """Arrays of one shape on the host, by default of one value an image, [N] each.

    Args:
      boolean: whether these are answers, yes or no.
      rank: of all.
      **arrays: by their names, for messages.

    Raises:
      ValueError: one is of another rank, shape or type.
    """
    found = {name: np.asarray(as_array(array, name)) for name, array in arrays.items()}
    if len({array.shape for array in found.values()}) > 1 or any(array.ndim != rank for array in found.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
        raise ValueError(f"shapes are {shapes}; choose one shape with {rank} axes for all")
    for name, array in found.items():
        if boolean and array.dtype != bool and array.size:
            raise ValueError(f"{name} are of the type {array.dtype}; choose booleans")
    return [array.astype(bool) for array in found.values()] if boolean else list(found.values())


def as_mutants(mutants: Any, variables: Any = None) -> Any:
    """`as_variables` of a tree whose every leaf has a leading axis M.

    Args:
      mutants: the tree.
      variables: where given, one network's own, whose leaves have the same shapes behind that axis.

    Raises:
      ValueError: a leaf is of another shape.
    """
    shapes = {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(mutants)}
    leading, own = next(iter(shapes.values()), ())[:1], {name: shape[1:] for name, shape in shapes.items()}
    if variables is not None:
        own = {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}
    wrong = [name for name in {**shapes, **own} if name not in own or shapes.get(name) != (*leading, *own[name])]
    if wrong or not leading:
        of = f"; {wrong[0]} is of the shape {shapes.get(wrong[0])}, the network's of {own.get(wrong[0])}" if wrong else ""
        raise ValueError(f"mutants are a tree like the network's whose every leaf has a leading axis M{of}")
    return as_variables(mutants)


def check_levels(largest: int, name: str, remedy: str = "divide them by what it is") -> None:
    """Refuses bytes of which nothing tells what white is.

    Args:
      largest: the largest value of a whole set of uint8 images.
      name: of the images, for messages.
      remedy: what to do, for messages.

    Raises:
      ValueError: it is at most 127.
    """
    if largest <= LARGEST_OF_FEW_LEVELS:
        raise ValueError(f"{name} are uint8, none above {largest}, so white may be 1, 16 or 255; {remedy}")


def from_bytes(images: Array | np.ndarray, name: str = "images") -> Array:
    """uint8 images as float32 in [0, 1], divided by 255; no guess is made about images that have few levels.

    Raises:
      ValueError: the largest value is at most 127, or not known.
    """
    if not known(images):
        raise ValueError(f"{name} are uint8, and while tracing nothing tells their largest value; divide them by 255 before")
    if images.size:
        check_levels(int(np.asarray(images).max()), name)
    return jnp.asarray(images, jnp.float32) / 255


def as_images(images: Any, name: str = "images", bounded: bool = True) -> Array:
    """`read_images` as a JAX array; float64 stays so where `jax_enable_x64` is on."""
    return jnp.asarray(read_images(images, name, bounded))


def read_images(images: Any, name: str = "images", bounded: bool = True, values: bool = True) -> Array | np.ndarray:
    """Images [B, H, W, C] of floating point in [0, 1], their dtype kept; uint8 is divided by 255.

    Values are looked at on the host: a call that is not under `jax.jit` copies the batch from the device and waits for it. Under
    `jax.jit` nothing is copied, and no value looked at.

    Args:
      images: a list, a NumPy or a JAX array; NumPy's stay on the host.
      name: for messages.
      bounded: whether values shall lie in [0, 1].
      values: whether they are looked at where they are known.

    Raises:
      ValueError: another rank or type; where values are known, some that are not finite or lie outside [0, 1], or as
        `from_bytes`.
    """
    given = as_array(images, name)
    if given.ndim != 4 or 0 in given.shape[1:]:
        raise ValueError(
            f"{name} are of the shape {given.shape}; choose [B, H, W, C], image[None] for one, images[..., None] for grey ones"
        )
    if given.dtype == np.uint8:
        return from_bytes(given, name)
    if not jnp.issubdtype(given.dtype, jnp.floating):
        raise ValueError(f"{name} are of the type {given.dtype}; choose floating point in [0, 1], or uint8")
    if values and known(given) and given.size:
        found = np.asarray(given)
        low, high = (float(value) for value in (found.min(), found.max()))
        if not (np.isfinite(low) and np.isfinite(high)):
            first = int((~np.isfinite(found.astype(np.float64))).any((1, 2, 3)).argmax())
            raise ValueError(f"{name} hold values that are not finite, the first of them in {name}[{first}]; leave such out")
        if bounded and not 0 <= low <= high <= 1:
            raise ValueError(f"{name} lie between {low:.9g} and {high:.9g}; choose values in [0, 1], bytes divided by 255")
    return given


def as_examples(data: Any, bounded: bool = True, values: bool = True) -> tuple[Array | np.ndarray, ...]:
    """What a network learns from: arrays [N, ...], a row an example, at least one.

    Args:
      data: one or several. Of more than two axes they are images of floating point; other integers are labels [N], from 0 on,
        other numbers anything finite.
      bounded: whether images shall lie in [0, 1].
      values: whether they are looked at, once for all, where they are known.

    Raises:
      ValueError: no array or no row, another number of rows in one, bytes, or values that are not finite, no images or no labels.
    """
    given = tuple(as_array(array, f"data[{i}]") for i, array in enumerate(data))
    if not given or any(array.ndim == 0 for array in given) or len({len(array) for array in given}) > 1 or not len(given[0]):
        shapes = ", ".join(str(array.shape) for array in given) or "none"
        raise ValueError(f"the shapes of the training data are {shapes}; choose arrays of as many rows, at least one")
    for i, array in enumerate(given):
        if array.ndim > 2 and array.dtype == np.uint8:
            raise ValueError(f"data[{i}] are uint8, and a training divides nothing; give it floating point in [0, 1]")
        whole = jnp.issubdtype(array.dtype, jnp.integer)
        if array.ndim > 2:
            read_images(array, f"data[{i}]", bounded, values)
        elif whole and array.ndim != 1:
            raise ValueError(f"data[{i}] are integers of the shape {array.shape}; choose one class an example, [N]")
        elif values and known(array) and array.size:
            found = np.asarray(array)
            low, high = (found.min(), found.max()) if found.dtype != bool else (0, 1)
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError(f"data[{i}] hold values that are not finite; leave such examples out")
            if whole and low < 0:
                raise ValueError(f"data[{i}] are integers, the least {low}; choose classes from 0 on")
    return given


def of_no_images(function: Callable[[Array], Any], images: Array | np.ndarray, axis: int = 0) -> Any:
    """What `function(images)` gives of no images [0, H, W, C]: arrays as of one image, without it.

    Args:
      function: it is traced for one image.
      images: of none.
      axis: of the images in what it gives.
    """
    dtype = jax.dtypes.canonicalize_dtype(images.dtype)
    made = jax.eval_shape(function, jax.ShapeDtypeStruct((1, *images.shape[1:]), dtype))
    return jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[:axis], 0, *leaf.shape[axis + 1 :]), leaf.dtype), made)


def as_logits(logits: Any) -> Array:
    """Logits [B, num_classes] as a JAX array; ValueError where they are of another rank."""
    given = jnp.asarray(as_array(logits, "logits"))
    if given.ndim != 2:
        raise ValueError(f"logits are of the shape {given.shape}; choose [B, num_classes]")
    return given


def as_classes(classes: Any, shape: tuple[int, ...], name: str = "labels", num_classes: int | None = None) -> Array:
    """Classes [B] int32, one for each of the images.

    Args:
      classes: a list, a NumPy or a JAX array of integers.
      shape: of the images, [B, H, W, C].
      name: for messages.
      num_classes: where given, and values are known, these are 0 to num_classes - 1.

    Raises:
      ValueError: another shape or type; where values are known, one that is no class.
    """
    given = as_array(classes, name)
    if given.shape != shape[:1]:
        hint = f": one-hot ones are {name}.argmax(-1)" if given.ndim == 2 and given.shape[1] > 1 else ""
        raise ValueError(f"{name} are of the shape {given.shape}, images of {shape}; choose one class an image, [B]{hint}")
    if given.size and not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(f"{name} are of the type {given.dtype}; choose integers, classes from 0 on")
    if num_classes is not None and known(given) and given.size:
        values = np.asarray(given)
        if values.min() < 0 or values.max() >= num_classes:
            raise ValueError(f"{name} lie between {values.min()} and {values.max()}; the classes are 0 to {num_classes - 1}")
    return jnp.asarray(given, jnp.int32)


def as_labels(
    labels: Any,
    images: Array | np.ndarray,
    network: ApplyFn | Classifier | None,
    variables: Variables,
    name: str = "labels",
) -> Array:
    """`as_classes` of images [B, H, W, C], where the network tells how many classes there are.

    It is traced for one image, and only where labels are known. Without a network any class from 0 on will do.
    """
    given, num_classes = as_array(labels, name), None
    if network is not None and known(given):
        apply_fn = network
        if isinstance(network, Classifier):
            apply_fn, variables = network.apply, jax.eval_shape(network.init, jax.random.key(0))
        one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jax.dtypes.canonicalize_dtype(images.dtype))
        num_classes = jax.eval_shape(apply_fn, variables, one).shape[-1]
    return as_classes(given, images.shape, name, num_classes)


def as_batch(
    apply_fn: ApplyFn, variables: Variables, images: Any, labels: Any, targets: Any = None, bounded: bool = True
) -> tuple[Variables, Array, Array, Array | None]:
    """(variables, images, labels, targets) as `as_variables`, `as_images` and `as_labels` give them.

    Args:
      apply_fn: the network.
      variables, images, labels, targets: as given; targets may be None.
      bounded: as of `as_images`.

    Raises:
      ValueError: as these.
    """
    variables, images = as_variables(variables), as_images(images, bounded=bounded)
    targets = None if targets is None else as_labels(targets, images, apply_fn, variables, "targets")
    return variables, images, as_labels(labels, images, apply_fn, variables), targets
