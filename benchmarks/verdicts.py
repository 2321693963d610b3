"""How often verdicts are wrong, and how often they find what is there: studies drawn at random, judged by the pages.

python -m benchmarks.verdicts [--studies N] [--first N] [--power N] [--seeds N] [--noise normal|heavy|skewed]
                              [--processes N]

First null studies, in which no claim is true: differences are 0, or lie exactly at the margin where a claim says
"within", and metrics follow a course that is common to all seeds, wander independently and share what a seed brings,
each by an amount that is drawn for every study. A study counts once if any claim "holds" in it, which should be so in
at most 5%; beside it, in how many there is any verdict. Then differences of so many standard deviations: how often one
is found, alone and among others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis import associations, claims, feature_space, selection, sensitivity, statistics, trajectories
from analysis.age import feature_against_age
from analysis.age.claims import CLAIMS as AGE
from analysis.claims import FAILS, HOLDS, Claim
from analysis.declarations import Hyperparameter
from analysis.hyperspectral.claims import CLAIMS as HYPERSPECTRAL
from analysis.natural_images.claims import CIFAR10, few_shot
from analysis.runs import Study
from analysis.statistics import ALPHA
from benchmarks import machine

#: criterion, hyperparameters, role
Trial = tuple[str, Mapping[str, Any], str]
#: benchmark -> its claims
PAGES: Mapping[str, Sequence[Claim]] = {
    "hyperspectral": HYPERSPECTRAL,
    "age": AGE,
    "cub": few_shot(),
    "cifar10": CIFAR10,
}
EPOCHS = 8
#: baselines, λ on a line, and a second e
GRID: Sequence[Trial] = (
    ("ce", {}, "baseline"),
    ("ls", {"sigma": 0.4}, "baseline"),
    ("confidence-penalty", {"beta": 0.1}, "baseline"),
    *(("fierce", {"lambda": weight, "e": 100.0}, "grid") for weight in (0.1, 0.3, 1.0, 4.0)),
    ("fierce", {"lambda": 1.0, "e": 200.0}, "grid"),
    ("fierce", {"lambda": 0.3, "e": 75.0}, "grid"),
    ("fierce", {"lambda": 0.3, "e": 150.0}, "grid"),
)
#: the same baselines, and ten points that a search proposed, none of them a paper's setting
SEARCH: Sequence[Trial] = (
    *GRID[:3],
    *(("fierce", {"lambda": float(weight), "e": 90.0}, "search") for weight in np.geomspace(0.11, 3.7, 10)),
)
#: metrics that a page's claims read, each at level 1 with a standard deviation of `DEVIATION`
METRICS: Mapping[str, Sequence[str]] = {
    "hyperspectral": (
        *("mse/raw", "mse/transfer", "mse/transfer-min", "mse/transfer-standardized", "mse/transfer-least-squares"),
        *("entropy/features", "entropy/spectral", "entropy/anchors", "information/mutual", "accuracy/coarse"),
        *("stability", "stability/released", "calibration/ece", "calibration/mce"),
    ),
    "age": (
        *("mse/transport", "mse/transport-heldout", "mse/class-mean", "mse/class-mean-heldout", "accuracy/coarse"),
        *("entropy/features", "entropy/features-corrected", "entropy/anchors", "interpolation/beta"),
        *("interpolation/beta-heldout", "information/mutual", "stability", "calibration/ece", "calibration/mce"),
    ),
    "cub": (
        *(f"accuracy/{k}-shot{kind}{part}" for k in (1, 5) for kind in ("", "-normalized") for part in ("", "-ci")),
        *(f"accuracy/{k}-shot{kind}-validation" for k in (1, 5) for kind in ("", "-normalized")),
        *("entropy/features", "entropy/spectral", "entropy/anchors"),
    ),
    "cifar10": ("geometry/between-within", "geometry/cat-dog"),
}
DEVIATION = 0.02
#: kinds of studies: of a grid and of a search in which nothing is so, and of a grid where only a margin is missed
KINDS = ("grid", "search", "turned")
TRUE_OF_TURNED = (
    "CE and LS reach a minimal error early, then rise",
    "The features tell more of the age than the coarse class does",
    "FIERCE does not significantly outperform CE in CE's first epochs",
)
#: what these keep of a study does not depend on its values: the first only where nothing was searched
KEPT: frozenset[Any] = frozenset(
    {selection.headline, selection._planned, selection.settings, trajectories._done, sensitivity.along}
    # what is read of arrays, of which a made study has none
    | {associations._pairings, feature_space.separation, feature_against_age.correlations}
)
#: tests of a table, of which one has an effect
FAMILIES = (1, 15, 50)


class Findings(NamedTuple):
    """Of null studies: in how many a claim ``holds``, in how many there is any verdict, and ``which`` claims held."""

    holds: int
    decided: int
    which: Counter[str]


def made(
    benchmark: str,
    trials: Sequence[Trial],
    values: Mapping[str, np.ndarray],
    settings: Mapping[str, Any] | None = None,
    arrays: Mapping[tuple[int, int], dict[str, np.ndarray]] | None = None,
    varied: Sequence[Hyperparameter] = (),
) -> Study:
    """A study without a store. ``values``: metric -> (trials, seeds, epochs), NaN where nothing was logged.

    ``varied`` are training settings and options whose values stand among the hyperparameters of ``trials``.
    """
    study = Study("made", "", None, ())  # type: ignore[arg-type]
    study.__dict__["varied"] = tuple(varied)
    shape = next(iter(values.values())).shape
    rows = []
    for number, (criterion, hyperparameters, role) in enumerate(trials):
        settings_of = {name: hyperparameters.get(name, np.nan) for name in study.axes}
        rows.append({"trial": number, "criterion": criterion, **settings_of, "role": role})
    labels = study.labels([(number, trial[0], trial[1]) for number, trial in enumerate(trials)])
    table = pd.DataFrame(rows).assign(label=labels, benchmark=benchmark, protocol="released", state="done", reason="")
    seeds = tuple(range(shape[1]))
    table["planned"] = table["found"] = pd.Series([seeds] * len(table))
    table["classes"] = pd.Series([()] * len(table))
    table = table.assign(data_name="made", provenance="simulated", fingerprint="", description="", epochs=shape[2])
    trial, seed, epoch = (axis.ravel() for axis in np.indices(shape))
    frames = [
        pd.DataFrame({"trial": trial, "seed": seed, "epoch": epoch + 1, "value": array.ravel()})
        for array in values.values()
    ]
    frame = pd.concat(frames, ignore_index=True)
    frame["metric"] = pd.Categorical.from_codes(np.repeat(np.arange(len(values)), trial.size), list(values))
    frame["criterion"] = pd.Categorical(table["criterion"])[frame["trial"]]
    frame = frame[frame["value"].notna()]
    read = {"trials": table, "frame": frame, "final": frame[frame["epoch"] == shape[2]], "settings": settings or {}}
    # a study without arrays asks its runs for each replica's
    kept = arrays or {(number, seed): {} for number in range(len(trials)) for seed in seeds}
    study.__dict__.update(read, file="", replicas=table, _arrays=dict(kept))
    return study


def refilled(study: Study, values: Mapping[str, np.ndarray]) -> Study:
    """``study``, made of other finite values, with these (as for `made`) in place of its own.

    Labels, lines of λ, and which trial speaks for a criterion where no search chose it follow from the trials alone,
    and take half the time that a study's judging takes: they are kept. What has read values is forgotten.
    """
    kept = KEPT if not study.settings.get("search") else KEPT - {selection.headline}
    for cached in _caches() - kept:
        cached.cache_clear()
    frame = study.frame
    frame["value"] = np.concatenate([array.ravel() for array in values.values()])
    study.__dict__["final"] = frame[frame["epoch"].to_numpy() == frame["epoch"].to_numpy()[-1]]
    for name in ("ends", "courses", "whole", "confirmation"):
        study.__dict__.pop(name, None)
    return study


@cache
def _caches() -> frozenset[Any]:
    """The functions of the analysis that keep what they found for a study."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "analysis"]
    return frozenset(each for module in modules for each in vars(module).values() if hasattr(each, "cache_clear"))


