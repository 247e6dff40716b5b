"""Ways a run can end that starting it again would only repeat. The message says what to change."""


class RunError(Exception):
    """One sentence: what happened, where, and the remedy."""


class NonFiniteLossError(RunError):
    """The loss of some step is NaN or infinite."""


class TooManyFailuresError(RunError):
    """More samples could not be decoded in training than data.max_bad_share allows."""


class UndecodableSamplesError(RunError):
    """Samples to be scored cannot be decoded, which would make the task easier than it is."""
