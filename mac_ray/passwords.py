"""Keeping what may be a password in a URL out of what others see: pages, tables, MLflow, terminals."""

import re
from typing import Any

# a URL with a user, a password or a query, which may hold either: user:p@ss@host/database?password=…
SECRET = re.compile(
    r"(?P<scheme>\w[\w+.-]*://)(?P<user>[^\s'\"]*@)?(?P<place>[^\s'\"?]*)(?P<query>\?[^\s'\"]*)?"
)


def without_passwords(text: str) -> str:
    """A text, such as a command, with users, passwords and queries of the URLs in it left out."""
    return SECRET.sub(
        lambda found: f"{found['scheme']}{'***@' if found['user'] else ''}{found['place']}", text
    )


def without_passwords_in(value: Any) -> Any:
    """Plain values, such as of a config, with every text as `without_passwords` leaves it."""
    match value:
        case str():
            return without_passwords(value)
        case dict():
            return {key: without_passwords_in(item) for key, item in value.items()}
        case list() | tuple():
            return [without_passwords_in(item) for item in value]
    return value


def has_passwords(text: str) -> bool:
    """Whether a text, such as a file, has what may be one in the URLs in it."""
    return without_passwords(text) != text