def drawn(
    random: np.random.Generator, benchmark: str, trials: Sequence[Trial], seeds: int, noise: str = "normal"
) -> Mapping[str, np.ndarray]:
    """Values for `made` of a study in which no claim is true."""
    fierce = np.array([criterion == "fierce" for criterion, *_ in trials])[:, None, None]
    shape = (len(trials), seeds, EPOCHS)
    values = {}
    # what the criteria of one seed share (initial weights, split, order), what all of them share, how far they wander
    shares, courses, wanders = random.choice([0.0, 1.0, 10.0], 3)
    for metric in METRICS[benchmark]:
        wandering = wanders * _noise(random, noise, shape).cumsum(2) / 4
        shared = shares * random.normal(size=(1, seeds, 1))
        # an error levels off from above, anything else from below, at a rate of its own
        course = np.exp(-random.uniform(0.1, 1) * np.arange(EPOCHS)) * (1 if metric.startswith("mse/") else -1)
        course = 3 * courses * (course - course[-1])
        values[metric] = 1 + DEVIATION * (course + shared + _noise(random, noise, shape) + wandering)
    for metric in values:
        if metric.startswith("stability"):
            # at the margin of "similar"
            values[metric] = np.where(fierce, values[metric] + 0.02, values[metric])
        if metric.startswith("mse/"):
            # at the margins of "behaves as label smoothing" and of "stable from 75 or 100 anchors on"
            far = [name == "confidence-penalty" or settings.get("e", 0) in (150, 200) for name, settings, _ in trials]
            values[metric] = np.where(np.array(far)[:, None, None], values[metric] + 0.1, values[metric])
    return values


