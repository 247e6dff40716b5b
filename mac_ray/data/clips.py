"""Clips of a manifest's samples: frames drawn from their pools, wherever these come from.

Whether a pool is decoded now or was decoded once into the frame cache changes nothing but the time it takes. So a
file that the cache could not take, because it is broken or cut short, is decoded whenever it is drawn: what is
mended later is found mended, and what is not is counted each time.

F frames of H × W pixels are drawn from a pool of T.
"""

from pathlib import Path

import numpy as np

from mac_ray.config import Data
from mac_ray.data.decode import DecodeError, DecoderDiedError
from mac_ray.data.frame_cache import FrameCache
from mac_ray.data.manifest import Manifest, Sample
from mac_ray.data.pool import Choose, Told, read_pool
from mac_ray.data.quarantine import Quarantine
from mac_ray.data.sizes import Pixels


class ClipReader:
    """Pool frames of a manifest's samples, from the cache where there is one, else decoded.

    With `timeout_s` a video that takes longer to decode, or crashes the decoder, is undecodable, and is put into
    the quarantine, if there is one.
    """

    def __init__(
        self,
        manifest: Manifest,
        section: Data,
        decoder: str,
        cache: Path | None,
        timeout_s: float | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.manifest = manifest
        self.section = section
        self.decoder = decoder
        self.cache = cache
        self._frames = FrameCache(cache) if cache else None
        self._timeout_s = timeout_s
        self._quarantine = quarantine

    def read(self, sample: Sample, choose: Choose, shortened: Told | None = None) -> Pixels:
        """Frames (F, H, W, 3) at the non-decreasing positions that `choose` picks, given the pool's size T.

        `shortened` is told, with its path, what a file promises and does not give. Raises DecodeError.
        """
        pool = self._frames[sample.index] if self._frames else None
        if pool is None:
            return self._decoded(sample, choose, shortened)
        chosen: Pixels = pool[np.asarray(choose(len(pool)))]
        return chosen

    def _decoded(self, sample: Sample, choose: Choose, shortened: Told | None) -> Pixels:
        if self._quarantine is None:
            return read_pool(sample, self.section, self.decoder, choose, self._timeout_s, shortened)
        if reason := self._quarantine.reason(sample):
            raise DecodeError(sample.source, reason)
        try:
            return read_pool(sample, self.section, self.decoder, choose, self._timeout_s, shortened)
        except DecoderDiedError as error:
            self._quarantine.add(sample, error.reason)
            raise
