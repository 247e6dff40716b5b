"""A search without training, with trials that failed and were stopped, as its report sees it."""

from __future__ import annotations

import math
from pathlib import Path

from mac_ray.ablation.findings import Chosen, find, importances
from mac_ray.ablation.outcome import outcome_in
from mac_ray.ablation.report.search_page import SearchReport
from mac_ray.ablation.sweep import Search
from tests.ablation.made import CONTEXT, finished_run
from tests.ablation.trials import Driver, write_run

REASON = "step 7 has a loss that is not finite; lower <optimizer.learning_rate>"


def made_search(folder: Path, search: Search) -> SearchReport:
    """The rate decides, the best one is 1e-3; the fifth trial fails, and the tenth is stopped if that is asked for."""
    driver = Driver(folder, search, question="Which <recipe>?", name="made-search")
    while (proposal := driver.proposals.next()) is not None:
        (run,) = proposal.runs
        score = 50 - 20 * abs(math.log10(run.point.config.optimizer.learning_rate) + 3)
        if proposal.number == 4:
            write_run(run, "FAILED", reason=REASON)
        elif proposal.number == 9 and search.prune:
            write_run(run, "RUNNING", [(25, 1.0)])
            driver.proposals.judge()
            write_run(run, "KILLED")
        else:
            flops = 1e12 * (1 + round(max(score, 0) / 2))  # better is dearer
            write_run(run, "FINISHED", [(25, score / 2), (100, score)], flops=flops)
        driver.proposals.ended(proposal.number)
    findings = find(driver.study, search)
    chosen = []
    for finding in findings:
        if finding.chosen:
            tested = folder / f"tested-{finding.number}"
            finished_run(tested, 0, 0.6)
            outcome = outcome_in(tested, finding.label, 0, tested.name)
            chosen.append(Chosen(finding, [outcome]))
    compared = [outcome for one in chosen for outcome in one.outcomes]
    return SearchReport(driver.sweep, findings, chosen, compared, importances(driver.study, search), CONTEXT)
