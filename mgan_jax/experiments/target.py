"""Trains a target classifier and prints its log of steps."""

from typing import Any

from mgan_jax import devices, engine
from mgan_jax.experiments.crafting import check
from mgan_jax.experiments.options import Options, opened
from mgan_jax.experiments.testing import target_fields
from mgan_jax.experiments.training import train_target
from mgan_jax.report.events import write_events
from mgan_jax.report.results import measured, write_results
from mgan_jax.report.tables import measure


def run(config: Any, options: Options) -> list[dict]:
    """Trains the target for each seed; options as in `experiments.options`.

    Returns:
      For each seed {name, seed, test_accuracy, test_accuracy_ci95, num_images, log: [{step, loss, accuracy}]}, also written to
      target.json, which over several seeds has the mean `test_accuracy` and `test_accuracy_std` beside these `rows`.
    """
    done = []
    with opened(config, options, check) as runs:
        for one in runs:
            classifier, variables, history = train_target(one)
            images, labels = one.dataset.test
            decisions = engine.predictions(classifier.apply, variables, images)
            ends = range(config.log_every, len(history["loss"]) + 1, config.log_every)
            log = [
                {"step": end, **{name: float(values[end - config.log_every : end].mean()) for name, values in history.items()}}
                for end in ends
            ]
            devices.on_primary(write_events, one.path / "events", {"target": history})
            done.append({"seed": one.seed, **target_fields(config.target.name, decisions, labels), "log": log})
    several = len(done) > 1
    mean = measured("test_accuracy", [one["test_accuracy"] for one in done], len(done)) if several else {}
    devices.on_primary(write_results, options.path / "target.json", {"rows": done, **mean})
    for one in done:
        for line in one["log"]:
            print(f"step {line['step']:6d}  loss {line['loss']:.4f}  accuracy {line['accuracy']:.4f}")
        print(f"{one['name']}, seed {one['seed']}: {100 * one['test_accuracy']:.2f} % of {one['num_images']} test images")
    if several:
        print(f"{config.target.name}, seeds {', '.join(map(str, options.seeds))}: {measure(mean, 'test_accuracy', 2, 100)} %")
    return done
