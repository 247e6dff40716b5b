"""Every knob of an experiment, typed, with its default. Imports no torch, ray or mlflow.

`Config()` is the embedded default: MAC on the moving-shapes set, on a laptop CPU, in minutes. YAML files
and dotted overrides say only what differs. The sections under "what is trained" identify a run; those
under "where it runs" do not, so that a run moved to other machines is still the same run.

Maskings, objectives and the optimiser are given once at the top. A stage names its differences, which are
merged over the top-level section: `masking.video.ratio=0.75` reaches every stage that masks.
"""

from mac_ray.config.cluster import Cluster, Storage, Tracking
from mac_ray.config.data import Data, DataSet, ManifestSet, MovingShapes
from mac_ray.config.experiment import Config, require_stages
from mac_ray.config.masking import Masking, TextMasking, VideoMasking
from mac_ray.config.model import Model, TextTower, Tower, VideoTower
from mac_ray.config.objectives import (
    Contrastive,
    Language,
    MaskedLanguage,
    Matching,
    Objectives,
    Reconstruction,
    Sigmoid,
)
from mac_ray.config.search import Search
from mac_ray.config.section import ConfigError, Schedule, is_gradual, pieces, value_at
from mac_ray.config.training import ClipSampling, Evaluation, MaskedViews, Optimizer, Stage, TowerRates

__all__ = [
    "ClipSampling",
    "Cluster",
    "Config",
    "ConfigError",
    "Contrastive",
    "Data",
    "DataSet",
    "Evaluation",
    "Language",
    "ManifestSet",
    "MaskedLanguage",
    "MaskedViews",
    "Masking",
    "Matching",
    "Model",
    "MovingShapes",
    "Objectives",
    "Optimizer",
    "Reconstruction",
    "Schedule",
    "Search",
    "Sigmoid",
    "Stage",
    "Storage",
    "TextMasking",
    "TextTower",
    "Tower",
    "TowerRates",
    "Tracking",
    "VideoMasking",
    "VideoTower",
    "is_gradual",
    "pieces",
    "require_stages",
    "value_at",
]
