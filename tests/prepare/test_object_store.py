"""Shards in an object store: written, indexed and trained from, on an S3 server of this machine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from mac_ray.config import Config
from mac_ray.data.manifest import Manifest
from mac_ray.data.sets import open_set
from mac_ray.data.source import Source, file_system, local_copy
from mac_ray.prepare.__main__ import main
from mac_ray.prepare.destination import Destination
from mac_ray.prepare.transcode import Options
from tests.jobs import run_here
from tests.prepare.sharded import converted
from tests.runs import TINY, UNTRACKED, USE_OWN, the_run, weights_and_metrics

pytestmark = pytest.mark.s3

OPTIONS = Options(form="jpeg", frames=4, rate=None, short_side=None, quality=90, decoder="pyav")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of a prefix, to be named in place of PREFIX; the credentials are in the environment, as for any S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        options = f"endpoint_override={host}:{port}&scheme=http"
        fs.FileSystem.from_uri(f"s3://bucket?{options}&allow_bucket_creation=true")[0].create_dir("bucket")
        yield f"s3://bucket/PREFIX?{options}"
    server.stop()


@pytest.fixture
def source(tiny: Config, shared_cache: Path) -> Path:
    return open_set("shapes", tiny.data.sets["shapes"], shared_cache, lambda *_: None).path


def objects(url: str) -> dict[str, tuple[int, int]]:
    """Size and time of each."""
    system, path = file_system(url)
    return {
        info.base_name: (info.size, info.mtime_ns)
        for info in system.get_file_info(fs.FileSelector(path))
        if info.type == fs.FileType.File
    }


@pytest.mark.ray
def test_shards_in_a_store_are_those_on_disk_and_train_the_same(
    bucket: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = bucket.replace("PREFIX", "shards")
    convert = ["convert", str(source), "--out", url, "--frames", "4", "--shard-size", "0.1", "--workers", "2"]
    convert += ["--cache", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mac_ray.prepare", *convert]
    environment = os.environ | {"RAY_ADDRESS": "local"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    on_disk = converted(source, tmp_path / "shards", OPTIONS, shard_mb=0.1)
    there = objects(url)
    assert len(there) > 4
    for name in there.keys() - {"manifest.parquet"}:
        place = url.replace("/shards?", f"/shards/{name}?")
        assert Source(place).read() == (tmp_path / "shards" / name).read_bytes(), name

    assert main(convert) == 0
    assert objects(url) == there

    manifest = url.replace("/shards?", "/shards/manifest.parquet?")
    opened = Manifest.open(local_copy(manifest, tmp_path))
    assert opened.fingerprint == on_disk.fingerprint
    assert main(["check", manifest, "--without-ray", "--results", str(tmp_path / "found.jsonl")]) == 0
    assert main(["index", url, "--out", str(tmp_path / "again.parquet"), "--workers", "1"]) == 0
    again = Manifest.open(tmp_path / "again.parquet")
    assert again.fingerprint == on_disk.fingerprint
    assert again[3].source.read() == opened[3].source.read() == on_disk[3].source.read()

    trained = []
    ways = [
        (str(on_disk.path), "cluster.loader_workers=0"),
        (manifest, "cluster.loader_workers=1"),
        (manifest, "cluster.cache_budget_gb=1"),
    ]
    for place, way in ways:
        folder = tmp_path / f"{len(trained)}"
        folder.mkdir()
        own = ["data.sets.own.kind=manifest", f"data.sets.own.path={place}", *USE_OWN, way]
        own += [f"storage.cache={folder / 'cache'}", "evaluation.every_epochs=10", UNTRACKED]
        assert run_here([*TINY, *own], folder, monkeypatch) == 0
        trained.append(weights_and_metrics(the_run(folder / "runs")))
    assert all(other == trained[0] for other in trained)


def test_store_that_cannot_be_reached_is_a_sentence(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    url = "s3://bucket/shards?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    assert main(["convert", str(source), "--out", url, "--cache", str(tmp_path)]) == 2
    assert "bucket" in capsys.readouterr().err


def test_upload_that_is_cut_short_leaves_no_object(bucket: str, tmp_path: Path) -> None:
    """Closed on the way out, it would be completed with what came so far, and taken for whole by the next start."""
    url = bucket.replace("PREFIX", "cut")
    with pytest.raises(OSError, match="Input/output"), Destination(url).writing("shard.tar") as path:
        path.symlink_to("/proc/self/mem")  # opens, and cannot be read
    with Destination(url).writing("whole.tar") as path:
        path.write_bytes(b"all of it")
    assert objects(url).keys() == {"whole.tar"}
