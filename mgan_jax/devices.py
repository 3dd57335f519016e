"""One program on many devices, of one process or of several: a mesh of one axis over which images are spread.

Every process runs the same program. What depends on anything but its arguments, files and clocks above all, is done by
process 0 alone, and all others get what it got, so that all take the same path.
"""

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mgan_jax.types import Array

AXIS = "data"
MESSAGE_BYTES = 4096
"""Messages between processes are filled up to this size times a power of two, so that few programs are compiled."""


def join() -> None:
    """Makes this process one of several that run one program; to be called before anything uses a device.

    JAX finds the others by itself on TPU pods and under Slurm, Open MPI and Kubernetes. Elsewhere JAX_COORDINATOR_ADDRESS
    (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID (0, 1, ...) name them.

    Raises:
      ValueError: nothing names them, or not all of it.
    """
    try:
        number, index = (
            int(os.environ[name]) if name in os.environ else None for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        )
        jax.distributed.initialize(num_processes=number, process_id=index)
    except ValueError as error:
        raise ValueError(
            f"the processes of --distributed are not found ({error}); set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES "
            "and JAX_PROCESS_ID"
        ) from None


def is_primary() -> bool:
    """Whether this is process 0, which alone reads and writes files."""
    return jax.process_index() == 0


def _broadcast(data: bytes) -> bytes:
    """The bytes of process 0 on every process; the others' are not looked at."""
    from jax.experimental import multihost_utils

    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    message = np.zeros(MESSAGE_BYTES << max(0, (length - 1) // MESSAGE_BYTES).bit_length(), np.uint8)
    if is_primary():
        message[:length] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(message))[:length].tobytes()


def on_primary(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function on process 0 alone; every process returns its result, or raises its error.

    Args:
      function: uses no device of another process; returns what can be pickled, less than 2 GiB.
      *arguments: of the function.
    """
    if jax.process_count() == 1:
        return function(*arguments)
    result, error, own = None, None, is_primary()
    if own:
        try:
            result = function(*arguments)
        except Exception as raised:
            error = raised
    received = pickle.loads(_broadcast(pickle.dumps((result, error)) if own else b""))
    result, error = (result, error) if own else received
    if error is not None:
        raise error
    return result


def same(value: bytes, what: str) -> None:
    """Compares a value with those of the other processes.

    Raises:
      ValueError: on every process, where two differ; `what` names the value.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digests = multihost_utils.process_allgather(np.frombuffer(hashlib.sha256(value).digest(), np.uint8))
    if (digests != digests[0]).any():
        others = ", ".join(map(str, np.flatnonzero((digests != digests[0]).any(1))))
        raise ValueError(f"{what} of process {others} is not that of process 0; start all processes with the same")


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


def advice(mesh: Mesh | None) -> str | None:
    """What is to be known of a mesh that trains slower than one device would, and what to do; None of any other."""
    own = [] if mesh is None else [device for device in mesh.local_devices if device.platform == "cpu"]
    if len(own) < 2:
        return None
    return (
        f"{len(own)} devices that are parts of one CPU train several times slower than one, which uses all cores by itself; "
        "leave out --devices"
    )


def size(mesh: Mesh | None) -> int:
    """Number of devices."""
    return 1 if mesh is None else mesh.size


def in_threads(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """[function(item) for item in items], several items at a time, for programs of one device that are waited for.

    A CPU runs the programs that one thread dispatches one after the other, and few of their operations are large enough for all
    cores; here each core has an item of its own. Accelerators get two, so that none waits for the host. Where several processes
    run the program items are taken one by one, for all processes have to take them in the same order.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = 1 if jax.process_count() > 1 else cores if jax.default_backend() == "cpu" else 2
    if number == 1:
        return [function(item) for item in items]
    x64 = jax.config.jax_enable_x64

    def run(item: Any) -> Any:
        # A setting of the thread that calls is not one of those that it starts.
        with jax.enable_x64(x64):
            return function(item)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, items))


def _put(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that every process has whole, placed on the devices of all; each process fills its own devices."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> Array:
        if getattr(leaf, "sharding", None) == sharding:
            return leaf
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def replicated(tree: Any, mesh: Mesh | None) -> Any:
    """The tree on every device of the mesh; without a mesh as it is."""
    return tree if mesh is None else _put(tree, NamedSharding(mesh, PartitionSpec()))


def spread(array: Array, mesh: Mesh | None) -> Array:
    """The array [N, ...] with its first axis over the devices, N a multiple of their number; without a mesh as it is."""
    return array if mesh is None else _put(array, NamedSharding(mesh, PartitionSpec(AXIS)))


def local(tree: Any) -> Any:
    """A replicated tree as arrays of this process alone, whose computations then wait for no other."""
    return tree if jax.process_count() == 1 else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def fetched(array: Array) -> np.ndarray:
    """The whole array on the host, of whatever devices and processes it lies on."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
