"""The page that is explored: its size, and how long a browser takes to open it and to draw its first plot.

Makes a store of so many trials × 10 seeds by bulk insert, writes its report, and opens it in headless Chromium. Bounds:
3 MB for 60 trials × 200 epochs, and 3 s to open 1,000 trials, that is 10,000 seed runs.

    python -m benchmarks.explorable [--trials 60 --epochs 200] [--keep FOLDER]
    python -m benchmarks.explorable --trials 1000 --epochs 50
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from analysis import report
from benchmarks import report_scale
from tests.browsing import chromium

STUDY_FILE = """\
name: scale
benchmark: {name: hyperspectral, data: simulated}
protocol: released
search:
  criteria: {fierce: {lambda: {low: 0.01, high: 8, log: true}, e: {low: 10, high: 200, log: true}}}
  objective: {metric: mse/transfer, direction: minimize}
  constraint: {metric: accuracy/coarse, within_of_ce: 0.01}
"""


def points(count: int) -> list[tuple[str, dict[str, float]]]:
    """``count`` trials: CE, LS, and searched ones of FIERCE."""
    random = np.random.default_rng(0)
    weights = np.exp(random.uniform(np.log(0.01), np.log(8), count - 2)).round(4)
    anchors = np.exp(random.uniform(np.log(10), np.log(200), count - 2)).round()
    searched = [("fierce", {"lambda": weight, "e": e}) for weight, e in zip(weights, anchors, strict=True)]
    return [("ce", {}), ("ls", {"sigma": 0.4}), *searched]


def opened(driver: Any, page: Path) -> tuple[float, dict[str, float]]:
    """Seconds until the page is loaded, and then until each of its panels is drawn, once it is opened."""
    driver.get("about:blank")
    driver.get(page.as_uri())
    timing = "const [entry] = performance.getEntriesByType('navigation'); return entry.loadEventEnd"
    loaded = float(driver.execute_script(timing)) / 1000
    drawn = {}
    for panel in driver.find_elements("css selector", "[data-panel]"):
        started = time.perf_counter()
        driver.execute_script("arguments[0].open = true; arguments[0].scrollIntoView()", panel)
        plot = panel.find_element("css selector", ".plot")
        while not plot.get_attribute("data-drawn"):
            if time.perf_counter() - started > 120:
                raise SystemExit(f"not drawn: {panel.text}")
            time.sleep(0.01)
        drawn[panel.get_attribute("data-panel")] = time.perf_counter() - started
    return loaded, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the page is left")
    arguments = parser.parse_args()
    report_scale.EPOCHS = arguments.epochs
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name) / "report"
        store = Path(name) / "store"
        uri = report_scale.generate(store, True, points(arguments.trials), seed_points=1, study_file=STUDY_FILE)
        started = time.perf_counter()
        page = report.write(uri, report_scale.STUDY, folder)
        seeds = len(report_scale.SEEDS)
        print(
            f"{arguments.trials} trials × {seeds} seeds × {arguments.epochs} epochs × {len(report_scale.METRICS)} "
            f"metrics: report in {time.perf_counter() - started:.1f} s, page {page.stat().st_size / 1e6:.2f} MB"
        )
        with chromium() as driver:
            for which in ("first", "again"):
                loaded, drawn = opened(driver, page)
                plots = ", ".join(f"{panel} {seconds:.2f} s" for panel, seconds in drawn.items())
                print(f"{which}: open in {loaded:.2f} s; then {plots}")


if __name__ == "__main__":
    main()
