"""Trains a target classifier and prints its log of steps."""

from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from mgan_jax import devices, engine, workdir
from mgan_jax.experiments.crafting import check
from mgan_jax.experiments.data import data_digest, load_data
from mgan_jax.experiments.training import Run, train_target
from mgan_jax.report.events import write_events
from mgan_jax.report.results import write_results
from mgan_jax.report.terminal import progress


def run(
    config: Any,
    path: Path,
    data_dir: str | None,
    seeds: list[int],
    overwrite: bool,
    show_progress: bool,
    mesh: Mesh | None = None,
) -> list[dict]:
    """Trains the target for each seed; arguments as in `experiments.mgan.run`.

    Returns:
      For each seed {name, seed, test_accuracy, num_images, log: [{step, loss, accuracy}]}, also written to target.json.
    """
    check(config, load_data(config.dataset, data_dir, seeds[0]))
    workdir.open_workdir(path, {**config.to_dict(), "seeds": seeds}, overwrite)
    done = []
    with progress(show_progress) as start:
        for seed in seeds:
            place = path if len(seeds) == 1 else path / f"seed_{seed}"
            dataset = load_data(config.dataset, data_dir, seed)
            one = Run(config, place, seed, dataset, start, data_digest(dataset), mesh)
            classifier, variables, history = train_target(one)
            images, labels = one.dataset.test
            accuracy = float((engine.predictions(classifier.apply, variables, images) == labels).mean())
            ends = range(config.log_every, len(history["loss"]) + 1, config.log_every)
            log = [
                {"step": end, **{name: float(values[end - config.log_every : end].mean()) for name, values in history.items()}}
                for end in ends
            ]
            devices.on_primary(write_events, place / "events", {"target": history})
            done.append(
                {"name": config.target.name, "seed": seed, "test_accuracy": accuracy, "num_images": len(labels), "log": log}
            )
    devices.on_primary(write_results, path / "target.json", {"rows": done})
    for one in done:
        for line in one["log"]:
            print(f"step {line['step']:6d}  loss {line['loss']:.4f}  accuracy {line['accuracy']:.4f}")
        print(f"{one['name']}, seed {one['seed']}: {100 * one['test_accuracy']:.2f} % of {one['num_images']} test images")
    return done
