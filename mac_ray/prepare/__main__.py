"""Turn annotation files and media, or shards, into a checked manifest, and a manifest into shards.

    python -m mac_ray.prepare manifest folder DIR --out mine.parquet
    python -m mac_ray.prepare manifest flickr8k --annotations DIR --images DIR --out flickr8k.parquet
    python -m mac_ray.prepare manifest msrvtt --annotations DIR --videos DIR --variant 9k --out msrvtt.parquet
    python -m mac_ray.prepare check msrvtt.parquet --json report.json --html report.html
    python -m mac_ray.prepare index webvid_tars --out webvid.parquet
    python -m mac_ray.prepare convert msrvtt.parquet --out shards --frames 8 --short-side 256

`manifest` only looks whether the files are there, and writes in any case: annotations may arrive before the
media. `check` reports whether the set is ready: it hashes every sample and decodes its first, middle and last
frame, on Ray or, --without-ray, in processes of this machine. Killed, it goes on where it was; afterwards it looks
only at what has changed. It stores the durations in the manifest. `index` takes the tars of img2dataset and
video2dataset as they are; `convert` writes such tars (module convert).

Exit code 0: ready; 1: something is missing, empty, changed, does not decode, is not as many as expected, or is in
two splits, or Ray did not start, or storage gave nothing for minutes; 2: the input cannot be used; 130: stopped from
the keyboard.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from mac_ray.data.manifest import ManifestError
from mac_ray.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, RunError, StorageError
from mac_ray.prepare import check, convert, index, manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # how many samples a reader leaves out is logged by the reader
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m mac_ray.prepare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (manifest, check, convert, index):
        command.add_parser(commands)
    options = vars(parser.parse_args(arguments))
    del options["command"]
    run = options.pop("run")
    try:
        code: int = run(**options)
    except StorageError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except (ManifestError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    except RunError as error:
        print(f"{error}; the same command goes on, or starts again", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("stopped; the same command goes on, or starts again", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
