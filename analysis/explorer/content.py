"""What a page explores of a study: trials, trajectories, sweeps over a hyperparameter and the points of a search.

All of it is of seeds that are done, as in the static figures, and plain values, to be written as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats

from analysis import importance, output, selection, sensitivity, statistics
from analysis.declarations import Hyperparameter
from analysis.explorer import colours
from analysis.runs import Study
from analysis.schema import ACCURACY
from analysis.statistics import Estimate

#: matplotlib's line styles and markers as Plotly calls them
DASHES = {"--": "dash", "-.": "dashdot", "-": "solid", ":": "dot"}
SYMBOLS = {"s": "square", "^": "triangle-up", "o": "circle", "D": "diamond", "v": "triangle-down", "P": "cross"}
#: metrics that parallel coordinates begin with, at most
FIRST_AXES = 4


@dataclass(frozen=True)
class Curves:
    """A metric's ``values`` (trials, seeds, epochs), NaN where there is none, at ``epochs``."""

    metric: str
    epochs: np.ndarray
    values: np.ndarray

    def every(self, stride: int) -> Curves:
        """Each ``stride``-th epoch counted from the last one, and the first."""
        count = len(self.epochs)
        kept = sorted({0, *range(count - 1, -1, -stride)}) if stride < count else [count - 1]
        return Curves(self.metric, self.epochs[kept], self.values[:, :, kept])


@lru_cache(maxsize=4)
def trials(study: Study) -> list[int]:
    """Numbers of the trials that have a seed that is done, in order of criteria and then of numbers."""
    table = study.trials[study.trials["trial"].isin(study.final["trial"].unique())]
    order = sorted(zip(table["criterion"].map(study.rank), table["trial"], strict=True))
    return [int(trial) for _, trial in order]


@lru_cache(maxsize=4)
def seeds(study: Study) -> list[int]:
    """The seeds of `trials`, those that are planned and nowhere done included: no mean hides that one is missing."""
    table = study.trials[study.trials["trial"].isin(trials(study))]
    found = {seed for planned in table["planned"] for seed in planned} | set(study.final["seed"])
    return sorted(int(seed) for seed in found)


def metrics(study: Study) -> list[str]:
    """Names of the metrics with a finite value, the main ones first, then as the study declares them."""
    first = [selection.fine_metric(study), selection.objective_metric(study), *study.page.metrics, *study.metrics]
    there = study.courses
    names = dict.fromkeys(name for name in (*first, *there) if name in there)
    return [name for name in names if np.isfinite(there[name]["value"]).any()]


def curves(study: Study, metric: str) -> Curves:
    """The trajectories of ``metric`` over `trials` and `seeds`, those of replicas that are not done left out."""
    rows, numbers, all_seeds = study.courses[metric], np.array(trials(study)), np.array(seeds(study))
    order = np.argsort(numbers)
    place, has_trial = _places(numbers[order], rows["trial"])
    replica, has_seed = _places(all_seeds, rows["seed"])
    done = np.zeros((len(numbers), len(all_seeds)), bool)
    final = study.final[["trial", "seed"]].drop_duplicates()
    done[np.searchsorted(numbers[order], final["trial"]), np.searchsorted(all_seeds, final["seed"])] = True
    known = has_trial & has_seed & done[place, replica]
    epochs, epoch = np.unique(rows["epoch"][known], return_inverse=True)
    values = np.full((len(numbers), len(all_seeds), len(epochs)), np.nan)
    values[order[place[known]], replica[known], epoch] = rows["value"][known]
    return Curves(metric, epochs, values)


def of(study: Study) -> dict[str, Any]:
    """Everything but the trajectories themselves."""
    numbers, names = trials(study), metrics(study)
    place = {trial: index for index, trial in enumerate(numbers)}
    chosen = selection.headline(study)
    reference = chosen.get(study.reference)
    return {
        "study": study.name,
        "level": statistics.LEVEL,
        "seeds": seeds(study),
        # half-width of the interval of n seeds, as a multiple of their standard deviation
        "halves": [None, None, *(_half(n) for n in range(2, len(seeds(study)) + 1))],
        "criteria": [_criterion(study, name) for name in _criteria(study)],
        "axes": [{"name": each.name, "symbol": each.symbol, "log": each.log} for each in _axes(study)],
        "trials": _trials(study, numbers),
        "metrics": [_metric(study, name, numbers) for name in names],
        "reference": None if reference is None else place.get(reference.trial),
        "sweeps": _sweeps(study, place),
        "search": _search(study, place),
        "first": _first_axes(study, names),
    }


