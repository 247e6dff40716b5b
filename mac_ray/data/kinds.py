"""What a file is by the ending of its name."""

from pathlib import PurePath

from mac_ray.data.source import base_of

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEOS = (
    *(".3g2", ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
ENDINGS = " ".join(IMAGES + VIDEOS)


def kind_of(path: str) -> str | None:
    """video or image, by the ending; None for anything else."""
    suffix = PurePath(base_of(path)).suffix.lower()
    if suffix in IMAGES:
        return "image"
    return "video" if suffix in VIDEOS else None
