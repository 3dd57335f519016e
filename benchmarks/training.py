"""Training steps against PyTorch: images a second of target, AdvGAN and MGAN; at large, the time to a result.

python -m benchmarks.training --size=small|paper|large [--json=FILE] [--rows=REGEX] [--data_dir=FOLDER]
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command_line, material, roofline, time_to_result
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alternate, compared, timed
from benchmarks.votes import AnswersDiffer
from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.mgan import drawn, mgan
from mgan_jax.build import factory
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.training import gan, loop
from mgan_jax.training import target as target_training

OPERATORS = ("GF", "WS", "NEB", "NAI", "NS")
RATE, NUM_MUTANTS = 0.1, 8
LEARNING_RATE, TOTAL_STEPS, WEIGHT_DECAY = 1e-3, 10000, 1e-4
TOLERANCES = (1e-3, 2e-2)
"""Relative difference of the losses of the first and of the second step, which comes after an update, that may be."""
BATCH = {"small": 32, "paper": 128, "large": 128}
STEPS = {"small": 2, "paper": 20, "large": 50}


class Sides(NamedTuple):
    """Ours and the peer's training from the same weights.

    Attributes:
      train_step, state: ours, as `training.loop` takes them.
      theirs: the peer's `step(images, labels, *more) -> loss`.
      more: `more(step)` gives what the peer is handed so that a step draws the same as ours.
    """

    train_step: Callable
    state: Any
    theirs: Callable
    more: Callable[[int], tuple] = lambda step: ()


def target_sides(network: str, key: Any) -> Sides:
    """A target of this name."""
    from benchmarks import torch_networks, torch_training

    del key
    classifier = factory("models", network)(material.IMAGE_SHAPE, material.NUM_CLASSES)
    transform = target_training.optimizer(LEARNING_RATE, TOTAL_STEPS, WEIGHT_DECAY)
    state = target_training.init_state(jax.random.key(0), classifier, transform)
    model = torch_networks.TorchClassifier(network, material.IMAGE_SHAPE, material.NUM_CLASSES).to(torch_networks.device())
    model.load_state_dict(torch_networks.weights(state.params, model.channels))
    theirs = torch_training.target_step(model, LEARNING_RATE, TOTAL_STEPS, WEIGHT_DECAY)
    return Sides(target_training.make_train_step(classifier, transform), state, theirs)


def gan_sides(method: str, key: Any) -> Sides:
    """ "advgan" or "mgan" against an untrained cnn, whose speed is that of a trained one."""
    from benchmarks import torch_networks, torch_training

    classifier = factory("models", "cnn")(material.IMAGE_SHAPE, material.NUM_CLASSES)
    variables = classifier.init(jax.random.key(0))
    operators = [material.operator(name, variables, RATE) for name in OPERATORS]
    networks = classifier.apply, generator(), discriminator()
    if method == "mgan":
        numbers = {"beta": 1.0, "num_mutants": NUM_MUTANTS, "target_ratio": 0.95, "min_accuracy_ratios": [0.9] * len(operators)}
        attack = mgan(*networks, operators, **numbers)
    else:
        attack = advgan(*networks)
    transform = gan.optimizer(LEARNING_RATE, TOTAL_STEPS)
    state = gan.init_state(jax.random.key(1), attack, material.IMAGE_SHAPE, transform)

    torch_target = torch_networks.TorchClassifier("cnn", material.IMAGE_SHAPE, material.NUM_CLASSES)
    torch_target.load_state_dict(torch_networks.weights(variables, torch_target.channels))
    torch_generator = torch_networks.TorchGenerator(material.IMAGE_SHAPE[-1])
    torch_generator.load_state_dict(torch_networks.weights(state.params["generator"], 1))
    torch_discriminator = torch_networks.TorchDiscriminator(material.IMAGE_SHAPE)
    weights = torch_networks.weights(state.params["discriminator"], torch_discriminator.channels)
    torch_discriminator.load_state_dict(weights)
    players = [model.to(torch_networks.device()) for model in (torch_target, torch_generator, torch_discriminator)]
    mutate_loss = torch_training.MutateLoss(players[0], OPERATORS, RATE, NUM_MUTANTS, 1.0, 0.95) if method == "mgan" else None
    theirs = torch_training.gan_step(*players, LEARNING_RATE, TOTAL_STEPS, mutate_loss=mutate_loss)

    compiled = [jax.jit(operator) for operator in operators]

    def same_mutants(step: int) -> tuple:
        indices, keys = drawn(key, step, NUM_MUTANTS, len(operators))
        made = [compiled[int(index)](mutant_key, variables) for index, mutant_key in zip(indices, keys, strict=True)]
        return ([torch_training.mutant(ours, variables, torch_target.channels) for ours in made],)

    step = gan.make_train_step(attack, variables, transform)
    return Sides(step, state, theirs, same_mutants if method == "mgan" else lambda step: ())


KINDS = {
    "target, lenet": lambda key: target_sides("lenet", key),
    "target, cnn": lambda key: target_sides("cnn", key),
    "AdvGAN": lambda key: gan_sides("advgan", key),
    f"MGAN, {NUM_MUTANTS} mutants": lambda key: gan_sides("mgan", key),
}


def compare(name: str, sides: Sides, key: Any, images: np.ndarray, labels: np.ndarray, batch: int, steps: int, settings) -> Row:
    """One row.

    Args:
      name: of the row.
      sides: who trains.
      key: of our training's draws.
      images, labels: training data, [N, H, W, C] and [N].
      batch: images a step.
      steps: a chunk; both sides take so many before the clock is read.
      settings: of the command line.

    Raises:
      votes.AnswersDiffer: the losses of the first two steps are not the same.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks import torch_networks

    torch_images = torch_networks.images(images)
    torch_labels = torch.from_numpy(labels.astype(np.int64)).to(torch_networks.device())
    indices = loop.batch_indices(0, len(images), batch, range(max(2, steps)))
    chunk, state = loop.make_chunk(sides.train_step, (images, labels)), sides.state
    state, metrics = chunk(state, key, jnp.arange(2), indices[:2])

    def theirs_at(step: int, *more) -> torch.Tensor:
        rows = torch.from_numpy(indices[step].astype(np.int64)).to(torch_labels.device)
        return sides.theirs(torch_images[rows], torch_labels[rows], *more)

    difference = 0.0
    for step, tolerance in enumerate(TOLERANCES):
        own, peers = float(metrics["loss"][step]), theirs_at(step, *sides.more(step)).item()
        relative = abs(own - peers) / max(abs(own), 1e-6)
        if not relative <= tolerance:
            raise AnswersDiffer(f"{name}: the loss of step {step} is {own}, the peer's {peers}")
        difference = max(difference, relative)
    with FlopCounterMode(display=False) as counter:
        theirs_at(0)

    def ours():
        nonlocal state
        state, metrics = chunk(state, key, jnp.arange(steps), indices[:steps])
        return metrics

    def theirs():
        return [theirs_at(step) for step in range(steps)][-1].item()

    for call in (ours, theirs):
        timed(call)
    seconds = alternate({"ours": ours, "theirs": theirs}, settings.rounds)
    least = roofline.least_seconds(settings.peaks, counter.get_total_flops() * steps, batch * steps * images[0].nbytes)
    row = compared(name, "PyTorch, eager", seconds["ours"], seconds["theirs"], least, differing=difference)
    return row._replace(images_per_s=batch * steps / row.ours_s, note=f"losses of two steps agree within {difference:.1e}")


def rows(settings: Settings) -> Iterator[Row]:
    """One row a kind of training, and at large the time to a result."""
    batch, steps = BATCH[settings.size], STEPS[settings.size]
    for kind, sides in KINDS.items():
        name = f"training: {kind}, {steps} steps of {batch}"
        if settings.wanted(name):
            key = jax.random.key(2)
            images, labels = material.data(settings.size, settings.data_dir)[0]
            yield compare(name, sides(key), key, images, labels, batch, steps, settings)
    if settings.size == "large":
        yield from time_to_result.rows(settings)


if __name__ == "__main__":
    command_line.run("training", command_line.parse(__doc__), rows)
