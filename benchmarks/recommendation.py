"""How often the report recommends what is best, and how often its interval covers the true difference.

python -m benchmarks.recommendation [--runs N] [--truth N] [--studies N] [--seeds N]

First small trainings on two generated tables, whose answer is known by construction: in `MARGIN` the fine label is the
very margin that the coarse label is cut from, which label smoothing and the confidence penalty clamp, so that
cross-entropy is best; in `ACROSS` it is four other inputs, which cross-entropy has no use for, while the variance term
of VCReg keeps every dimension of the features alive. Each run has its own seeds; the true difference of each setting is
the mean over as many seeds more as ``--truth`` says, on the same table. Then studies drawn at random, without training,
in which no setting differs from cross-entropy, or one does: there the true differences are put in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from analysis import declarations, recommendation
from analysis.runs import Study
from benchmarks import machine
from benchmarks.verdicts import Trial as Point
from benchmarks.verdicts import made
from trainables.training import Training
from trainables.trial import Trial

METRIC, TWIN, ACCURACY = "r2/fine-linear", "r2/fine-linear-validation", "accuracy/coarse"
ROWS, INPUTS = 400, 8
#: seeds that are trained at once
TOGETHER = 100
#: small and short, so that a hundred runs take minutes
OPTIONS: Mapping[str, Any] = {"coarse": "coarse", "fine": "fine", "fine_kind": "numbers", "hidden": (16, 8)}
TRAINING: Mapping[str, Any] = {"epochs": 30, "learning_rate": 3e-3}


@dataclass(frozen=True)
class Scenario:
    """A generated table: the inputs that are its fine labels, the settings that are compared, the best criterion."""

    name: str
    fine: Sequence[int]
    points: Sequence[Point]
    best: str


CE: Point = ("ce", {}, "baseline")
MARGIN = Scenario(
    "margin",
    (0,),
    (
        CE,
        *(("ls", {"sigma": sigma}, "grid") for sigma in (0.1, 0.4)),
        *(("confidence-penalty", {"beta": beta}, "grid") for beta in (0.5, 2.0)),
    ),
    "ce",
)
ACROSS = Scenario(
    "across",
    (1, 2, 3, 4),
    (
        CE,
        *(("ls", {"sigma": sigma}, "grid") for sigma in (0.1, 0.4)),
        *(("vcreg", {"variance": weight, "covariance": 0.1}, "grid") for weight in (0.5, 1.0, 4.0)),
    ),
    "vcreg",
)


@dataclass(frozen=True)
class Count:
    """Of so many ``runs``: in how many the best was recommended, the interval covered, and something was wrong.

    ``wrong``: a rival was recommended whose true difference is not better than 0.
    """

    runs: int
    right: int
    covered: int
    wrong: int

    def __str__(self) -> str:
        def share(count: int) -> str:
            bound = stats.binomtest(count, self.runs).proportion_ci(0.95)
            return f"{count} of {self.runs} ({bound.low:.1%} to {bound.high:.1%})"

        return f"right {share(self.right)}; interval covers {share(self.covered)}; false {share(self.wrong)}"


def table(folder: Path, scenario: Scenario) -> Path:
    """The scenario's table: normal inputs, the coarse label by the sign of the first."""
    inputs = np.random.default_rng(0).normal(size=(ROWS, INPUTS))
    path = folder / f"{scenario.name}.npz"
    np.savez(path, x=inputs, coarse=np.where(inputs[:, 0] > 0, "above", "below"), fine=inputs[:, list(scenario.fine)])
    return path


