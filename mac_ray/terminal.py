"""Sentences for a person, wherever a command has some. Imports nothing that a bare GPU machine lacks."""

from rich.console import Console

from mac_ray.errors import EXIT_FAILED, EXIT_INTERRUPTED, in_one_line


def say(console: Console, sentence: str, style: str = "") -> None:
    """A sentence as it is: brackets are no markup, and a path is not broken over lines."""
    console.print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)


def say_stopped(
    error: OSError | KeyboardInterrupt, console: Console, then: str = "the same command goes on"
) -> int:
    """Of a command that nothing else speaks for, such as the status of a run; the exit code. `then`: what to do."""
    if isinstance(error, KeyboardInterrupt):
        say(console, f"interrupted; {then}", "red")
        return EXIT_INTERRUPTED
    # such as of a full disk
    say(console, f"error: {in_one_line(error)}; mend that, and {then}", "red")
    return EXIT_FAILED
