"""Trainings of an experiment: built from the config, resumed from their checkpoints, shown while they run."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import checkpoint, devices, mutation, workdir
from mgan_jax.build import build
from mgan_jax.experiments.stages import Run, made_from
from mgan_jax.experiments.streams import stream_key
from mgan_jax.models.standardized import standardized
from mgan_jax.training import gan, loop, minimise, target
from mgan_jax.types import Array, Classifier, Dataset, GenerativeAttack, Mutation, Train, Variables

SECONDS_BETWEEN_SAVES = 15.0


def train(
    run: Run,
    name: str,
    fresh: Callable[[], Any],
    train_step: Callable,
    settings: Any,
    total_steps: int,
    origin: dict[str, Any],
    data: tuple | None = None,
) -> loop.Progress:
    """Runs a training to its end, from its newest checkpoint if there is one.

    Args:
      run: the seed.
      name: of the stage; its checkpoints lie in a folder of that name.
      fresh: gives the state at step 0.
      train_step: as in `loop.make_chunk`.
      settings: `batch_size` and `chunk_size`.
      total_steps: a multiple of the chunk size.
      origin: all that it is made from, as `stages.made_from` gives it.
      data: arrays [N, ...]; None: the training images and labels.

    Raises:
      workdir.WorkdirMismatch: it was begun from something else.
      FloatingPointError: a metric is not finite; names the step and the last good checkpoint.
      checkpoint.CorruptCheckpoint: the saved state is not what was written.
      ValueError: it is the state of another version of the program, or a batch that the devices cannot share evenly.
    """
    folder = run.path / "checkpoints" / name
    workdir.claim(run.path, name, origin, folder)
    progress = checkpoint.restore(folder)
    state = fresh()
    if progress is None:
        progress = loop.Progress(state, 0, {})
    else:
        leaves = checkpoint.fit(progress["state"], jax.tree.leaves(state), folder)
        saved = jax.tree.unflatten(jax.tree.structure(state), [jnp.asarray(leaf) for leaf in leaves])
        progress = loop.Progress(saved, int(progress["step"]), dict(progress["history"]))
    if progress.step >= total_steps:
        return progress
    if settings.batch_size % devices.size(run.mesh):
        raise ValueError(
            f"batch_size of {name} is {settings.batch_size}; {run.mesh.size} devices need a multiple of their number"
        )
    update = run.start(name, total_steps, "steps")
    saved_at = time.monotonic()

    def save(progress: loop.Progress) -> None:
        leaves = jax.tree.leaves(progress.state)
        checkpoint.save(folder, progress.step, {"state": leaves, "step": progress.step, "history": progress.history})

    def after_chunk(progress: loop.Progress) -> None:
        nonlocal saved_at
        update(progress.step, **{name: values[-settings.chunk_size :].mean() for name, values in progress.history.items()})
        if progress.step >= total_steps or devices.on_primary(lambda: time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES):
            save(progress)
            saved_at = time.monotonic()

    bounded = data is None
    data = tuple(run.dataset.train) if data is None else data
    try:
        done = loop.run(
            loop.make_chunk(train_step, data, run.mesh, bounded),
            progress,
            stream_key(run.seed, name, "steps"),
            run.seed,
            len(data[0]),
            settings.batch_size,
            total_steps,
            settings.chunk_size,
            after_chunk,
        )
    except FloatingPointError as error:
        last = checkpoint.latest_step(folder)
        where = f"the last good checkpoint is {folder / str(last)}" if last is not None else "nothing was saved before"
        raise FloatingPointError(f"training of {name}: {error}; {where}; try a smaller learning rate") from None
    return done._replace(state=devices.local(done.state))


def trainer(run: Run, stage: str, settings: Any, origin: dict[str, Any]) -> Train:
    """A `Train` that can be watched, stopped and continued.

    Args:
      run: the seed.
      stage: name of what learns; its trainings are stages whose names begin with it.
      settings: `epochs`, `batch_size`, `chunk_size`, `learning_rate`, and where they are not 0 `weight_decay` and `warmup`.
      origin: all that what learns is made from, as `stages.made_from` gives it: what it trains on is computed from that.
    """

    def minimised(key: Array, name: str, params: Any, loss: Callable[..., Any], data: tuple) -> Any:
        # Steps draw from the stage's own key, as those of every training do: it is not kept in a checkpoint.
        del key
        steps = loop.num_steps(settings.epochs, len(data[0]), settings.batch_size, settings.chunk_size)
        more = {name: settings.get(name, 0.0) for name in ("weight_decay", "warmup")}
        transform = target.optimizer(settings.learning_rate, steps, **more)
        step, fresh = minimise.make_train_step(loss, transform), lambda: minimise.init_state(params, transform)
        return train(run, f"{stage}_{name}", fresh, step, settings, steps, origin, data).state.params

    return minimised


def build_target(config: Any, dataset: Dataset) -> Classifier:
    """The target network of a config for the shapes of a data set, and for its training images' statistics if it says so.

    Raises:
      ValueError: a mistake in it, or statistics of images that training moves.
    """
    made = build(
        "models", config.name, image_shape=dataset.image_shape, num_classes=dataset.num_classes, **config.get("model", {})
    )
    if (least := config.get("standardize")) is None:
        return made
    if config.max_shift:
        raise ValueError(f"standardize takes the statistics of images that stay, but max_shift is {config.max_shift}; choose 0")
    return standardized(made, dataset.train.images, least)


def train_target(run: Run) -> tuple[Classifier, Variables, dict[str, np.ndarray]]:
    """The trained target, its variables and its history."""
    settings = run.config.target
    classifier = build_target(settings, run.dataset)
    steps = loop.num_steps(settings.epochs, len(run.dataset.train.images), settings.batch_size, settings.chunk_size)
    transform = target.optimizer(settings.learning_rate, steps, settings.weight_decay)
    progress = train(
        run,
        "target",
        lambda: target.init_state(stream_key(run.seed, "target", "init"), classifier, transform),
        target.make_train_step(classifier, transform, settings.max_shift),
        settings,
        steps,
        made_from(run, (), {}),
    )
    return classifier, progress.state.params, progress.history


def build_mutation(config: Any, operator: str, rate: float) -> Mutation:
    """The operator with this abbreviation; `config.mutation` may hold further arguments by its full name."""
    if operator not in mutation.OPERATORS:
        raise ValueError(f"unknown operator {operator!r}; choose from {', '.join(mutation.OPERATORS)}")
    unknown = [name for name in config.mutation if name not in mutation.OPERATORS.values()]
    if unknown:
        raise ValueError(f"config.mutation has {unknown[0]!r}; choose from {', '.join(mutation.OPERATORS.values())}")
    name = mutation.OPERATORS[operator]
    return build("mutation", name, rate=rate, **config.mutation.get(name, {}))


def build_generative_attack(
    config: Any, method: str, apply_fn: Callable, operators: tuple[str, ...] = (), **changes: Any
) -> GenerativeAttack:
    """AdvGAN or MGAN as `config.attacks[method]` describes it.

    Args:
      config: the whole configuration.
      method: "advgan" or "mgan".
      apply_fn: the target.
      operators: MGAN's, abbreviated; each is drawn under both protocols.
      **changes: arguments that replace the config's.
    """
    arguments = {**config.attacks[method].arguments, **changes}
    if method == "mgan":
        pairs = [(operator, protocol) for protocol in config.protocols.values() for operator in operators]
        arguments["mutations"] = [build_mutation(config, operator, protocol.rate) for operator, protocol in pairs]
        arguments["min_accuracy_ratios"] = [protocol.min_accuracy_ratio for _, protocol in pairs]
    generator = build("models", "generator", epsilon=config.epsilon, **config.generator)
    return build("attacks", method, apply_fn=apply_fn, generator=generator,
                 discriminator=build("models", "discriminator", **config.discriminator), **arguments)  # fmt: skip


def train_generator(
    run: Run, name: str, attack: GenerativeAttack, variables: Variables, settings: Any, origin: dict[str, Any]
) -> tuple[Any, dict[str, np.ndarray]]:
    """The trained state of a generative attack, and its history.

    Args:
      run: the seed.
      name: of the stage.
      attack: what is trained.
      variables: the target's.
      settings: `epochs`, `batch_size`, `chunk_size`, `learning_rate`.
      origin: as in `train`.
    """
    steps = loop.num_steps(settings.epochs, len(run.dataset.train.images), settings.batch_size, settings.chunk_size)
    transform = gan.optimizer(settings.learning_rate, steps)
    progress = train(
        run,
        name,
        lambda: gan.init_state(stream_key(run.seed, "generators", "init"), attack, run.dataset.image_shape, transform),
        gan.make_train_step(attack, variables, transform),
        settings,
        steps,
        origin,
    )
    return progress.state.params, progress.history
