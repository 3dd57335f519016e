"""One program on many devices: a mesh of one axis over which images, whole batches of them, are spread."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mgan_jax.types import Array

AXIS = "data"


def make_mesh(number: int | str) -> Mesh | None:
    """A mesh of so many devices of all processes, or of "all"; None for one, which needs no mesh.

    Raises:
      ValueError: no number from 1 to that of the devices there are, or with several processes not all devices.
    """
    devices = jax.devices()
    count = len(devices) if number == "all" else int(number) if str(number).isdecimal() else 0
    if not 1 <= count <= len(devices):
        raise ValueError(f"{number!r} devices are asked for; choose 'all' or a number from 1 to {len(devices)}, which there are")
    if jax.process_count() > 1 and count < len(devices):
        raise ValueError(f"{count} of {len(devices)} devices are asked for; {jax.process_count()} processes use all of theirs")
    return None if count == 1 else Mesh(np.array(devices[:count]), (AXIS,), axis_types=(AxisType.Auto,))


def size(mesh: Mesh | None) -> int:
    """Number of devices."""
    return 1 if mesh is None else mesh.size


def replicated(tree: Any, mesh: Mesh | None) -> Any:
    """The tree on every device of the mesh; without a mesh as it is."""
    return tree if mesh is None else jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def spread(array: Array, mesh: Mesh | None) -> Array:
    """The array [N, ...] with its first axis over the devices, N a multiple of their number; without a mesh as it is."""
    return array if mesh is None else jax.device_put(array, NamedSharding(mesh, PartitionSpec(AXIS)))


def fetched(array: Array) -> np.ndarray:
    """The whole array on the host, of whatever devices and processes it lies on."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
