"""The command `search`: what it prints and writes, and one sentence for what it cannot use."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mac_ray import search
from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.data.clips import ClipReader
from mac_ray.data.loader import EvaluationClips
from mac_ray.data.sets import open_set
from mac_ray.encoder import load_encoder
from mac_ray.gallery.media import Media, Unreadable, media_below
from mac_ray.tracking import progress
from mac_ray.tracking.journal import Journal
from mac_ray.tracking.sender import replay
from tests.test_encoder import saved_run

Json = dict[str, Any]


@pytest.fixture
def run(tiny: Config, tmp_path: Path) -> Path:
    """The folder of a run with weights as at its start."""
    return saved_run(tiny, tmp_path / "run")[0].path


@pytest.fixture
def videos(tiny: Config, shared_cache: Path, tmp_path: Path) -> Path:
    """Links to the moving shapes of the tiny set's test split, as someone's folder."""
    made = open_set("shapes", tiny.data.sets["shapes"], shared_cache, lambda *_: None).split("test")
    folder = tmp_path / "videos"
    folder.mkdir()
    for sample in made:
        place = Path(sample.source.place)
        (folder / place.name).symlink_to(place)
    return folder


@pytest.fixture
def ask(run: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Json]:
    """Search with --json; its output, after a look at the exit code."""

    def asked(*arguments: str) -> Json:
        assert search.main([*standard(run, videos, tmp_path), "--json", *arguments]) == 0
        printed: Json = json.loads(capsys.readouterr().out)
        return printed

    return asked


def standard(run: Path, videos: Path, tmp_path: Path) -> list[str]:
    return ["--run", str(run), "--videos", str(videos), "--cache", str(tmp_path / "cache"), "--device", "cpu"]


def test_ranking_is_that_of_scoring_the_same_clips_by_hand(
    ask: Callable[..., Json], run: Path, tiny: Config, shared_cache: Path
) -> None:
    query = "a red circle moves left"
    found = ask(query, "--top", "100")

    made = open_set("shapes", tiny.data.sets["shapes"], shared_cache, lambda *_: None).split("test")
    reader = ClipReader(made, tiny.data, "pyav", None)
    clips = EvaluationClips(reader, tiny.data, tiny.evaluation.frames, range(len(made)), len(made))[0].clips
    encoder = load_encoder(run)
    with torch.no_grad():
        video = encoder.model.encode_video(clips).numpy()
    scores = video @ encoder.embed_texts([query]).numpy()[0]
    order = np.argsort(-scores)
    assert [entry["path"] for entry in found["results"]] == [
        Path(made[int(row)].source.place).name for row in order
    ]
    assert [entry["score"] for entry in found["results"]] == pytest.approx(scores[order], abs=1e-5)
    assert [entry["rank"] for entry in found["results"]] == list(range(1, len(made) + 1))
    assert (found["files"], found["windows"]) == (len(made), len(made))
    assert found["query"] == {"text": query, "like": None}


def test_file_like_itself_comes_first_and_a_picture_may_ask_too(
    ask: Callable[..., Json], videos: Path, tmp_path: Path
) -> None:
    for path in sorted(videos.iterdir())[:3]:
        found = ask("--like", str(path), "--top", "1")
        assert found["results"][0]["path"] == path.name
        assert found["results"][0]["score"] == pytest.approx(1.0, abs=1e-5)
        assert found["query"] == {"text": None, "like": str(path)}
    picture = tmp_path / "asked.jpg"
    Image.new("RGB", (50, 30), (200, 30, 30)).save(picture)
    assert len(ask("--like", str(picture))["results"]) == len(list(videos.iterdir()))


def test_names_that_begin_with_a_tilde_are_names(
    run: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next(videos.iterdir()).rename(videos / "~clip.mp4")
    monkeypatch.chdir(videos)
    given = ["--run", str(run), "--videos", ".", "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert search.main([*given, "--like", "~clip.mp4"]) == 0


def test_windows_of_a_file_are_all_shown_when_asked_for(ask: Callable[..., Json], videos: Path) -> None:
    short = ("--window", "0.2", "--hop", "0.1", "--top", "1000")
    best = ask("a circle", *short)
    every = ask("a circle", *short, "--all-windows")
    files = len(list(videos.iterdir()))
    assert len(best["results"]) == files < len(every["results"]) == every["windows"]
    first: Json = {}
    for entry in every["results"]:
        first.setdefault(entry["path"], entry["start"])
    assert {entry["path"]: entry["start"] for entry in best["results"]} == first
    lengths = [entry["end"] - entry["start"] for entry in every["results"]]
    assert lengths == pytest.approx([0.2] * len(lengths), abs=0.011)


def test_bad_files_are_listed_and_the_others_found(ask: Callable[..., Json], videos: Path) -> None:
    (videos / "deep").mkdir()
    (videos / "deep" / "bad.mp4").write_bytes(b"no video")
    (videos / "gone.mp4").symlink_to(videos / "nowhere.mp4")
    found = ask("a circle", "--top", "100")
    assert [entry["path"] for entry in found["unreadable"]] == ["deep/bad.mp4", "gone.mp4"]
    (videos / "deep" / "bad.mp4").unlink()  # what is remembered of it is no longer what there is to say
    (videos / "deep" / "bad.mp4").symlink_to(videos / "nowhere.mp4")
    found = ask("a circle", "--top", "100")
    assert [entry["path"] for entry in found["unreadable"]] == ["deep/bad.mp4", "gone.mp4"]
    assert all(entry["reason"] for entry in found["unreadable"])
    assert len(found["results"]) == found["files"] == len(list(videos.iterdir())) - 2


def test_table_has_path_time_and_score_and_the_page_its_pictures(
    run: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "[red] bad.mp4").write_bytes(b"")
    page = tmp_path / "found.html"
    arguments = [*standard(run, videos, tmp_path), "a [red] circle", "--top", "3"]
    assert search.main([*arguments, "--html", str(page)]) == 0
    printed = capsys.readouterr()
    lines = [line for line in printed.out.splitlines() if ".mp4" in line]
    assert len(lines) == 3
    assert all("00:00–00:01" in line for line in lines)
    assert "[red] bad.mp4: the file is empty" in printed.err
    assert str(page) in printed.err
    content = page.read_text()
    assert content.count("data:image/jpeg;base64,") == 3
    assert "a [red] circle" in content

    assert search.main(arguments) == 0
    (default,) = (tmp_path / "cache").rglob("*.html")
    assert default.read_text() == content
    assert str(default) in capsys.readouterr().err.replace("\n", "")


def test_two_searches_at_once_agree_and_leave_a_sound_index(
    run: Path, videos: Path, tmp_path: Path, ask: Callable[..., Json]
) -> None:
    command = [sys.executable, "-m", "mac_ray.search", *standard(run, videos, tmp_path), "--json", "a circle"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    first, second = (json.loads(out) for out, _ in told)
    assert first == second == ask("a circle")
    assert first["files"] == first["windows"] == len(list(videos.iterdir()))


def test_what_another_search_embedded_meanwhile_is_not_forgotten(
    run: Path, videos: Path, tmp_path: Path, ask: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between this one's look at the folder, which grows, and its turn to write."""
    ask("a circle")
    listed = []

    def late(folder: Path) -> tuple[list[Media], list[Unreadable]]:
        found = media_below(folder)
        listed.append(len(found[0]))
        if len(listed) == 1:
            Image.new("RGB", (50, 30), (200, 30, 30)).save(videos / "new.jpg")
            command = [*standard(run, videos, tmp_path), "a circle"]
            subprocess.run(
                [sys.executable, "-m", "mac_ray.search", *command], check=True, capture_output=True
            )
        return found

    monkeypatch.setattr(search, "media_below", late)
    assert ask("a circle")["files"] == listed[0] + 1
    assert listed == [listed[0], listed[0] + 1]
    ask("a circle")
    assert listed[2:] == [listed[0] + 1]  # nothing was written, so it is not listed again


