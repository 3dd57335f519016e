"""The peers' training steps: target, AdvGAN and MGAN in eager PyTorch, with the losses of `mgan_jax` and the same Adam."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR

from benchmarks import torch_networks
from benchmarks.torch_editing import EDITS, Parameters
from benchmarks.torch_networks import Gates, TorchClassifier, TorchDiscriminator, TorchGenerator
from mgan_jax.types import Variables

Mutant = tuple[Parameters, Gates]
"""Weights, and the gates that differ from the network's."""
Step = Callable[..., Tensor]
"""`step(images [B, C, H, W], labels [B], ...) -> loss`, before the update it makes."""
DECAY = 0.99


def target_step(model: TorchClassifier, learning_rate: float, total_steps: int, weight_decay: float) -> Step:
    """One step of cross-entropy with AdamW, as `training.target`."""
    model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = CosineAnnealingLR(optimizer, total_steps)

    def step(images: Tensor, labels: Tensor) -> Tensor:
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.detach()

    return step


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y - max over i != y of z_i, [B]."""
    own = functional.one_hot(labels, logits.shape[-1]).bool()
    return logits.gather(1, labels[:, None])[:, 0] - logits.masked_fill(own, -torch.inf).amax(1)


def mutant(ours: Variables, rest: Variables, channels: int) -> Mutant:
    """A mutant of ours of the network with the variables `rest`; `channels` as in `torch_networks.weights`."""
    return torch_networks.weights(ours, channels), torch_networks.gates(ours.get("structure", {}), rest.get("structure", {}))


class MutateLoss:
    """L_mutate with one weight an operator, moved by dual ascent, as `attacks.mgan` with the reference "decision".

    Args:
      target: the network, its parameters without gradients.
      operators: abbreviations, which the mutants of a step take in turn.
      rate: of mutation.
      num_mutants: a step.
      beta, target_ratio, beta_rate, max_beta, normal_images, min_accuracy_ratio: as in `attacks.mgan`.
      seed: of the mutants.
    """

    def __init__(
        self, target: TorchClassifier, operators: Sequence[str], rate: float, num_mutants: int, beta: float, target_ratio: float,
        beta_rate: float = 0.05, max_beta: float = 4.0, normal_images: int = 64, min_accuracy_ratio: float = 0.9, seed: int = 0,
    ):  # fmt: skip
        self.target, self.operators, self.rate, self.num_mutants = target, tuple(operators), rate, num_mutants
        self.target_ratio, self.beta_rate, self.max_beta = target_ratio, beta_rate, max_beta
        self.normal_images, self.min_accuracy_ratio = normal_images, min_accuracy_ratio
        self.rng, self.draws = np.random.default_rng(seed), 0
        self.parameters = {name: parameter.detach() for name, parameter in target.named_parameters()}
        device = next(iter(self.parameters.values())).device
        self.betas = torch.full((len(self.operators),), beta, device=device)
        self.flips, self.normal_flips = torch.zeros_like(self.betas), torch.zeros_like(self.betas)

    @torch.no_grad()
    def drawn(self, indices: Sequence[int]) -> list[Mutant]:
        """Mutants by the operators of these indices, made by their weights alone, as public code does."""
        made = []
        for index in indices:
            mutant = {name: parameter.clone() for name, parameter in self.parameters.items()}
            EDITS[self.operators[index]](mutant, self.rng, self.rate)
            made.append((mutant, {}))
        return made

    def __call__(
        self, images: Tensor, labels: Tensor, adversarial: Tensor, logits: Tensor, mutants: Sequence[Mutant] | None = None
    ) -> Tensor:
        """The weighted loss of a step's mutants; `mutants` replaces those it would draw."""
        indices = [(self.draws * self.num_mutants + i) % len(self.operators) for i in range(self.num_mutants)]
        self.draws += 1
        half = max(1, min(self.normal_images, len(images) // 2))
        shown, shown_labels = images[: 2 * half], labels[: 2 * half]
        with torch.no_grad():
            clean = self.target(shown).argmax(1)
            decisions = logits.argmax(1)
            fooled = decisions != labels
            accuracy = (clean == shown_labels)[half:].float().mean()
        values, flips, normal_flips, counts = [], [], [], []
        for mutant, gates in self.drawn(indices) if mutants is None else mutants:
            self.target.gates = gates
            mutant_logits = functional_call(self.target, mutant, (adversarial,))
            values.append(functional.cross_entropy(mutant_logits, decisions))
            with torch.no_grad():
                mutant_labels = functional_call(self.target, mutant, (shown,)).argmax(1)
                counts.append((mutant_labels == shown_labels)[half:].float().mean() >= self.min_accuracy_ratio * accuracy)
                flips.append((fooled & (mutant_logits.argmax(1) != decisions)).sum() / fooled.sum().clamp(min=1))
                normal_flips.append((mutant_labels[:half] != clean[:half]).float().mean())
        self.target.gates = {}
        weights, chosen = torch.stack(counts).float(), torch.tensor(indices, device=images.device)
        loss = (weights * self.betas[chosen] * torch.stack(values)).sum() / weights.sum().clamp(min=1)
        self._adapt(weights * fooled.any(), torch.stack(flips), torch.stack(normal_flips), chosen)
        return loss

    @torch.no_grad()
    def _adapt(self, weights: Tensor, flips: Tensor, normal_flips: Tensor, chosen: Tensor) -> None:
        """Moving averages of both rates, and dual ascent of the betas."""
        one_hot = functional.one_hot(chosen, len(self.operators)).float()
        seen = weights @ one_hot
        for average, new in ((self.flips, flips), (self.normal_flips, normal_flips)):
            moved = DECAY * average + (1 - DECAY) * ((weights * new) @ one_hot) / seen.clamp(min=1)
            average.copy_(torch.where(seen > 0, moved, average))
        excess = (self.flips / self.normal_flips.clamp(min=1e-4) - self.target_ratio).clamp(-1, 1)
        excess = torch.where((self.normal_flips > 0) & (seen > 0), excess, 0.0)
        self.betas = (self.betas + self.beta_rate * excess).clamp(0, self.max_beta)


def gan_step(
    target: TorchClassifier,
    generator: TorchGenerator,
    discriminator: TorchDiscriminator,
    learning_rate: float,
    total_steps: int,
    alpha: float = 0.1,
    mutate_loss: MutateLoss | None = None,
) -> Step:
    """One simultaneous step of both players, as `training.gan` with `attacks.advgan` or, given L_mutate, `attacks.mgan`.

    The generator's loss computes no gradients of the discriminator's or the target's parameters.
    """
    target.eval().requires_grad_(False)
    players = [*generator.parameters(), *discriminator.parameters()]
    optimizer = torch.optim.Adam(players, learning_rate, betas=(0.5, 0.999))
    schedule = CosineAnnealingLR(optimizer, total_steps, eta_min=learning_rate / 100)

    def step(images: Tensor, labels: Tensor, mutants: Sequence[Mutant] | None = None) -> Tensor:
        optimizer.zero_grad()
        discriminator.requires_grad_(False)
        adversarial = (images + generator(images)).clamp(0, 1)
        logits = target(adversarial)
        loss = margin(logits, labels).clamp(min=0).mean() + alpha * (discriminator(adversarial) - 1).square().mean()
        if mutate_loss is not None:
            loss = loss + mutate_loss(images, labels, adversarial, logits, mutants)
        loss.backward()
        discriminator.requires_grad_(True)
        real, fake = discriminator(images), discriminator(adversarial.detach())
        ((real - 1).square().mean() + fake.square().mean()).div(2).backward()
        optimizer.step()
        schedule.step()
        return loss.detach()

    return step