def turned(random: np.random.Generator, seeds: int, noise: str) -> Mapping[str, np.ndarray]:
    """Values for `made` of a study of ages where what claims presuppose is so, and they fail by a hair.

    All have trained. The error of each falls, turns, and ends a tenth above its best, FIERCE's as the others', while
    the accuracy falls by its margin. Only what `TRUE_OF_TURNED` names is so.
    """
    shape = (len(GRID), seeds, EPOCHS)
    spread = DEVIATION * random.choice([0.5, 2.0, 5.0])
    turn = int(random.integers(2, EPOCHS - 2))
    back = np.clip((np.arange(EPOCHS) - turn) / (EPOCHS - 1 - turn), 0, 1)
    course = 1 + 0.5 * np.clip(1 - np.arange(EPOCHS) / turn, 0, 1) + 0.1 * back
    values = {metric: 1 + spread * _noise(random, noise, shape) for metric in METRICS["age"]}
    far = np.array([name == "confidence-penalty" or settings.get("e", 0) in (150, 200) for name, settings, _ in GRID])
    for metric in ("mse/transport", "mse/transport-heldout"):
        values[metric] = course * (1 + 0.1 * far[:, None, None]) * (1 + spread * _noise(random, noise, shape))
    for metric in ("mse/class-mean", "mse/class-mean-heldout"):
        values[metric] = 2 * values[metric]
    values["accuracy/coarse"] = 0.8 - 0.02 * back + 0.1 * spread * _noise(random, noise, shape)
    fierce = np.array([criterion == "fierce" for criterion, *_ in GRID])[:, None, None]
    values["stability"] = values["stability"] + 0.02 * fierce
    return values


