"""Search a folder of videos and images in words, or by an example, with a trained encoder.

    python -m mac_ray.search --run runs/RUN --videos FOLDER "a dog catches a frisbee"
    python -m mac_ray.search --run MLFLOW_RUN_ID --videos FOLDER --like clip.mp4 --json

The folder is embedded once, in windows of time; later searches embed only what is new or has changed. Results
go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mac_ray import files
from mac_ray.config import ConfigError, Search
from mac_ray.config.sentences import sentences
from mac_ray.console import preparing
from mac_ray.data.decode import DecodeError
from mac_ray.data.kinds import ENDINGS, kind_of
from mac_ray.encoder import Encoder, load_encoder
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, in_one_line
from mac_ray.gallery.index import bring_up_to_date, place_of
from mac_ray.gallery.media import SearchError, Unreadable, media_below, readable
from mac_ray.gallery.page import page, picture_of
from mac_ray.gallery.ranking import Hit, nearest
from mac_ray.gallery.store import Gallery, Vectors, alone, opened, state
from mac_ray.gallery.windows import shown
from mac_ray.terminal import say, say_stopped
from mac_ray.tracking.lookup import RunNotFoundError, folder_given

LISTED = 20  # unreadable files on the screen; the JSON output has them all


@dataclass(frozen=True)
class Query:
    """Words, or a file to find the like of: the other is None."""

    text: str | None
    like: Path | None

    @property
    def title(self) -> str:
        return self.text if self.text is not None else f"like {self.like}"


@dataclass(frozen=True)
class Found:
    query: Query
    folder: Path  # that was searched
    index: Path  # where its index is
    hits: list[Hit]
    gallery: Gallery
    unreadable: list[Unreadable]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one search; returns the exit code."""
    given = _parser().parse_args(arguments)
    errors = Console(stderr=True)
    try:
        section, query = _section(given), _query(given.query, given.like)
        if given.html and not given.html.parent.is_dir():
            raise SearchError(f"--html {given.html}: there is no folder {given.html.parent}; make it first")
        source = folder_given(given.run, given.tracking_uri, Path.cwd())
        encoder = load_encoder(source, _device(given.device))
        found = search(encoder, _file(given.videos), query, section, errors)
        if given.json:
            print(json.dumps(_plain(found), indent=2))
        else:
            _show(found, Console(), errors)
        if written := given.html or (None if given.json else found.index / "results.html"):
            _write_page(written, found)
            say(errors, f"with pictures: {written}")
    except (ConfigError, SearchError, RunNotFoundError, DecodeError) as error:
        say(errors, f"error: {error}", "red")
        return EXIT_BAD_INPUT
    except torch.OutOfMemoryError as error:
        said = f"the GPU's memory is not enough ({in_one_line(error)}); free it, or give --device cpu"
        say(errors, f"error: {said}", "red")
        return EXIT_BAD_INPUT
    except OSError as error:
        return say_stopped(error, errors)
    except KeyboardInterrupt:
        say(errors, "interrupted; what is embedded is kept, and the same command goes on from there", "red")
        return EXIT_INTERRUPTED
    return 0


def search(encoder: Encoder, folder: Path, query: Query, section: Search, console: Console) -> Found:
    """Bring the index of a folder up to date, and rank what is in it.

    Raises SearchError, or DecodeError when the query is a file that does not decode.
    """
    folder = folder.absolute()  # a name in it may begin with ~
    index = place_of(folder, encoder, section)
    before = state(index)
    files, refused = media_below(folder)
    wanted = _embedded(query, encoder)  # before the part that may take hours
    tell = partial(say, console, f"another search is embedding {folder}; waiting for it")
    with opened(index) as store, alone(index, tell) as has_waited, preparing(console) as progress:
        if has_waited or state(index) != before:  # another search knows what has come meanwhile
            files, refused = media_below(folder)
        show = partial(progress, f"embedding {folder}")
        bring_up_to_date(store, folder, files, refused, encoder, section, show)
        gallery = store.gallery()
    # of a file that could not be decoded, and can no longer be read, the last is what there is to mend
    unreadable = sorted(
        {entry.path: entry for entry in (*gallery.unreadable, *refused)}.values(),
        key=lambda entry: entry.path,
    )
    if not gallery.media:
        first = unreadable[0]
        raise SearchError(
            f"none of the {len(unreadable)} videos and images below {folder} can be decoded, for instance "
            f"{first.path} ({first.reason}); `python -m mac_ray.prepare check` examines a set"
        )
    hits = nearest(wanted, gallery, section.top, section.all_windows)
    return Found(query, folder, index, hits, gallery, unreadable)


def _embedded(query: Query, encoder: Encoder) -> Vectors:
    """(E,). A file is taken as a whole. Raises SearchError and DecodeError."""
    if query.like is None:
        return np.asarray(encoder.embed_texts([_readable_text(str(query.text), encoder)]).numpy()[0])
    kind = kind_of(query.like.name)
    if kind is None:
        raise SearchError(
            f"--like {query.like} is neither a video nor an image by its ending; known are {ENDINGS}"
        )
    return np.asarray(encoder.embed_videos([query.like]).numpy()[0])


