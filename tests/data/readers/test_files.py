"""Annotation files are read in bounded memory, and what no annotation can be is one sentence."""

from pathlib import Path

import pytest

from mac_ray.data.manifest import ManifestError
from mac_ray.data.readers import files
from tests.data.readers.memory import MEGABYTE, measured

IMPORTS = "from mac_ray.data.readers import files"
READ = {
    "table": "sum(1 for _ in files.table(path, ('path', 'caption')))",
    "objects": "sum(1 for _ in files.objects(path, 'an object per line'))",
    "parsed": "len(files.parsed(path, 'a JSON document'))",
    "lines": "len(files.lines(path, 'names'))",
}


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    """A file of zero bytes after its head, which takes no room on most disks."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("function", "head", "reason"),
    [
        ("table", b"", "line 1: a row may have 1,048,576 characters"),
        ("table", b"path,caption\na.mp4,", "line 2: a row may have 1,048,576 characters"),
        ("objects", b'{"path": "a.mp4"}\n', "line 2: a row may have 1,048,576 characters"),
        ("parsed", b"[", "has 2,147,483,648 bytes, and a file of its kind may have 536,870,912"),
        ("lines", b"a.mp4\n", "has 2,147,483,648 bytes, and a file of its kind may have 536,870,912"),
    ],
)
def test_line_of_two_gigabytes_is_one_sentence_in_bounded_memory(
    tmp_path: Path, function: str, head: bytes, reason: str
) -> None:
    path = sparse(tmp_path / "captions", 2048 * MEGABYTE, head)
    rise, outcome = measured(IMPORTS, READ[function], path)
    assert reason in outcome
    assert "\n" not in outcome
    assert rise < 32 * MEGABYTE


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (",".join(f"column{number}" for number in range(1_000_000)), "line 1: a row may have 1,048,576"),
        ("," * 999_999, "has 1,000,000 columns, and a table may have 1,000; it should hold a table with"),
    ],
)
def test_header_of_a_million_columns_is_one_sentence_in_bounded_memory(
    tmp_path: Path, header: str, reason: str
) -> None:
    (tmp_path / "captions.csv").write_text(f"{header}\n")
    rise, outcome = measured(IMPORTS, READ["table"], tmp_path / "captions.csv")
    assert reason in outcome
    assert len(outcome) < 500
    assert rise < 64 * MEGABYTE


def test_long_table_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    caption = "a dog runs over the beach, wet " * 40
    with path.open("w") as file:
        file.write("path,caption\n")
        file.writelines(f'{number}.mp4,"{caption}"\n' for number in range(32_000))
    assert path.stat().st_size > 36 * MEGABYTE
    rise, outcome = measured(IMPORTS, READ["table"], path)
    assert outcome == "32000"
    assert rise < 12 * MEGABYTE


def test_quote_left_open_is_one_sentence_and_swallows_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('path,caption\na.mp4,c\nb.mp4,"never closed\n' + "c.mp4,c\n" * 50)
    with pytest.raises(ManifestError, match=r"line 53: unexpected end of data; look for a quote"):
        list(files.table(path, ("path", "caption")))
    path.write_text('path,caption\n"' + "c.mp4,c\n" * 500_000)
    with pytest.raises(ManifestError, match=r"line \d+: field larger than field limit.*look for a quote"):
        list(files.table(path, ("path", "caption")))
    path.write_text("path,caption\n" + '"a\n",' * 500_000)  # fields of few letters in a row of many lines
    with pytest.raises(ManifestError, match=r"line \d+: a row may have 1,048,576 characters"):
        list(files.table(path, ("path", "caption")))


def test_table_of_quoted_line_ends_commas_and_quotes_reads_as_written(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    for ending in ("\n", "\r\n", "\r"):
        path.write_bytes(
            b'\xef\xbb\xbfcaption, path\n\n"two\n""lines"", one caption", a.mp4\nc\xc3\xa9,b.mp4\n'.replace(
                b"\n", ending.encode()
            )
        )
        assert list(files.table(path, ("path",))) == [
            (4, {"caption": f'two{ending}"lines", one caption', "path": "a.mp4"}),
            (5, {"caption": "cé", "path": "b.mp4"}),
        ]


@pytest.mark.parametrize("function", [files.numbered, files.rows, files.objects, files.parsed, files.lines])
def test_file_that_is_not_utf8_names_the_line(tmp_path: Path, function: object) -> None:
    path = tmp_path / "captions"
    path.write_bytes(b"[1]\n" * 5000 + b'["caf\xe9"]\n' + b"[1]\n" * 5000)
    with pytest.raises(ManifestError, match=r"line 5001 is not UTF-8 text; it should hold captions"):
        list(function(path, "captions"))


@pytest.mark.parametrize("content", ["[" * 200_000, "9" * 5000, '{"a": }', ""])
def test_document_that_is_no_json_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(ManifestError, match=r"captions\.json is not JSON .*it should hold captions"):
        files.parsed(path, "captions")