def false_findings(
    benchmark: str, kind: str, numbers: Sequence[int], seeds: int, noise: str, afresh: bool = False
) -> Findings:
    """In how many of the studies of those ``numbers`` a claim holds that is not so, and which have any verdict.

    ``kind`` is ``grid``, ``search`` or ``turned`` (of the age page). ``afresh``: no study is `refilled`.
    """
    holds = decided = 0
    which: Counter[str] = Counter()
    trials = SEARCH if kind == "search" else GRID
    objective = {"metric": METRICS[benchmark][0], "direction": "minimize"}
    settings = {"search": {"criteria": {"fierce": {}}, "objective": objective}} if kind == "search" else {}
    study = None
    for number in numbers:
        random = np.random.default_rng([number, seeds, len(kind)])
        values = turned(random, seeds, noise) if kind == "turned" else drawn(random, benchmark, trials, seeds, noise)
        study = made(benchmark, trials, values, settings) if study is None or afresh else refilled(study, values)
        table = claims.judge(study, PAGES[benchmark])
        if kind == "turned":
            table = table[~table["claim"].isin(TRUE_OF_TURNED)]
        held = table["verdict"] == HOLDS
        holds += bool(held.any())
        decided += bool((held | (table["verdict"] == FAILS)).any())
        which.update(table.loc[held, "claim"])
    return Findings(holds, decided, which)


def power(draws: int, seeds: int, effect: float, noise: str) -> list[float]:
    """How often a paired difference of so many standard deviations is found, as one of each of `FAMILIES` tests.

    The others find nothing, so that Holm's adjustment multiplies its p by their number.
    """
    random = np.random.default_rng([seeds, int(10 * effect)])
    values = effect + _noise(random, noise, (draws, seeds))
    evidence = [claims.decide(statistics.one_sample(sample, seeds), 1) for sample in values]
    return [float(np.mean([part.side == HOLDS and part.p * tests <= ALPHA for part in evidence])) for tests in FAMILIES]


def _noise(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Of mean 0 and standard deviation 1: normal, Student's t with 3 degrees of freedom, or a shifted exponential."""
    if kind == "heavy":
        return random.standard_t(3, size=shape) / np.sqrt(3)
    return random.exponential(size=shape) - 1 if kind == "skewed" else random.normal(size=shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=10_000, help="null studies of each kind; 0: none")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first of them, to go on where another ended"
    )
    parser.add_argument("--power", type=int, default=1_000, help="draws for each number of seeds and effect; 0: none")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of a null study")
    parser.add_argument("--noise", choices=("normal", "heavy", "skewed"), default="normal")
    parser.add_argument("--processes", type=int, default=1, help="that share the null studies")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--pages", nargs="+", choices=list(PAGES), default=list(PAGES))
    arguments = parser.parse_args()
    print(machine.describe())
    for benchmark in arguments.pages if arguments.studies else ():
        for name in arguments.kinds:
            if name == "turned" and benchmark != "age":
                continue
            begun = time.monotonic()
            numbers = range(arguments.first, arguments.first + arguments.studies)
            shares = [numbers[first :: arguments.processes] for first in range(arguments.processes)]
            judged = [(benchmark, name, share, arguments.seeds, arguments.noise) for share in shares]
            with get_context("spawn").Pool(arguments.processes) as pool:
                parts = pool.starmap(false_findings, judged)
            holds, decided = sum(part.holds for part in parts), sum(part.decided for part in parts)
            bound = stats.binomtest(holds, arguments.studies).proportion_ci(0.95)
            print(
                f"{benchmark}, {name}, {arguments.noise} noise: a claim holds in {holds} of {arguments.studies} null "
                f"studies, {holds / arguments.studies:.2%} ({bound.low:.2%} to {bound.high:.2%}); any verdict in "
                f"{decided / arguments.studies:.2%}; {arguments.seeds} seeds, {time.monotonic() - begun:.0f} s",
                flush=True,
            )
            for claim, count in sum((part.which for part in parts), Counter()).most_common(3):
                print(f"    {count} times: {claim}", flush=True)
    for seeds in (3, 5, 10, 20) if arguments.power else ():
        for effect in (0.5, 1.0, 2.0):
            shares = power(arguments.power, seeds, effect, arguments.noise)
            words = ", ".join(f"{share:.1%} of {tests}" for share, tests in zip(shares, FAMILIES, strict=True))
            print(f"{seeds} seeds, effect {effect:g} sd: {words} tests ({arguments.power} draws)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
