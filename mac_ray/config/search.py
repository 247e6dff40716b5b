"""How a folder of videos is searched. No part of a run's config: any trained encoder searches any folder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from mac_ray.config.cluster import Storage
from mac_ray.config.section import Positive, Section

Seconds = Annotated[float, Field(gt=0)]


class Search(Section):
    # what is embedded: other values make another index
    window: Seconds = 10.0  # long enough for one event, as in the clips of MSR-VTT, which last 10 to 30 s
    hop: Seconds = 5.0  # from one window's start to the next: half, so that no event is cut in every window
    # what is shown
    top: Positive = 10
    all_windows: bool = False  # else of each file only its best window
    cache: str = Storage.model_fields["cache"].default  # where runs keep their caches too

    @model_validator(mode="after")
    def _windows_leave_no_gap(self) -> Search:
        if self.hop > self.window:
            raise ValueError(
                f"hop {self.hop:g} s is longer than window {self.window:g} s, so what happens between two windows "
                "would never be found; lower hop or raise window"
            )
        return self
