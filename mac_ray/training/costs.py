"""What a run has cost so far, over all ranks, so that runs can be compared at equal samples, FLOPs or time."""

from dataclasses import asdict, dataclass

from mac_ray.config import Model, Stage
from mac_ray.model.flops import TRAINING_FACTOR, head_flops, video_flops


@dataclass
class Costs:
    """Part of the checkpoint."""

    samples: int = 0
    visible_tokens: int = 0
    flops: int = 0  # forward and backward, products of attention included
    failures: int = 0  # draws that could not be decoded and were replaced
    shortened: int = 0  # draws of samples that have less than they promise

    def charge_step(
        self,
        model: Model,
        stage: Stage,
        seen: tuple[int, int],
        text_flops: int,
        extra_flops: int,
        failures: int,
        shortened: int,
    ) -> None:
        """One step: frames `seen` and patches in each; of the global batch, a forward pass of the text tower, all
        that objectives and the choice of masks cost beside that, failures, and samples cut short.

        A step cut into pieces encodes everything once more, and that is a cost too.
        """
        frames, visible = seen
        forward = (
            stage.batch_size * (video_flops(model.video, frames, visible, visible) + head_flops(model)).total
        )
        passes = TRAINING_FACTOR + (stage.accumulate > 1)
        self.samples += stage.batch_size
        self.visible_tokens += stage.batch_size * frames * visible
        self.flops += passes * (forward + text_flops) + extra_flops
        self.failures += failures
        self.shortened += shortened

    def logged(self, seconds: float) -> dict[str, float]:
        """By the names they are tracked under, beside the time that training took."""
        return {f"cost/{name}": float(value) for name, value in asdict(self).items()} | {
            "cost/seconds": seconds
        }