def trained(path: Path, scenario: Scenario, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """metric -> (settings, seeds), at the last epoch."""
    rows: dict[str, list[np.ndarray]] = {METRIC: [], TWIN: [], ACCURACY: []}
    for criterion, hyperparameters, _ in scenario.points:
        parts = []
        for start in range(0, len(seeds), TOGETHER):
            trial = Trial(
                "table",
                criterion,
                tuple(seeds[start : start + TOGETHER]),
                hyperparameters=hyperparameters,
                options={**OPTIONS, "data": str(path)},
                training=TRAINING,
            )
            *_, last = Training(trial).run()
            parts.append({name: last.metrics[name] for name in rows})
        for name, own in rows.items():
            own.append(np.concatenate([part[name] for part in parts]))
    return {name: np.stack(own) for name, own in rows.items()}


def study(points: Sequence[Point], values: Mapping[str, np.ndarray], confirm: Study | None = None) -> Study:
    """A study without a store; ``values``: metric -> (settings, seeds)."""
    found = made("own", points, {name: each[..., None] for name, each in values.items()})
    fine = declarations.Metric(METRIC, "fine labels' R²", better="higher", fine=True, heldout=True)
    twin = replace(fine, name=TWIN, twin_of=METRIC, heldout=False)
    accuracy = declarations.Metric(ACCURACY, "coarse accuracy", better="higher", heldout=True)
    found.__dict__["metrics"] = {each.name: each for each in (fine, twin, accuracy)}
    if confirm is not None:
        found.__dict__["confirmation"] = confirm
    return found


def count(found: Sequence[tuple[Study, Mapping[int, float]]], best: str) -> Count:
    """``found``: studies, each with the true difference of each trial to the reference; ``best``: criterion."""
    right = covered = wrong = 0
    for own, truth in found:
        answer = recommendation.find(own)
        assert answer is not None
        chosen = own.trials.set_index("trial").loc[answer.trial, "criterion"]
        right += chosen == best
        covered += answer.difference.low <= truth[answer.rival] <= answer.difference.high
        wrong += answer.wins and truth[answer.rival] <= 0
    return Count(len(found), int(right), int(covered), int(wrong))


def of_trainings(scenario: Scenario, runs: int, seeds: int, more: int) -> tuple[Count, dict[int, float]]:
    """So many runs of so many seeds, judged by the truth of ``more`` further seeds; and that truth, by trial."""
    with tempfile.TemporaryDirectory() as folder:
        path = table(Path(folder), scenario)
        values = trained(path, scenario, range(runs * seeds + more))
    rest = values[METRIC][:, runs * seeds :]
    truth = dict(enumerate((rest - rest[0]).mean(1)))
    studies = [
        (
            study(scenario.points, {name: each[:, run * seeds : (run + 1) * seeds] for name, each in values.items()}),
            truth,
        )
        for run in range(runs)
    ]
    return count(studies, scenario.best), truth


def drawn(
    number: int, settings: int, seeds: int, effect: float, shared: float, fresh: bool
) -> tuple[Study, dict[int, float]]:
    """A study of cross-entropy and so many rivals, of which the last is better by ``effect`` standard deviations.

    ``shared`` is the correlation of what a seed's network brings to validation and held-out samples; ``fresh``: the
    best on validation samples is confirmed on as many seeds more.
    """
    random = np.random.default_rng([number, settings, seeds, round(10 * effect), round(10 * shared), int(fresh)])
    truth = np.zeros(settings + 1)
    truth[-1] = effect

    def measured() -> dict[str, np.ndarray]:
        network = random.normal(size=(settings + 1, seeds))
        parts = [shared**0.5 * network + (1 - shared) ** 0.5 * random.normal(size=network.shape) for _ in range(2)]
        # a difference of two settings has twice the variance of one
        values = [part / 2**0.5 + truth[:, None] for part in parts]
        return {METRIC: values[0], TWIN: values[1], ACCURACY: np.ones_like(values[0])}

    role = "search" if fresh else "grid"
    points = [CE, *(("fierce", {"lambda": float(each), "e": 100.0}, role) for each in range(1, settings + 1))]
    values = measured()
    if not fresh:
        return study(points, values), dict(enumerate(truth))
    best = 1 + int(values[TWIN][1:].mean(1).argmax())
    chosen = [0, best]
    again = {name: each[chosen] for name, each in measured().items()}
    confirm = study([(*points[trial][:2], "confirm") for trial in chosen], again)
    confirm.trials["repeats"] = chosen
    own = study(points, values, confirm)
    search = {"criteria": {"fierce": {}}, "objective": {"metric": TWIN, "direction": "maximize"}}
    own.__dict__["settings"] = {"search": search}
    return own, dict(enumerate(truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="runs on each generated table; 0: none")
    parser.add_argument("--truth", type=int, default=2000, help="further seeds that the true differences are means of")
    parser.add_argument("--studies", type=int, default=2000, help="studies of each kind that are drawn; 0: none")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of a run or study")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine.describe())
    for scenario in (MARGIN, ACROSS) if arguments.runs else ():
        begun = time.process_time()
        found, truth = of_trainings(scenario, arguments.runs, arguments.seeds, arguments.truth)
        named = ", ".join(
            f"{criterion} {' '.join(f'{key} {value:g}' for key, value in given.items())} {truth[trial]:+.4f}"
            for trial, (criterion, given, _) in enumerate(scenario.points)
            if trial
        )
        print(f"{scenario.name}, {scenario.best} is best: {found}; {time.process_time() - begun:.0f} s of a core")
        print(f"    true differences to ce over {arguments.truth} seeds: {named}", flush=True)
    kinds = [
        (settings, effect, shared, fresh)
        for fresh in (False, True)
        for settings in (1, 5, 20)
        for effect in (0.0, 2.0)
        for shared in (0.0, 0.5, 0.9)
    ]
    for settings, effect, shared, fresh in kinds if arguments.studies else ():
        studies = [
            drawn(number, settings, arguments.seeds, effect, shared, fresh) for number in range(arguments.studies)
        ]
        found = count(studies, "fierce" if effect else "ce")
        where = "fresh seeds" if fresh else "held-out samples"
        print(f"{settings} rivals, effect {effect:g} sd, shared {shared:g}, {where}: {found}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
