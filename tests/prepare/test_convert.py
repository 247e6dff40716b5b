"""The command `prepare convert` on Ray: killed, finished, and run once more."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mac_ray.data.manifest import Manifest, Row
from mac_ray.data.manifest_writer import write
from mac_ray.prepare.__main__ import main
from mac_ray.prepare.transcode import Options
from tests.data.conftest import write_media
from tests.jobs import finish, kill, start, wait_for
from tests.prepare.sharded import converted

COPIES = 30  # of each sample: enough to be killed in the middle of
SHARD_MB = 0.05


def command(manifest: Path, out: Path, *more: str) -> list[str]:
    prepare = [sys.executable, "-m", "mac_ray.prepare", "convert", str(manifest), "--out", str(out)]
    prepare += ["--cache", str(manifest.parent / "cache")]
    return [*prepare, "--frames", "4", "--shard-size", str(SHARD_MB), "--workers", "1", *more]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    media = write_media(folder)
    rows = [
        Row(f"{number} {row.id}", row.path, row.kind, row.split, row.captions)
        for number in range(COPIES)
        for row in media
    ]
    write(folder / "set.parquet", rows, "mixed", folder)
    return folder / "set.parquet"


def files(folder: Path) -> dict[str, bytes]:
    """All but the manifest, which says in which folder it is."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.parquet"}


@pytest.mark.ray
def test_convert_killed_ends_as_if_untouched_and_then_does_nothing(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    monkeypatch.setenv("RAY_ADDRESS", "local")
    job = start(command(manifest, out), tmp_path)
    wait_for(lambda: len(list(out.glob("train-*.parquet"))) >= 3, job, every_s=0.005)
    kill(job)
    assert not (out / "manifest.parquet").exists()
    (out / "manifest.parquet").write_bytes(b"of shards that are made anew")

    code, said = finish(start(command(manifest, out), tmp_path))
    assert code == 0, said

    options = Options(form="jpeg", frames=4, rate=None, short_side=None, quality=90, decoder="pyav")
    untouched = converted(manifest, tmp_path / "untouched", options, SHARD_MB)
    assert files(out) == files(tmp_path / "untouched")
    assert Manifest.open(out / "manifest.parquet").fingerprint == untouched.fingerprint
    assert len(untouched) == COPIES * 9

    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert main(command(manifest, out)[3:]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.ray
def test_convert_names_what_does_not_decode_and_exits_with_one(
    manifest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    (manifest.parent / "video1.mp4").write_text("no video")
    out = tmp_path / "shards"
    done = subprocess.run(command(manifest, out), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"undecodable, left out: {COPIES}" in done.stdout
    assert "0 video1.mp4 of train-00000 (video1.mp4): pyav: " in done.stdout
    assert len(Manifest.open(out / "manifest.parquet")) == COPIES * 8
    # what is told is known from the shards, not only by who made them
    assert main(command(manifest, out)[3:]) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--frames", "2", "--rate", "3"], "not allowed with"),
        (["--quality", "101"], "101 is above 100"),
        (["--rate", "0"], "0 is no number above 0"),
        (["--short-side", "0"], "no positive number"),
        (["--clips", "--quality", "80"], "--quality 80 is of JPEG"),
    ],
)
def test_convert_refuses_options_that_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    arguments = ["convert", str(tmp_path / "set.parquet"), "--out", str(tmp_path / "shards"), *options]
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()


def test_convert_to_where_nobody_can_write_is_a_sentence(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(command(manifest, tmp_path / "file" / "shards")[3:]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    shutil.rmtree(manifest.parent)
    assert main(command(manifest, tmp_path / "shards")[3:]) == 2
    assert "there is no manifest" in capsys.readouterr().err
