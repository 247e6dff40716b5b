"""Quantities as people say them: how long something takes, and how much there is of what comes in thousands."""


def in_words(seconds: float) -> str:
    """Of what matters at that length: 0.8 s, 42 s, 3 min 05 s, 14 h 20 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.2g} s"


def in_short(value: float) -> str:
    """Three digits: 12.3k."""
    for letter in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if abs(value) < 999.5:
            return f"{value:.3g}{letter}"
        value /= 1000
    return f"{value:.3g}Y"
