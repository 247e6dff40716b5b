"""The one error of all decoders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import av

from mac_ray.data.source import Source


class DecodeError(Exception):
    """A sample that gives no frames, in one sentence: where it is, the backend and its reason."""

    def __init__(self, source: Source, reason: str) -> None:
        super().__init__(source, reason)  # both, so that it survives pickling between processes
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode {self.source}: {self.reason}"


class UnreadableError(DecodeError):
    """The bytes could not be had, which says nothing about them: a folder may not be mounted, a server not answer."""


class AwayError(UnreadableError):
    """Storage does not answer, which may heal by itself."""


class DecoderDiedError(DecodeError):
    """The decoder hung or crashed, so that its process is no more. Trying the sample again would cost another."""

    killed = False  # from outside: it may have been for another's need of memory
    late = False  # not done in time
    waited = False  # for storage, when its time was over: it is that which hangs


@contextmanager
def refusing(source: Source, backend: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn a backend's errors into DecodeError. Only library calls go inside: no bug of ours is taken in."""
    try:
        yield
    except errors as error:
        text = error.strerror if isinstance(error, av.error.FFmpegError | OSError) else str(error)
        lines = (text or str(error)).strip().splitlines() or [type(error).__name__]
        # decord puts the time and the place in its source before its reason
        reason = re.sub(r"\[\d\d:\d\d:\d\d\] \S+: ", "", lines[0])
        raise DecodeError(source, f"{backend}: {reason}") from error
