"""How long something takes, as people say it."""


def in_words(seconds: float) -> str:
    """Of what matters at that length: 0.8 s, 42 s, 3 min 05 s, 14 h 20 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.2g} s"
