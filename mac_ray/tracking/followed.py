"""A journal that grows while it is read."""

from pathlib import Path

from mac_ray.tracking.journal import Summary, read_from


class Followed:
    """A journal of which only what is new is read: a sweep may have a thousand of them."""

    def __init__(self, path: Path, metric: str | None = None) -> None:
        """All values of one metric are kept, if it is named; of the others the summary has the last."""
        self.path, self.metric = path, metric
        self.summary = Summary()
        self.values: dict[int, float] = {}  # of the metric, by step
        self.read = 0  # bytes

    def read_on(self) -> None:
        if self.summary.status == "FINISHED" or not self.path.exists():
            return
        for record, end in read_from(self.path, self.read):
            self.summary.add(record)
            if record["kind"] == "metrics" and self.metric in record["values"]:
                self.values[record["step"]] = float(record["values"][self.metric])
            self.read = end
