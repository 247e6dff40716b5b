"""Names of the tags by which the runs of a sweep are found in MLflow."""

from mac_ray.config import Config

ROW_TAG, SEED_TAG = "mac_ray.row", "mac_ray.seed"
STRATEGY_TAG = "mac_ray.strategy"


def strategy_of(config: Config) -> str:
    """How the first stage masks clips."""
    return config.stage_masking(config.stages[0]).video.strategy
