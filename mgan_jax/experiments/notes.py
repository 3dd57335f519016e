"""What has to be said of a run as a whole, in sentences."""

from mgan_jax.experiments import crafting
from mgan_jax.experiments.stages import Run
from mgan_jax.training import loop


def notes(run: Run) -> list[str]:
    """What has to be said of the trainings of MGAN that are there: one that ends within its warm-up has adapted nothing."""
    settings = run.config.get("attacks", {}).get("mgan", {})
    warmup = settings.get("arguments", {}).get("warmup_steps", 0)
    names = [crafting.stage_name("mgan", trained_on) for trained_on in settings.get("trained_on", ("all",))]
    names += [crafting.undetected_name(weight) for weight in run.config.get("undetected", {}).get("weights", ())]
    found = [name for name in names if warmup and (run.path / "checkpoints" / name).is_dir()]
    if not found:
        return []
    steps = loop.num_steps(settings.epochs, len(run.dataset.train.labels), settings.batch_size, settings.chunk_size)
    said = (
        f"trained for {steps} steps, no more than warmup_steps, {warmup}: nothing was adapted, and L_mutate never had its weight"
    )
    return [f"{name}: {said}." for name in found] if steps <= warmup else []
