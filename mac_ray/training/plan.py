"""The stages of a run laid out in steps, and checked, before anything is started."""

from collections.abc import Mapping
from dataclasses import dataclass

from mac_ray.config import Config, ConfigError, Stage
from mac_ray.data.order import apportioned


@dataclass(frozen=True)
class Leg:
    """A stage with its place in the run: steps first … first + num_steps - 1 of the whole."""

    stage: Stage
    number: int
    first: int
    num_steps: int
    num_samples: int  # of its joint training set
    drawn_per_epoch: Mapping[str, int]  # of each set; as many as it has, unless the stage weighs them

    @property
    def last(self) -> int:
        return self.first + self.num_steps

    def epochs(self, step: int) -> float:
        """Epochs of this stage made after `step` steps of the run."""
        return (step - self.first) * self.stage.batch_size / self.num_samples

    def progress(self, step: int) -> float:
        """Share of this stage's steps made after `step` steps of the run; what schedules are functions of."""
        return (step - self.first) / self.num_steps

    def is_evaluated(self, step: int, every_epochs: float) -> bool:
        """Whether the val split is scored after `step` steps of the run: every so often, and at the end."""
        every = max(1, round(every_epochs * self.num_samples / self.stage.batch_size))
        return step == self.last or (step - self.first) % every == 0


def legs(config: Config, train_sizes: Mapping[str, int]) -> list[Leg]:
    """train_sizes: samples in the train split of each set.

    Raises ConfigError when a batch exceeds its set, is too small to be shared among the workers, or leaves a sample
    without another beside it where an objective needs one, and for a set of so little weight that it would never
    be drawn from.
    """
    most_workers = config.cluster.most_workers
    planned: list[Leg] = []
    for number, stage in enumerate(config.stages):
        num_samples = sum(train_sizes[name] for name in stage.data)
        if stage.batch_size > num_samples:
            raise ConfigError(
                f"stages.{number}.batch_size is {stage.batch_size}, but {' + '.join(stage.data)} has only "
                f"{num_samples} training samples; lower the batch size"
            )
        if stage.batch_size < most_workers * stage.accumulate:
            raise ConfigError(
                f"stages.{number}.batch_size is {stage.batch_size}, too few for {most_workers} workers "
                f"(cluster.workers) of {stage.accumulate} passes each (stages.{number}.accumulate); raise the "
                "first or lower the others"
            )
        matching = config.stage_objectives(stage).matching is not None
        if matching and stage.batch_size < 2 * most_workers * stage.accumulate:
            raise ConfigError(
                f"stages.{number}.objectives.matching looks for wrong captions beside a sample, but a batch_size of "
                f"{stage.batch_size} on {most_workers} workers (cluster.workers) in {stage.accumulate} passes each "
                f"(stages.{number}.accumulate) leaves some alone; raise the first to "
                f"{2 * most_workers * stage.accumulate} or lower the others"
            )
        drawn = {name: train_sizes[name] for name in stage.data}
        if stage.mix is not None:
            weights = [stage.mix[name] for name in stage.data]
            drawn = dict(zip(stage.data, apportioned(num_samples, weights), strict=True))
        for name, count in drawn.items():
            if not count:
                raise ConfigError(
                    f"stages.{number}.mix gives {name!r} not one of the {num_samples} samples of an epoch; "
                    "raise its weight, or take the set out of the stage"
                )
        # 0.57 * 100 is 56.999…; the nudge keeps int() from cutting a whole step off
        num_steps = max(1, int(stage.epochs * num_samples / stage.batch_size + 1e-9))
        first = planned[-1].last if planned else 0
        planned.append(Leg(stage, number, first, num_steps, num_samples, drawn))
    return planned
