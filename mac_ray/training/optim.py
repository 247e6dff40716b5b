"""AdamW over parameter groups by tower, and learning rates as functions of the step."""

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from mac_ray.config import Optimizer
from mac_ray.model.dual import tower_of

UNDECAYED = (
    "cls_token",
    "pos_embed",
    "temporal_embed",
    "mask_token",
    "log_scale",
    "position_embeddings.weight",  # DistilBERT's; word embeddings do decay
)


def learning_rate(section: Optimizer, step: int, num_steps: int) -> float:
    """The rate of step `step` of a stage of `num_steps`: warm-up, then the schedule."""
    warmup = round(section.warmup * num_steps)
    if step < warmup:
        return section.learning_rate * (step + 1) / warmup
    return section.learning_rate * SCHEDULES[section.schedule](section, step, warmup, num_steps)


def constant(_section: Optimizer, _step: int, _warmup: int, _num_steps: int) -> float:
    return 1.0


def step_decay(section: Optimizer, step: int, _warmup: int, num_steps: int) -> float:
    """A factor at each milestone, given as shares of the stage (MCQ's recipe, which MAC's rates come from)."""
    return section.decay ** sum(step / num_steps >= milestone for milestone in section.milestones)


def cosine(section: Optimizer, step: int, warmup: int, num_steps: int) -> float:
    """Half a turn from the end of the warm-up to the end of the stage."""
    half_turn = (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup))) / 2
    return section.final + (1 - section.final) * half_turn


SCHEDULES = {"constant": constant, "step": step_decay, "cosine": cosine}


def build_optimizer(section: Optimizer, model: nn.Module, objectives: nn.Module) -> AdamW:
    """Groups by tower and by whether they decay; `tower` says whose rate a group takes."""
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    named = [(tower_of(name), name, parameter) for name, parameter in model.named_parameters()]
    named += [("heads", name, parameter) for name, parameter in objectives.named_parameters()]
    for tower, name, parameter in named:
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith(UNDECAYED)
            groups.setdefault((tower, decays), []).append(parameter)
    return AdamW(
        [
            {"params": parameters, "tower": tower, "weight_decay": section.weight_decay if decays else 0.0}
            for (tower, decays), parameters in groups.items()
        ],
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.eps,
        fused=True,
    )


def set_learning_rate(optimizer: AdamW, section: Optimizer, rate: float) -> None:
    factors = section.tower_rates.model_dump()
    for group in optimizer.param_groups:
        group["lr"] = rate * factors[group["tower"]]


def clip_gradients(optimizer: AdamW, section: Optimizer) -> Tensor:
    """Scale the gradients down to the norm that is allowed; the norm that they had, of all of them together.

    Without a limit they stay, and the norm is still found: one that is not finite stops a run before its weights are
    saved. What has no rate does not learn, so its gradients neither count nor reach the moments.
    """
    factors = section.tower_rates.model_dump()
    parameters: list[nn.Parameter] = []
    for group in optimizer.param_groups:
        if factors[group["tower"]]:
            parameters += group["params"]
        else:
            for parameter in group["params"]:
                parameter.grad = None
    if not parameters:
        return torch.zeros((), device=optimizer.param_groups[0]["params"][0].device)
    return nn.utils.clip_grad_norm_(parameters, math.inf if section.clip_norm is None else section.clip_norm)
