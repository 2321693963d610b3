"""Ten seeds as one trial against ten one-seed trials of Ray Tune, on the same cores.

Both sides train FIERCE on the hyperspectral benchmark through Tune, with every evaluator and without tracking, on a Ray
that is already up. ``together`` is what the service does with one trial on so many cores: its seeds in shards, one a
core, each a Tune trial with one thread (on 2 cores 2 × 5 seeds); ``--whole`` keeps them in one process with a thread a
core instead. ``separate`` are one-seed trials with one thread each. Every trial of both sides is a new process, as
Tune does by itself; ``--reuse-actors`` keeps the processes.

    python -m benchmarks.replicas --data jasper_ridge.mat --epochs 3 10 30
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from benchmarks.machine import describe, matrix_rate
from trainables.training import Training
from trainables.trial import Trial

SEEDS = tuple(range(10))


def train(config: dict[str, Any]) -> None:
    case = config["case"]
    torch.set_num_threads(case["threads"])
    training = Training(Trial.from_dict(case["trial"]))
    started = time.perf_counter()
    for _ in training.run():
        pass
    tune.report({"seconds": time.perf_counter() - started, "gflop": gflop(training)})


def gflop(training: Training) -> float:
    """Floating-point operations (1e9) of the matrix products of all training steps: forward, and twice backward.

    The first layer passes no gradient to its inputs, and FIERCE adds the products with the anchors.
    """
    weights = [p[0].numel() for name, p in training.network.named_parameters() if name.endswith("weight")]
    anchors = training.anchors[0].numel() if training.trial.criterion == "fierce" else 0
    products = 3 * sum(weights) - weights[0] + 2 * anchors
    samples = training.parts["train"].shape[1] * training.recipe.epochs * len(training.trial.seeds)
    return 2 * products * samples / 1e9


def run(trials: list[Trial], cpus: int, reuse: bool) -> tuple[float, list[dict[str, Any]]]:
    """Wall seconds of all trials together, and what each reported."""
    configs = [{"trial": trial.to_dict(), "threads": cpus} for trial in trials]
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": cpus}),
        param_space={"case": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(reuse_actors=reuse),
        run_config=tune.RunConfig(verbose=0),
    )
    started = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - started
    if results.errors:
        raise results.errors[0]
    return seconds, [dict(result.metrics or {}) for result in results]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="simulated", help="a .mat file, or the simulated scene")
    parser.add_argument("--epochs", type=int, nargs="+", default=[3, 10, 30])
    parser.add_argument("--probe-epochs", type=int, default=400, help="of the transfer probes after the last epoch")
    parser.add_argument("--whole", action="store_true", help="together: one process with a thread a core")
    parser.add_argument("--reuse-actors", action="store_true")
    arguments = parser.parse_args()

    cores = os.cpu_count() or 1
    threads = cores if arguments.whole else 1
    size = len(SEEDS) if arguments.whole else math.ceil(len(SEEDS) / cores)
    shards = [SEEDS[i : i + size] for i in range(0, len(SEEDS), size)]
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    ray.init(num_cpus=cores, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    data = str(Path(arguments.data).resolve()) if arguments.data != "simulated" else arguments.data
    torch.set_num_threads(cores)
    rate = matrix_rate(torch.device("cpu"))
    print(describe())
    print(f"data {Path(data).name}, FIERCE; one 3000 × 3000 product: {rate:.0f} GFLOP/s")
    print(f"together: {' + '.join(str(len(shard)) for shard in shards)} seeds, {threads} thread(s) each")
    print("epochs  together s  separate s  ratio  GFLOP/s together  share of one large product")
    for epochs in arguments.epochs:

        def trial(seeds: tuple[int, ...], epochs: int = epochs) -> Trial:
            options = {"data": data, "probe_epochs": arguments.probe_epochs}
            return Trial("hyperspectral", "fierce", seeds, options=options, training={"epochs": epochs})

        together, reports = run([trial(shard) for shard in shards], threads, arguments.reuse_actors)
        separate, _ = run([trial((seed,)) for seed in SEEDS], 1, arguments.reuse_actors)
        reached = sum(report["gflop"] / report["seconds"] for report in reports)
        print(
            f"{epochs:6d}  {together:10.1f}  {separate:10.1f}  {separate / together:5.2f}"
            f"  {reached:16.0f}  {reached / rate:27.0%}",
            flush=True,
        )
    ray.shutdown()


if __name__ == "__main__":
    main()
