"""Ways a run or a command can end that were foreseen. Messages say what to change before it is started again."""

from collections.abc import Sequence

LONGEST_REASON = 500  # characters
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130  # of every command


def in_one_line(error: BaseException) -> str:
    """What an error that nobody foresaw says of itself, with its kind."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}"[:LONGEST_REASON] if said else type(error).__name__


def told(error: Exception) -> str:
    """What an error says of itself: a sentence of ours as it is, what the system says with its kind."""
    return in_one_line(error) if isinstance(error, OSError) else str(error)


class RunError(Exception):
    """One sentence: what happened, where, and the remedy."""


class RecipeError(RunError):
    """Of what is trained, and not of the machine, of its data or of who was there: it fails wherever it is tried."""


class StorageError(OSError):
    """Storage has given nothing for minutes; starting again may do."""


class NonFiniteLossError(RecipeError):
    """The loss of some step is NaN or infinite."""


class GpuMemoryError(RecipeError):
    """What a step needs does not fit in the memory of a GPU."""


class NoRoomToTimeError(RunError):
    """Steps of two recipes, which are timed in turns, do not fit in the memory of a GPU together."""


class TooManyFailuresError(RunError):
    """More samples could not be decoded in training than data.max_bad_share allows."""


class UndecodableSamplesError(RunError):
    """Samples to be scored cannot be decoded, which would make the task easier than it is."""

    def __init__(self, sentence: str, failures: Sequence[str] = ()) -> None:
        """`failures`: a sentence for each that this rank met."""
        super().__init__(sentence)
        self.failures = failures
