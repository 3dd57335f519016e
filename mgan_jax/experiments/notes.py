"""What has to be said of a run as a whole, in sentences."""

from mgan_jax.experiments import crafting
from mgan_jax.experiments.stages import Run
from mgan_jax.training import loop


def notes(run: Run) -> list[str]:
    """That the images tested are no test images, and of the trainings of MGAN that one within its warm-up has adapted nothing."""
    tested = run.config.get("testing", {}).get("split", "test")
    told = (
        [f"The images tested are half of the {tested} images, to choose by; no test image was seen."] if tested != "test" else []
    )
    settings = run.config.get("attacks", {}).get("mgan", {})
    warmup = settings.get("arguments", {}).get("warmup_steps", 0)
    names = [crafting.stage_name("mgan", trained_on) for trained_on in settings.get("trained_on", ("all",))]
    names += [crafting.undetected_name(weight) for weight in run.config.get("undetected", {}).get("weights", ())]
    found = [name for name in names if warmup and (run.path / "checkpoints" / name).is_dir()]
    if not found:
        return told
    steps = loop.num_steps(settings.epochs, len(run.dataset.train.labels), settings.batch_size, settings.chunk_size)
    said = (
        f"trained for {steps} steps, no more than warmup_steps, {warmup}: nothing was adapted, and L_mutate never had its weight"
    )
    return told + ([f"{name}: {said}." for name in found] if steps <= warmup else [])
