"""What a choice without fine labels costs: each rule's point against the best in hindsight, and against always CE.

python -m analysis.regret --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from analysis import agreement, command, output, selection, statistics
from analysis.output import Section
from analysis.rules import RULES
from analysis.runs import Study
from analysis.statistics import Difference, Estimate

#: fine labels read from held-out samples, of which a table has those that the study measured, `MOST` at most
READ = (
    "mse/fine-linear",
    "mse/fine-neighbours",
    "accuracy/fine-linear",
    "accuracy/fine-neighbours",
    "mse/transport-heldout",
    "accuracy/1-shot",
    "accuracy/5-shot",
)
MOST = 2
#: what the rules may lose of it, one standard error of the reference's
LIMIT = "accuracy/validation"
#: roles of trials that a rule chooses among; fresh seeds of a chosen point are none
ROLES = ("baseline", "grid", "search")
#: trials whose kept arrays are read, at most
MOST_READ = 40
#: the choice that no rule can make
HINDSIGHT = "hindsight"


@dataclass(frozen=True)
class Cost:
    """What one choice costs on held-out samples, as errors (see `errors`).

    ``chosen`` are trials, more than one where each half of the seeds chose its own. ``against`` is the choice's error
    less the reference's on the same seeds, None where they are the same trial; ``regret`` the choice's error less that
    of the point that was best on the other half of the seeds, None of fewer than four seeds.
    """

    name: str
    words: str
    chosen: tuple[int, ...]
    error: Estimate
    against: Difference | None
    regret: Estimate | None


def section(study: Study, out: Path) -> Section | None:
    """Table ``regret``; None for a study that lacks the reference, a second point, validation or fine metrics."""
    metrics = measured(study)
    if not metrics:
        return None
    rows, numbers = [], []
    for metric in metrics:
        all_costs = costs(study, metric)
        tested = [cost for cost in all_costs if cost.against is not None and cost.name in RULES]
        adjusted = statistics.holm([cost.against.exact for cost in tested if cost.against is not None])
        holm = {cost.name: p for cost, p in zip(tested, adjusted, strict=True)}
        best = next((cost.chosen for cost in all_costs if cost.name == HINDSIGHT), ())
        for cost in all_costs:
            rows.append(_row(study, metric, cost, holm, best))
            numbers.append(_numbers(study, metric, cost, holm))
    reference = study.criterion(study.reference).label
    limited = feasible(study)
    caption = (
        f"Choices without fine labels among {len(points(study))} points, of which {len(limited)} keep {LIMIT} within "
        f"one standard error of {reference}'s. A rule chooses once, by its mean over all seeds on validation samples; "
        "errors are those of held-out samples (1 − accuracy where that is measured), means over seeds with "
        f"{statistics.LEVEL:.0%} Student-t intervals. Less {reference}: on the same seeds, with the exact sign-flip p "
        "after Holm over the rules. Regret: less the best of these points in hindsight, which is chosen on one half of "
        "the seeds and scored on the other, both ways, since the best of the very seeds that are scored would flatter "
        "itself; a rule may by luck be better. Its interval takes the two choices as given."
    )
    made = output.save_table(study, pd.DataFrame(rows), out, "regret", caption, pd.DataFrame(numbers))
    return Section("Choosing without fine labels", (made,))


def measured(study: Study) -> list[str]:
    """The metrics of `READ` by which choices can be judged, the first `MOST`."""
    return [metric for metric in READ if costs(study, metric)][:MOST]


@lru_cache(maxsize=64)
def costs(study: Study, metric: str) -> tuple[Cost, ...]:
    """The cost of always taking the reference, of each rule, and of the best in hindsight; empty where unknown."""
    limited, reference = feasible(study), reference_trial(study)
    table = errors(study, metric).reindex(limited).dropna()
    if reference is None or table.empty or reference not in table.index or len(table) < 2:
        return ()
    chosen = {name: trial for name, trial in choices(study).items() if trial in table.index}
    if not chosen:
        return ()
    hindsight = _hindsight(table)
    planned = selection.planned(study, reference)

    def at(trials: Mapping[int, int]) -> pd.Series:
        """The error of each seed at the trial that is chosen for it."""
        return statistics.at(table, pd.Series(trials, dtype=object))

    def cost(name: str, words: str, trials: Mapping[int, int]) -> Cost:
        """``trials``: by seed."""
        own, best = at(trials), at(hindsight)
        same = set(trials.values()) == {reference}
        against = None if same else statistics.paired(own, at(always(reference)), planned)
        regret = statistics.estimate(own - best, planned) if hindsight and name != HINDSIGHT else None
        distinct = tuple(dict.fromkeys(trials.values()))
        return Cost(name, words, distinct, statistics.estimate(own, planned), against, regret)

    def always(trial: int) -> dict[int, int]:
        return {int(seed): trial for seed in table.columns}

    label = study.criterion(study.reference).label
    rows = [cost("reference", f"always {label}", always(reference))]
    rows += [cost(name, f"{name}: {RULES[name].words}", always(trial)) for name, trial in chosen.items()]
    if hindsight:
        rows.append(cost(HINDSIGHT, "best in hindsight, by the other half of the seeds", hindsight))
    return tuple(rows)


def points(study: Study) -> list[int]:
    """The trials that a rule may choose: done with all their seeds, and not trained on fine labels.

    Where training settings vary, those at one setting.
    """
    rivals = [name for name, criterion in study.criteria.items() if not criterion.fine]
    table = study.trials[study.trials["role"].isin(ROLES) & (study.trials["state"] == "done")]
    table = table[table["criterion"].isin(rivals)]
    reference = selection.headline(study).get(study.reference)
    if study.varied and reference is not None:
        own = selection.settings(study)
        table = table[table["trial"].map(own) == own[reference.trial]]
    whole = [set(done) == set(planned) for done, planned in zip(table["found"], table["planned"], strict=True)]
    return [int(trial) for trial in table.loc[whole, "trial"]]


def reference_trial(study: Study) -> int | None:
    """The first trial of the criterion that the others are compared with."""
    rows = study.trials[study.trials["criterion"] == study.reference]
    return next((int(trial) for trial in rows["trial"] if trial in points(study)), None)


def feasible(study: Study) -> list[int]:
    """Those of `points` that a label-free search would accept: `LIMIT` within one standard error of the reference's."""
    reference = reference_trial(study)
    accuracy = selection.values(study, LIMIT).mean(axis=1, skipna=False)
    if reference not in accuracy.index:
        return []
    ce = selection.values(study, LIMIT).loc[reference].to_numpy(float)
    if len(ce) < 2 or not np.isfinite(ce).all():
        return []
    bound = float(ce.mean() - stats.sem(ce))
    return [trial for trial in points(study) if accuracy.get(trial, -np.inf) >= bound]


