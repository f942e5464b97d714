"""How often the comparison of metrics is wrong, by simulation: changes found between equals, and steps that are missed.

    python tests/bench/bench_metric_calibration.py [--comparisons 2000] [--metrics 20] [--seed 5]

Boots differ by a standard deviation of 1.5 %, values within them by 1 %. `false` is the share of comparisons of equals
in which a change was found; `pooled` what Welch's test finds in the same values as if each were a boot's; `3 %` and
`5 %` the share of steps of so much that are found; `covers` how often the 95 % interval of the ratio holds 1 between
equals; `smallest` the median of what the comparison says it could have found in 80 of 100. The second table is of
comparisons of many metrics, which are correlated by 0.5: `any false` the share of them with any false change, and, of
such with a fifth of the metrics changed by 10 %, `false of found`, the mean share of the changes found that are false.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy.stats import ttest_ind
from simulated_boots import Setting, by_run, draw, order, sides

from numabench.analysis.convergence import wilson
from numabench.comparison.replication import compare

STANDARD = (
    Setting(5, 3),
    Setting(5, 3, drift=0.04),
    Setting(3, 5),
    Setting(3, 5, drift=0.04),
    Setting(10, 3),
    Setting(10, 3, drift=0.04),
)
OTHERS = (
    Setting(5, 3, noise="t3"),
    Setting(5, 3, noise="bimodal"),
    Setting(5, 3, noise="rare mode"),
    Setting(3, 5, noise="t3"),
    Setting(3, 5, noise="bimodal"),
    Setting(3, 5, noise="rare mode"),
    Setting(5, 1),
    Setting(5, 3, "blocked"),
    Setting(5, 3, "blocked", drift=0.04),
    Setting(3, 5, "blocked", drift=0.04),
    Setting(10, 3, "blocked", drift=0.04),
    Setting(5, 3, noise="walk"),
    Setting(5, 3, "blocked", noise="walk"),
    Setting(10, 3, "blocked", noise="walk"),
)
FOUND = {"grown", "shrunk"}
RESAMPLES = 1000


def one_metric(setting: Setting, comparisons: int, seed: int) -> str:
    a, b = sides(order(setting))
    draws = np.random.default_rng([seed, *repr(setting).encode()])
    false = pooled = covered = 0
    steps = {0.03: 0, 0.05: 0}
    smallest = []
    for _ in range(comparisons):
        values_a, values_b = draw(setting, draws)
        (change,) = compare(a, b, by_run(values_a), by_run(values_b), resamples=RESAMPLES)
        false += change.verdict in FOUND
        assert change.ci95 is not None
        covered += change.ci95[0] <= 1 <= change.ci95[1]
        assert change.smallest_ratio is not None
        smallest.append(change.smallest_ratio)
        pooled += ttest_ind(np.log(values_a).ravel(), np.log(values_b).ravel(), equal_var=False).pvalue < 0.05
        for size in steps:
            (change,) = compare(a, b, by_run(values_a), by_run(values_b * (1 + size)), resamples=0)
            steps[size] += change.verdict == "grown"
    low, high = wilson(false / comparisons, comparisons)
    return (
        f"{_name(setting)} {false / comparisons:6.1%} ({low:4.1%} to {high:5.1%}) {pooled / comparisons:7.1%}"
        f" {steps[0.03] / comparisons:7.1%} {steps[0.05] / comparisons:7.1%} {covered / comparisons:7.1%}"
        f" {np.median(smallest) - 1:8.1%}"
    )


def many_metrics(setting: Setting, comparisons: int, metrics: int, seed: int) -> str:
    a, b = sides(order(setting))
    draws = np.random.default_rng([seed, metrics, *repr(setting).encode()])
    changed = metrics // 5
    any_false, false_share, found_share = 0, 0.0, 0.0
    for _ in range(comparisons):
        values_a, values_b = draw(setting, draws, metrics)
        changes = compare(a, b, by_run(values_a), by_run(values_b), resamples=0)
        any_false += any(change.verdict in FOUND for change in changes)
        values_b[:changed] *= 1.1
        found = [change.verdict in FOUND for change in compare(a, b, by_run(values_a), by_run(values_b), resamples=0)]
        false_share += sum(found[changed:]) / max(sum(found), 1)
        found_share += sum(found[:changed]) / changed
    low, high = wilson(any_false / comparisons, comparisons)
    return (
        f"{_name(setting)} {any_false / comparisons:9.1%} ({low:4.1%} to {high:5.1%}) {false_share / comparisons:14.1%}"
        f" {found_share / comparisons:7.1%}"
    )


def _name(setting: Setting) -> str:
    layout = f"{setting.boots} boots x {setting.values}"
    return f"{layout:<12} {setting.order:<8} {setting.drift:5.0%} {setting.noise:<10}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    print("$ python", *sys.argv)
    print(f"seed {asked.seed}, {asked.comparisons} comparisons a row")
    head = f"{'boots':<12} {'order':<8} {'drift':>5} {'noise':<10}"
    print(f"{head} {'false':>6} {'':15} {'pooled':>8} {'3 %':>7} {'5 %':>7} {'covers':>7} {'smallest':>8}", flush=True)
    for setting in (*STANDARD, *OTHERS):
        print(one_metric(setting, asked.comparisons, asked.seed), flush=True)
    print(f"\n{head} {'any false':>9} {'':15} {'false of found':>14} {'10 %':>7}")
    for setting in STANDARD:
        print(many_metrics(setting, asked.comparisons, asked.metrics, asked.seed), flush=True)


if __name__ == "__main__":
    main()
