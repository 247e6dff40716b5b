"""The file of a sweep as a script: mistakes in it are sentences, also those that Python meets before `main`."""

import ast
import sys
import traceback
from pathlib import Path
from types import TracebackType

from mac_ray.config import ConfigError
from mac_ray.errors import EXIT_BAD_INPUT


def script() -> Path | None:
    """The file that Python was started with; None in an interactive session, and where another program was."""
    given = getattr(sys.modules["__main__"], "__file__", None) or ""
    return Path(given) if given.endswith(".py") else None


def say_mistakes() -> None:
    """A ConfigError that nobody catches, as of a Sweep that is refused where it stands, ends Python with a sentence."""
    otherwise = sys.excepthook

    def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, ConfigError):
            otherwise(kind, error, trace)
            return
        own = [frame for frame in traceback.extract_tb(trace) if Path(frame.filename) == script()]
        place = f"{Path(own[-1].filename).name}, line {own[-1].lineno}: " if own else ""
        print(f"error: {place}{error}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT)

    sys.excepthook = say


def require_names_once(path: Path) -> None:
    """That no dict names a thing twice, of which Python keeps the last without a word. Raises ConfigError."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Dict):
            continue
        seen = set()
        for key in node.keys:
            if not isinstance(key, ast.Constant):
                continue
            if key.value in seen:
                raise ConfigError(
                    f"{path.name}, line {key.lineno}: {key.value!r} is named twice; give each its own name"
                )
            seen.add(key.value)
