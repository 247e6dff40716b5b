"""Metrics of a run that trains on a live cluster, and the dashboard's queries against what it exports."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode

import pytest
import ray
import torch
import yaml
from prometheus_client.parser import text_string_to_metric_families
from ray.dashboard.modules.reporter.reporter_agent import GPU_TAG_KEYS, METRICS_GAUGES
from rich.console import Console

from mac_ray.ablation.board import Board
from mac_ray.ablation.locate import PlannedRun
from mac_ray.ablation.plan import Point, Row
from mac_ray.ablation.sweep import Sweep
from mac_ray.config import Config
from mac_ray.config import file as config_file
from mac_ray.ray_metrics import DESCRIPTIONS, _Run, exported_run, exported_trials
from mac_ray.ray_train import fit
from mac_ray.tracking.journal import FILE_NAME, Journal, read
from mac_ray.training.start import prepare
from tests.ablation.made import ended_run
from tests.jobs import free_port, wait_for
from tests.runs import TINY, UNTRACKED

DASHBOARD = Path(__file__).parents[1] / "dashboards" / "grafana" / "mac_ray.json"
SWEEP, RUN = "masking-ratio", "video.ratio=0.6 · seed 1"
RUN_LABEL = "video.ratio=0.6 \\xb7 seed 1"  # Ray takes ASCII only
TRIALS = {"PENDING": 1, "RUNNING": 1, "FINISHED": 1, "FAILED": 1, "KILLED": 1}
NEEDS_GPU = re.compile(r"ray_node_(gpu|gram)|ray_mac_ray_gpu")
LEARNING_RATE = re.compile(r"^ray_mac_ray_learning_rate\{.*\} (\S+)", re.MULTILINE)
METRIC = re.compile(r"\bray_\w+")
MATCHED_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
PROMETHEUS = shutil.which("prometheus")
WITHIN_S = 60
Sample = tuple[dict[str, str], float]  # labels, value


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def panels() -> list[dict[str, Any]]:
    found = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    assert len(found) > 10
    return found


def queries() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    assert found
    return found


def variables() -> dict[str, str]:
    """The queries that fill what is chosen from at the top, by name."""
    listed = json.loads(DASHBOARD.read_text())["templating"]["list"]
    return {item["name"]: item["query"]["query"] for item in listed if item["type"] == "query"}


@dataclass
class Live:
    """What was seen of a run while it was trained."""

    journal: Path
    began: float
    ended: float
    samples: dict[str, list[Sample]]  # by metric, of all scrapes
    endpoint: str  # of the node, still there
    grafana: Path  # what Ray has made for it
    dashboards: Path
    prometheus: str  # its address; empty where it is not installed


@contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[str]:
    """The address of a Prometheus that scrapes `target` every second; empty where it is not installed."""
    if PROMETHEUS is None:
        yield ""
        return
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    options = {
        "config.file": config,
        "storage.tsdb.path": folder / "prometheus",
        "web.listen-address": address,
    }
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [PROMETHEUS, *(f"--{name}={value}" for name, value in options.items())], stdout=log, stderr=log
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def board_of_trials(folder: Path) -> Board:
    """Of a sweep whose runs are in the states of TRIALS."""
    runs = [PlannedRun(Point(Row(state, {}), 0, Config()), state, folder / state) for state in TRIALS]
    sweep = Sweep(name=SWEEP, question="?", base="base.yaml", variants={"a": {}})
    board = Board(runs, dict.fromkeys(TRIALS, 1e15), sweep, Console(quiet=True))
    board.states()  # before they are begun: what was broken off before a sweep is to come in it
    for state in ("RUNNING", "FINISHED", "FAILED", "KILLED"):
        ended_run(folder / state, state, "made")
    return board


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Iterator[Live]:
    """A run of two workers and the trials of a sweep, on a cluster that is scraped every second."""
    folder = tmp_path_factory.mktemp("live")
    dashboards = folder / "dashboards"
    dashboards.mkdir()
    shutil.copy(DASHBOARD, dashboards)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        # ray.init sets it here, where jobs that are started later would take it over
        stack.callback(os.environ.pop, "RAY_AUTH_MODE", None)
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        patch.setenv("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR", str(dashboards))
        ports = {"dashboard_port": free_port(), "_metrics_export_port": free_port()}
        context = ray.init(num_cpus=2, include_dashboard=True, log_to_driver=False, **ports)
        stack.callback(ray.shutdown)
        target = f"{ray.util.get_node_ip_address()}:{ports['_metrics_export_port']}"
        prometheus = stack.enter_context(running_prometheus(folder, target))
        storage = [f"storage.runs={folder / 'runs'}", f"storage.cache={shared_cache}"]
        longer = ["stages.0.epochs=300", "cluster.workers=2", UNTRACKED]
        run = prepare(config_file.load(None, [*TINY, *storage, *longer]), folder, folder, lambda *_: None)
        place = {"name": RUN, "experiment": "test", "identity": run.identity}
        with Journal.open_or_create(run.folder.path, **place) as journal:
            journal.status("RUNNING")
            journal.tags({"mac_ray.sweep": SWEEP})
        texts: list[str] = []
        over = threading.Event()

        def scrape() -> None:
            rates: set[str] = set()
            while not over.wait(1):
                try:
                    texts.append(fetched(f"http://{target}/metrics"))
                except OSError:  # one that is refused is none
                    continue
                rates.update(LEARNING_RATE.findall(texts[-1]))
                if len(rates) > 4:  # enough was seen, however fast it trains
                    run.folder.stop_request.touch()

        scraper = threading.Thread(target=scrape)
        scraper.start()
        began = time.time()
        try:
            with exported_trials(SWEEP, board_of_trials(folder / "trials").states):
                fit(run, Console(quiet=True))
        finally:
            over.set()
            scraper.join()
        yield Live(
            journal=journal.path,
            began=began,
            ended=time.time(),
            samples=samples_of(texts),
            endpoint=f"http://{target}/metrics",
            grafana=Path(context.address_info["session_dir"]) / "metrics" / "grafana",
            dashboards=dashboards,
            prometheus=prometheus,
        )


def samples_of(texts: list[str]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.mark.ray
def test_ray_metrics_of_a_live_run_are_those_of_its_journal(live: Live) -> None:
    in_journal: dict[str, set[float]] = {"step": set(), "speed": set()}
    before: tuple[float, float] | None = None
    for record in read(live.journal):
        if record["kind"] == "metrics":
            if "cost/seconds" in record["values"]:
                spent = (record["values"]["cost/seconds"], record["values"]["cost/flops"])
                if before:
                    in_journal["speed"].add((spent[1] - before[1]) / (spent[0] - before[0]))
                before = spent
            for name, value in record["values"].items():
                in_journal.setdefault(name, set()).add(float(value))
            in_journal["step"].add(record["step"])
    for exported, name in {
        "ray_mac_ray_loss": "train/loss",
        "ray_mac_ray_learning_rate": "train/learning_rate",
        "ray_mac_ray_samples_per_second": "train/samples_per_second",
        "ray_mac_ray_data_wait_share": "train/data_wait",
        "ray_mac_ray_epoch": "train/epoch",
        "ray_mac_ray_samples": "cost/samples",
        "ray_mac_ray_flops_per_second": "speed",
        "ray_mac_ray_step": "step",
    }.items():
        values = {value for _, value in live.samples[exported]}
        # the text has fewer digits than the journal
        assert all(any(value == pytest.approx(known) for known in in_journal[name]) for value in values)
        assert len(values) > 1, exported
        assert {(labels["run"], labels["sweep"]) for labels, _ in live.samples[exported]} == {
            (RUN_LABEL, SWEEP)
        }
    recalls = live.samples["ray_mac_ray_recall"]
    asked = {(labels["scored"], labels["direction"], labels["k"]) for labels, _ in recalls}
    assert asked >= {("val", direction, k) for direction in ("t2v", "v2t") for k in ("1", "5", "10")}
    at_ten = [value for labels, value in recalls if labels["k"] == "10" and labels["scored"] == "val"]
    assert set(at_ten) == {100.0}  # of a gallery of 8
    assert all(10e6 < value < 100e9 for _, value in live.samples["ray_mac_ray_memory_bytes"])


@pytest.mark.ray
def test_ray_metrics_of_trials_count_each_state_and_end_with_the_sweep(live: Live) -> None:
    counted = {
        (labels["sweep"], labels["state"], value) for labels, value in live.samples["ray_mac_ray_trials"]
    }
    assert counted == {(SWEEP, state, number) for state, number in TRIALS.items()}
    wait_for(lambda: "ray_mac_ray_trials{" not in fetched(live.endpoint), every_s=1, within_s=WITHIN_S)


@pytest.mark.ray
def test_dashboard_queries_ask_for_metrics_and_labels_that_a_live_run_exports(live: Live) -> None:
    shown = set()
    for query in [*queries(), *variables().values()]:
        metrics = set(METRIC.findall(query))
        assert metrics, query
        shown |= metrics
        asked = set(MATCHED_LABEL.findall(query))
        asked |= {label.strip() for group in GROUPING.findall(query) for label in group.split(",")}
        for metric in metrics:
            if metric in live.samples:
                for labels, _ in live.samples[metric]:
                    assert asked <= labels.keys(), f"{query}: {metric} has {sorted(labels)}"
            else:
                assert NEEDS_GPU.match(metric), f"{query}: nothing exports {metric}"
                own = metric.removeprefix("ray_")
                labels = {"run", "sweep"} if own in DESCRIPTIONS else {*GPU_TAG_KEYS}
                assert own in DESCRIPTIONS or own in METRICS_GAUGES
                assert asked <= labels, f"{query}: {metric} has {sorted(labels)}"
    assert {f"ray_{name}" for name in DESCRIPTIONS} <= shown


@pytest.mark.ray
@pytest.mark.skipif(PROMETHEUS is None, reason="needs Prometheus: apt-get install prometheus")
def test_dashboard_queries_in_prometheus_return_series_of_a_live_run(live: Live) -> None:
    asked = 0
    for query in queries():
        if not torch.cuda.is_available() and NEEDS_GPU.search(query):
            continue
        chosen = {"$sweep": ".*", "$run": ".*", "$k": "1"}
        for name, value in chosen.items():
            query = query.replace(name, value)
        assert "$" not in query
        answer = asked_of(live, "query_range", query=query, start=live.began, end=live.ended, step=1)
        assert answer["result"], query
        asked += 1
    assert asked > 10
    for name, query in variables().items():
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found
        selector, label = found.groups()
        values = asked_of(
            live,
            f"label/{label}/values",
            **{"match[]": selector.replace("$sweep", SWEEP), "start": live.began},
        )
        assert values == [{"sweep": SWEEP, "run": RUN_LABEL}[name]]


def asked_of(live: Live, path: str, **arguments: Any) -> Any:
    """The data of Prometheus' answer."""
    try:
        answer = json.loads(fetched(f"{live.prometheus}/api/v1/{path}?{urlencode(arguments)}"))
    except URLError as error:
        raise AssertionError(f"{path} {arguments}: {error}") from error
    assert answer["status"] == "success"
    return answer["data"]


