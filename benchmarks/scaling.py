"""Rows of scaling: time and peak memory of votes against M, N and devices, each measured in a process of its own.

`python -m benchmarks.plots RESULTS.json FIGURE` draws them.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks import roofline
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alone

NETWORK = "lenet"
IMAGE_SHAPE = (28, 28, 1)
ROOT = Path(__file__).parent.parent


class Work(NamedTuple):
    """M mutants, N images, and how many devices; on a CPU, threads of the host that pose as devices."""

    num_mutants: int
    num_images: int
    devices: int = 1

    @property
    def name(self) -> str:
        """Of the row."""
        devices = f", {self.devices} devices" if self.devices > 1 else ""
        return f"scaling: {NETWORK}, {self.num_mutants} NAI x {self.num_images:,}{devices}"


WORK = {
    "small": (Work(5, 200), Work(20, 200)),
    "paper": (*(Work(m, 1000) for m in (20, 100, 500)), Work(100, 10000), Work(500, 10000), Work(100, 1000, 2)),
    "large": tuple(Work(*numbers) for numbers in product((20, 100, 500), (1000, 10000), (1, 2))),
}


def peak_bytes() -> int:
    """The most memory this process ever held: on an accelerator that of its first device, else the host's.

    Linux counts in `getrusage` what the parent held before the child became a program of its own, so VmHWM is read there.
    """
    if jax.default_backend() != "cpu":
        return int(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"])
    status = Path("/proc/self/status")
    if status.is_file():
        return next(
            int(line.split()[1]) * 1024 for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(work: Work) -> dict[str, float]:
    """What the process of one row does: mutants, votes twice, the second time measured.

    Returns:
      {seconds, peak_bytes, bytes_before: the peak before the votes, least_flops, least_bytes}.
    """
    import numpy as np

    from mgan_jax import devices, population
    from mgan_jax.build import factory
    from mgan_jax.mutation.neuron_activation_inverse import neuron_activation_inverse

    classifier = factory("models", NETWORK)(IMAGE_SHAPE, 10)
    variables = classifier.init(jax.random.key(0))
    images = np.random.default_rng(0).random((work.num_images, *IMAGE_SHAPE), np.float32)
    found = population.qualified(
        classifier, neuron_activation_inverse(0.05), jax.random.key(1), variables, images[:1], [0], work.num_mutants, 0.0
    )
    mesh, before = devices.make_mesh(work.devices), peak_bytes()
    population.votes(classifier, found, images, mesh=mesh)
    start = time.perf_counter()
    votes = population.votes(classifier, found, images, mesh=mesh)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "least_flops": votes.size * roofline.forward_flops(classifier, variables, IMAGE_SHAPE),
        "least_bytes": work.num_mutants * roofline.size_bytes(variables) + images.nbytes + votes.nbytes,
    }


def rows(settings: Settings) -> Iterator[Row]:
    """One row a triple of M, N and devices; they have no peer.

    Raises:
      subprocess.CalledProcessError: a process failed.
    """
    for work in WORK[settings.size]:
        if settings.wanted(work.name):
            yield measure(work, settings)


def measure(work: Work, settings: Settings) -> Row:
    """Runs a process for one row."""
    environment = dict(os.environ)
    if work.devices > 1 and jax.default_backend() == "cpu":
        count = f"--xla_force_host_platform_device_count={work.devices}"
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {count}".strip()
    command = [sys.executable, "-m", "benchmarks.scaling", *map(str, work)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    least = roofline.least_seconds(settings.peaks, found["least_flops"], found["least_bytes"])
    row = alone(work.name, [found["seconds"]], least, peak_bytes=found["peak_bytes"], **work._asdict())
    before = f"{found['bytes_before'] / 2**20:,.0f} MiB of the peak were reached before the votes"
    return row._replace(images_per_s=work.num_mutants * work.num_images / row.ours_s, note=before)


if __name__ == "__main__":
    print(json.dumps(child(Work(*map(int, sys.argv[1:])))))