def test_checkpoint_and_run_share_an_index(run: Path, videos: Path, tmp_path: Path) -> None:
    (checkpoint,) = (run / "checkpoints").iterdir()
    for source in (run, checkpoint):
        assert search.main([*standard(source, videos, tmp_path), "--json", "a circle"]) == 0
    assert len(list((tmp_path / "cache").rglob("windows.sqlite"))) == 1


def test_id_of_a_run_in_mlflow_is_as_good_as_its_folder(
    run: Path, videos: Path, tmp_path: Path, ask: Callable[..., Json], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = ask("a circle")
    with Journal.open_or_create(run, name="tiny", experiment="mac_ray", identity="1d" * 32) as journal:
        journal.status("RUNNING")
        journal.status("FINISHED")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    replay(run, uri)
    run_id = progress.load(run)[uri].run_id
    arguments = ["--run", run_id, *standard(run, videos, tmp_path)[2:], "--json", "a circle"]
    assert search.main([*arguments, "--tracking-uri", uri]) == 0
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "neither a text nor --like FILE is given"),
        (["a dog", "--like", "{here}/run/config.yaml"], "both a text and --like are given"),
        (["  "], "the text to search for is empty"),
        (["--like", "{here}/nowhere.mp4"], "cannot decode {here}/nowhere.mp4: no such file"),
        (["--like", "{here}/bad.mp4"], "cannot decode {here}/bad.mp4: pyav: "),
        (["--like", "{here}/run/config.yaml"], "config.yaml is neither a video nor an image by its ending"),
        (["a dog", "--videos", "{here}/nowhere"], "there is no folder {here}/nowhere"),
        (["a dog", "--videos", "{here}/run"], "there is no video or image to read below {here}/run"),
        (["a dog", "--videos", "{here}/rotten"], "none of the 1 videos and images below {here}/rotten"),
        (["a dog", "--run", "{here}/nowhere"], "nowhere is neither a folder nor the id of a run in MLflow"),
        (["a dog", "--run", "{here}/fresh"], "{here}/fresh is no encoder"),
        (["a dog", "--run", "0123456789abcdef" * 2], "there is no MLflow database"),
        (["\u043a\u043e\u0448\u043a\u0430"], "the model knows no word of"),
        (["a dog " * 40], "the text has more than the 64 tokens that the model reads"),
        (["caf\udce9"], "is not in the encoding of this terminal"),
        (["a dog", "--window", "0"], "--window is 0.0; give a number, above 0"),
        (["a dog", "--hop", "20"], "--hop 20 s is longer than window 10 s"),
        (["a dog", "--top", "0"], "--top is 0; give a whole number, at least 1"),
        (["a dog", "--device", "abacus"], "--device abacus cannot be used"),
        (["a dog", "--html", "{here}/nowhere/x.html"], "there is no folder {here}/nowhere; make it first"),
        (["a dog", "--html", "{here}/run"], "the page {here}/run cannot be written"),
        (["a dog", "--cache", "{here}/bad.mp4"], "the index cannot be kept in {here}/bad.mp4"),
    ],
)
def test_unusable_input_is_one_sentence(
    arguments: Sequence[str],
    sentence: str,
    run: Path,
    videos: Path,
    tmp_path: Path,
    tiny: Config,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "rotten").mkdir()
    (tmp_path / "rotten" / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "fresh").mkdir()  # a run that has not saved yet
    (tmp_path / "fresh" / "config.yaml").write_text(config_file.to_yaml(tiny))
    given = [argument.format(here=tmp_path) for argument in arguments]
    assert search.main([*standard(run, videos, tmp_path), "--json", *given]) == 2
    error = capsys.readouterr().err.split("error: ")[1]
    assert sentence.format(here=tmp_path) in error
    assert "\n" not in error.strip()


@pytest.mark.realdata
def test_real_videos_are_searched_and_faulty_ones_listed(
    run: Path, tmp_path: Path, ask: Callable[..., Json]
) -> None:
    media = Path(os.environ["MAC_RAY_REAL_DATA"]) / "media"
    found = ask("a man cooks", "--videos", str(media / "msrvtt-clips"), "--top", "100")
    assert found["files"] == 16
    assert found["windows"] > 32  # of 10 to 30 s
    assert found["unreadable"] == []
    faults = ask("a man cooks", "--videos", str(media / "faults"), "--top", "100")
    assert {entry["path"] for entry in faults["unreadable"]} == {"corrupted.mp4", "empty_0_bytes_result.webm"}
    assert faults["files"] == 21