@pytest.mark.ray
def test_dashboard_in_the_folder_given_to_ray_is_provisioned_beside_its_own(live: Live) -> None:
    provider = yaml.safe_load((live.grafana / "provisioning" / "dashboards" / "default.yml").read_text())
    (path,) = (entry["options"]["path"] for entry in provider["providers"])
    assert Path(path) == live.dashboards
    dashboards = {json.loads(file.read_text())["uid"] for file in live.dashboards.glob("*.json")}
    assert {"mac-ray", "rayTrainDashboard"} <= dashboards


def test_dashboard_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    listed = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in listed}) == len(listed)
    taken: set[tuple[int, int]] = set()
    for panel in listed:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24  # Grafana's columns
        assert not taken & cells
        taken |= cells


def test_speed_is_that_of_an_attempt_and_not_across_a_restart(tmp_path: Path) -> None:
    """Which goes on from a checkpoint, behind what had been logged, and does not log those steps again."""
    run = _Run(tmp_path / FILE_NAME, torch.device("cpu"))

    def speeds() -> list[float]:
        return [value for name, value, _ in run.readings() if name == "mac_ray_flops_per_second"]

    with Journal.open_or_create(tmp_path, name="r", experiment="e", identity="i") as journal:
        journal.status("RUNNING")
        journal.metrics(10, {"cost/seconds": 10.0, "cost/flops": 100.0})
        assert speeds() == []
        journal.metrics(20, {"cost/seconds": 30.0, "cost/flops": 200.0})
        assert speeds() == [5.0]
        journal.status("RUNNING")
        journal.metrics(30, {"cost/seconds": 30.1, "cost/flops": 300.0})
        assert speeds() == []
        journal.metrics(40, {"cost/seconds": 50.1, "cost/flops": 400.0})
        assert speeds() == [5.0]


def test_ray_metrics_that_fail_leave_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: failures.append(arguments.exc_value))
    steps = []
    with exported_run(tmp_path, torch.device("cpu")):  # where there is no journal
        steps.append(1)
    assert steps == [1]
    assert [type(failure) for failure in failures] == [FileNotFoundError]
