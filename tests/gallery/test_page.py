"""The page: pictures that show the window, and words that cannot break it."""

import base64
import io
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
from PIL import Image

from mac_ray.data.decode import frames
from mac_ray.data.source import Source
from mac_ray.gallery.media import Unreadable
from mac_ray.gallery.page import page, picture_of
from mac_ray.gallery.ranking import Hit
from mac_ray.gallery.windows import Window
from tests.data.conftest import write_video


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and its words outside of the style sheet."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open != "style":
            self.words += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def picture(uri: str | None) -> Image.Image:
    assert uri is not None
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_page_shows_the_middle_of_each_window_and_links_to_it(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 30, 32, 48)
    hits = [
        Hit(1, "clip.mp4", "video", Window(1.0, 2.0), 0.75),
        Hit(2, "clip.mp4", "video", Window(0.0, 1.0), -0.5),
    ]
    parsed = Parsed(page("a dog", "", "2 of 2", tmp_path, hits, []))
    shown = [picture(attributes["src"]) for attributes in parsed.every("img")]
    expected = frames(Source.of(tmp_path / "clip.mp4"), "video", lambda _: [15, 5], "pyav")
    for found, pixels in zip(shown, expected, strict=True):
        assert found.size == (48, 32)
        assert np.abs(np.asarray(found).astype(int) - pixels).mean() < 25  # noise in JPEG, else about 80
    assert [attributes["href"] for attributes in parsed.every("a")] == [
        f"file://{tmp_path}/clip.mp4#t=1,2",
        f"file://{tmp_path}/clip.mp4#t=0,1",
    ]
    assert all(text in parsed.words for text in ("a dog", "2 of 2", "00:01–00:02", "0.750", "-0.500"))


def test_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 3, 32, 48)
    content = page("a", "", "b", tmp_path, [Hit(1, "clip.mp4", "video", Window(0, 0.3), 0.1)], [])
    parsed = Parsed(content)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in parsed.tags}
    assert "http" not in content
    assert "url(" not in content


def test_words_and_names_are_text_whatever_is_in_them(tmp_path: Path) -> None:
    awkward = "<b>&\"'#?%41 .mp4"
    write_video(tmp_path / awkward, 3, 32, 48)
    query = '<script>alert("x")</script> & co'
    hits = [Hit(1, awkward, "video", Window(0.0, 0.3), 0.5)]
    parsed = Parsed(page(query, "", "", tmp_path, hits, [Unreadable("<i>.mp4", "<u>bad</u>")]))
    assert not {"script", "b", "i", "u"} & {tag for tag, _ in parsed.tags}
    assert parsed.words.count(query) == 2  # title and heading
    assert awkward in parsed.words
    assert "<i>.mp4: <u>bad</u>" in parsed.words
    (link,) = parsed.every("a")
    assert unquote_to_bytes(urlsplit(link["href"]).path) == os.fsencode(tmp_path / awkward)


def test_file_that_is_gone_or_no_text_in_name_still_has_its_card(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    content = page("a", "", "b", tmp_path, [Hit(1, name, "video", Window(0.0, 1.0), 0.5)], [])
    parsed = Parsed(content)
    content.encode("utf-8")
    assert parsed.every("img") == []
    assert "no such file" in parsed.words
    assert "caf?.mp4" in parsed.words


def test_query_by_file_has_its_picture_on_the_page(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (250, 0, 0)).save(tmp_path / "red.png")
    uri = picture_of(tmp_path / "red.png", "image")
    (shown,) = Parsed(page("like red.png", uri, "", tmp_path, [], [])).every("img")
    colour = np.asarray(picture(shown["src"]))[5, 5].astype(int)
    assert np.abs(colour - [250, 0, 0]).max() <= 8