def _places(ordered: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of ``wanted`` stands in ``ordered``, and whether it does."""
    place = np.searchsorted(ordered, wanted).clip(max=len(ordered) - 1)
    return place, ordered[place] == wanted


def _half(n: int) -> float:
    return float(stats.t.ppf((1 + statistics.LEVEL) / 2, n - 1) / np.sqrt(n))


@lru_cache(maxsize=4)
def _criteria(study: Study) -> list[str]:
    there = set(study.trials.loc[study.trials["trial"].isin(trials(study)), "criterion"])
    return [name for name in study.criteria if name in there]


@lru_cache(maxsize=4)
def _axes(study: Study) -> list[Hyperparameter]:
    own = [each for name in _criteria(study) for each in study.criterion(name).hyperparameters]
    # one of two criteria's hyperparameters of a name stands for both
    return list({each.name: each for each in (*own, *study.varied)}.values())


def _criterion(study: Study, name: str) -> dict[str, Any]:
    look, colour = output.look(study, name), output.colour(study, name)
    return {
        "label": study.criterion(name).label,
        "light": colour,
        "dark": colours.on_dark(colour),
        "dash": DASHES[look["linestyle"]],
        "symbol": SYMBOLS.get(output.marker(study, name), "x"),
        "axes": [each.name for each in (*study.criterion(name).hyperparameters, *study.varied)],
    }


def _trials(study: Study, numbers: Sequence[int]) -> list[dict[str, Any]]:
    names = _criteria(study)
    speaking = {choice.trial for choice in selection.headline(study).values()}
    rows = study.trials.set_index("trial").loc[list(numbers)].to_dict("records")
    return [
        {
            "number": int(number),
            "label": row["label"],
            "criterion": names.index(row["criterion"]),
            "seeds": list(row["planned"]),
            "missing": len(set(row["planned"]) - set(row["found"])),
            "speaks": number in speaking,
            "at": {each.name: value for each in _axes(study) if (value := _plain(row[each.name])) is not None},
        }
        for number, row in zip(numbers, rows, strict=True)
    ]


def _metric(study: Study, name: str, numbers: Sequence[int]) -> dict[str, Any]:
    declared = study.metric(name)
    ends = selection.values(study, name).reindex(list(numbers)).mean(axis=1)
    return {
        "name": name,
        "label": declared.label,
        "note": declared.note,
        "better": declared.better,
        "ends": [_rounded(value) for value in ends],
    }


def _sweeps(study: Study, place: Mapping[int, int]) -> list[dict[str, Any]]:
    """What the figures of sensitivity are drawn along, as `analysis.sensitivity.along` finds it."""
    found = []
    for name in _criteria(study):
        criterion = study.criterion(name)
        for each in (*criterion.hyperparameters, *study.varied):
            axis = sensitivity.along(study, name, each.name)
            if axis is None:
                continue
            fixed = f" ({axis.fixed})" if axis.fixed else ""
            found.append(
                {
                    "criterion": _criteria(study).index(name),
                    "label": f"{criterion.label} {each.symbol}{fixed}",
                    "log": each.log,
                    "line": axis.is_line,
                    "trials": [place[int(trial)] for trial in axis.trials["trial"]],
                    "at": [_plain(value) for value in axis.trials[each.name]],
                }
            )
    return found


def _search(study: Study, place: Mapping[int, int]) -> dict[str, Any] | None:
    """The search's rule, its constraint, which trials break that, which is best, and importance; None without one."""
    searched = selection.search(study)
    if not searched:
        return None
    limited, bound = selection.constraint(study)
    limits = selection.summary(study, limited) if limited else {}
    shares = importance.by_criterion(study)
    symbols = {each.name: each.symbol for each in _axes(study)}
    return {
        "rule": selection.rule(study),
        "objective": selection.objective_metric(study),
        "limited": limited,
        "bound": _rounded(bound),
        # of baselines too: what a search may not choose is marked wherever it stands
        "outside": [place[trial] for trial in place if limited and not _keeps(limits.get(trial), bound)],
        "best": [place[best.trial] for best, _ in searched.values() if best is not None],
        "importance": [
            {
                "criterion": _criteria(study).index(name),
                "points": int(sum(value is not None for value in searched[name][1]["objective"])),
                "shares": [{"symbol": symbols[each], "share": round(share, 4)} for each, share in of_name.items()],
            }
            for name, of_name in shares.items()
        ],
    }


def _keeps(limit: Estimate | None, bound: float) -> bool:
    return limit is not None and limit.mean >= bound


def _first_axes(study: Study, names: Sequence[str]) -> list[str]:
    wanted = (
        selection.objective_metric(study),
        selection.constraint(study)[0],
        selection.fine_metric(study),
        ACCURACY,
        *study.page.metrics,
        *names,
    )
    return [name for name in dict.fromkeys(wanted) if name in names][:FIRST_AXES]


def _plain(value: Any) -> float | str | None:
    """A setting's value as JSON has it, None where the criterion does not read it."""
    if isinstance(value, str):
        return value
    return None if value is None or np.isnan(value) else float(value)


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