def choices(study: Study) -> dict[str, int]:
    """By rule, the feasible trial that it takes; rules whose metric no trial has are left out, equal ones go first."""
    chosen = {}
    for rule in RULES.values():
        values = _judged(study, rule.metric).reindex(feasible(study)).dropna()
        if len(values):
            chosen[rule.name] = _smallest(-values if rule.largest else values)
    return chosen


def errors(study: Study, metric: str) -> pd.DataFrame:
    """``metric`` at the last epoch as an error, trials × seeds: 1 − value where higher is better."""
    table = selection.values(study, metric)
    return 1 - table if study.metric(metric).better == "higher" else table


def _judged(study: Study, metric: str) -> pd.Series:
    """By trial, the mean over seeds of a rule's ``metric``; of the one without, the agreement of the seeds."""
    if metric:
        return selection.values(study, metric).mean(axis=1, skipna=False)
    limited = feasible(study)
    if len(limited) > MOST_READ:
        return pd.Series(dtype=float)
    return pd.Series({trial: agreement.of_trial(study, trial) for trial in limited}, dtype=float)


def _hindsight(table: pd.DataFrame) -> dict[int, int]:
    """By seed, the row of errors (trials × seeds) that is best over the other half of the seeds; empty below four."""
    seeds = sorted(table.columns)
    if len(seeds) < 4:
        return {}
    halves = seeds[::2], seeds[1::2]
    best = [_smallest(table[list(half)].mean(axis=1)) for half in halves]
    return {int(seed): best[1 - which] for which, half in enumerate(halves) for seed in half}


def _smallest(values: pd.Series) -> int:
    """The trial with the smallest of ``values``, the first of equal ones."""
    trials: list[int] = values.index.to_list()
    return trials[int(values.to_numpy().argmin())]


def _row(study: Study, metric: str, cost: Cost, holm: Mapping[str, float], best: Sequence[int] = ()) -> dict[str, str]:
    against = "–" if cost.against is None else cost.against.bounds
    p = holm.get(cost.name, np.nan)
    return {
        "fine labels read by": study.metric(metric).label,
        "rule": cost.words,
        "choice": _named(study, cost.chosen),
        "error of the choice": str(cost.error),
        f"minus {study.criterion(study.reference).label}": against,
        "exact p (Holm)": "–" if np.isnan(p) else f"{p:.3g}",
        "regret": "0: it is the best" if cost.regret and cost.chosen == best else str(cost.regret or "–"),
    }


def _numbers(study: Study, metric: str, cost: Cost, holm: Mapping[str, float]) -> dict[str, object]:
    numbers: dict[str, object] = {"metric": metric, "rule": cost.name, "choice": _named(study, cost.chosen)}
    for name, value in (("error", cost.error), ("against", cost.against), ("regret", cost.regret)):
        numbers |= {
            name: None if value is None else value.mean,
            f"{name}_low": None if value is None else value.low,
            f"{name}_high": None if value is None else value.high,
        }
    return numbers | {"exact_p_holm": holm.get(cost.name), "n": cost.error.n, "planned": cost.error.planned}


def _named(study: Study, trials: Sequence[int]) -> str:
    labels = study.trials.set_index("trial")["label"]
    return " / ".join(str(labels[trial]) for trial in trials)


if __name__ == "__main__":
    command.run(section, __doc__)