def _readable_text(text: str, encoder: Encoder) -> str:
    """Raises SearchError for a text that the model's tokeniser makes nothing of: all such would find the same."""
    tokens = encoder.tokenizer([text])
    known = (tokens.words >= 0) & (tokens.ids != encoder.tokenizer.unknown_token)
    if not known.any():
        raise SearchError(f"the model knows no word of {text!r}; say it in the language of its captions")
    if tokens.truncated.any():
        raise SearchError(
            f"the text has more than the {encoder.config.data.max_caption_tokens} tokens that the model reads; "
            "say it in fewer words"
        )
    return text


# ---------------------------------------------------------------- what is shown


def _show(found: Found, results: Console, errors: Console) -> None:
    table = Table(box=box.SIMPLE)
    table.add_column("", justify="right")
    table.add_column("path", overflow="fold")
    table.add_column("when", no_wrap=True)
    table.add_column("score", justify="right")
    for hit in found.hits:
        table.add_row(str(hit.rank), Text(readable(hit.path)), shown(hit.window), f"{hit.score:.3f}")
    results.print(table)
    if found.unreadable:
        say(errors, f"not readable, or not whole: {len(found.unreadable)}", "yellow")
        for entry in found.unreadable[:LISTED]:
            say(errors, f"  {readable(entry.path)}: {entry.reason}")
        if len(found.unreadable) > LISTED:
            say(errors, f"  and {len(found.unreadable) - LISTED} more, which --json lists")


def _plain(found: Found) -> dict[str, Any]:
    """What --json prints; an image has no times."""
    return {
        "query": {"text": found.query.text, "like": str(found.query.like) if found.query.like else None},
        "videos": str(found.folder.absolute()),
        "files": found.gallery.num_files,
        "windows": len(found.gallery.windows),
        "results": [
            {
                "rank": hit.rank,
                "path": hit.path,
                "start": hit.window.start if hit.window.end else None,
                "end": hit.window.end or None,
                "score": hit.score,
            }
            for hit in found.hits
        ],
        "unreadable": [{"path": entry.path, "reason": entry.reason} for entry in found.unreadable],
    }


def _write_page(path: Path, found: Found) -> None:
    like = found.query.like
    picture = picture_of(like, str(kind_of(like.name))) if like else ""
    gallery = found.gallery
    summary = f"the nearest of {len(gallery.windows)} windows of {gallery.num_files} files in {found.folder}"
    content = page(found.query.title, picture, summary, found.folder, found.hits, found.unreadable)
    try:
        files.write(path, content)
    except OSError as error:
        raise SearchError(
            f"the page {path} cannot be written ({error.strerror}); choose another --html"
        ) from error


# ---------------------------------------------------------------- what is given


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # which of them depends on how torch was built
        reason = str(error).splitlines()[0]
        raise SearchError(f"--device {name} cannot be used ({reason}); leave it out or give cpu") from error
    return name


def _query(text: str | None, like: Path | None) -> Query:
    if (text is None) == (like is None):
        both = "both a text and --like are" if like else "neither a text nor --like FILE is"
        raise SearchError(f"{both} given; search by one of them")
    if text is not None and not text.strip():
        raise SearchError("the text to search for is empty; say what should be seen")
    if text is not None and not _is_unicode(text):
        raise SearchError(f"the text {text!r} is not in the encoding of this terminal; type it here")
    return Query(text, like and _file(like))


def _file(path: Path) -> Path:
    """Absolute. Of `~` the shell has made a folder, but not within quotes; a name may begin with it."""
    return (path.expanduser() if path.parts[:1] == ("~",) else path).absolute()


def _is_unicode(text: str) -> bool:
    """What of an argument cannot be decoded, Python keeps as characters that are none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _section(given: argparse.Namespace) -> Search:
    options = {name: getattr(given, name) for name in Search.model_fields}
    try:
        return Search.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise ConfigError("\n".join(f"--{sentence}" for sentence in sentences(error, Search))) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = Search()
    parser.add_argument("query", nargs="?", help="what should be seen, in words")
    parser.add_argument("--like", type=Path, metavar="FILE", help="a video or image, instead of words")
    parser.add_argument(
        "--run",
        required=True,
        help="folder of a run, of a checkpoint or of an export, or a run's id in MLflow",
    )
    parser.add_argument("--videos", type=Path, required=True, metavar="FOLDER", help="what is searched")
    parser.add_argument("--top", type=int, help=f"how many results (default: {defaults.top})")
    parser.add_argument(
        "--all-windows", action="store_true", default=None, help="not only the best window of each file"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="where to write the page (default: in the cache)"
    )
    parser.add_argument("--window", type=float, help=f"seconds of a window (default: {defaults.window:g})")
    parser.add_argument(
        "--hop", type=float, help=f"seconds from one window to the next (default: {defaults.hop:g})"
    )
    parser.add_argument("--cache", help=f"where embeddings are kept (default: {defaults.cache})")
    parser.add_argument("--tracking-uri", help="where MLflow is (default: as for training)")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
