"""What goes on from one stage to the next: the state of objectives, and the moments of the optimiser.

By name, for a stage with other objectives has other modules: a head that both stages have goes on with its
weights and moments, whatever else changes around it.
"""

from torch import nn
from torch.optim import AdamW

from mac_ray.config import Config, Objectives, Optimizer, Stage
from mac_ray.model.dual import DualEncoder
from mac_ray.objectives.weighted import StageObjectives, build_objectives
from mac_ray.training.optim import build_optimizer

Trained = tuple[StageObjectives, AdamW]


def next_stage(
    config: Config, stage: Stage, before: Trained | None, model: DualEncoder, mask_token: int
) -> Trained:
    """The objectives and the optimiser of a stage; `before` are those of the stage before."""
    objectives = _next_objectives(config.stage_objectives(stage), before, model, mask_token, config.seed)
    kept = None if stage.fresh_optimizer else before
    return objectives, _next_optimizer(config.stage_optimizer(stage), kept, model, objectives)


def _next_objectives(
    section: Objectives, before: Trained | None, model: DualEncoder, mask_token: int, seed: int
) -> StageObjectives:
    """Those of the stage before where nothing changes, else new ones with what state they share."""
    if before is not None and before[0].section == section:
        return before[0]
    objectives = build_objectives(section, model, mask_token, seed).to(model.video_model.cls_token.device)
    if before is not None:
        own = objectives.state_dict()
        shared = {
            name: value
            for name, value in before[0].state_dict().items()
            if name in own and own[name].shape == value.shape
        }
        objectives.load_state_dict(own | shared)
    return objectives


def _next_optimizer(
    section: Optimizer, before: Trained | None, model: DualEncoder, objectives: StageObjectives
) -> AdamW:
    """A stage's own groups and settings, with the moments of the stage before; None starts fresh."""
    optimizer = build_optimizer(section, model, objectives)
    if before is not None:
        earlier = _named(model, before[0])
        trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in _named(model, objectives).items():
            moments = before[1].state.get(earlier[name]) if name in earlier else None
            if moments and parameter in trained and earlier[name].shape == parameter.shape:
                optimizer.state[parameter] = moments
    return optimizer


def _named(model: DualEncoder, objectives: StageObjectives) -> dict[str, nn.Parameter]:
    towers = dict(model.named_parameters(prefix="model"))
    return towers | dict(objectives.named_parameters(prefix="objectives"))
