"""What stands first on a page: the answer in words, and one figure of every setting minus cross-entropy.

python -m analysis.summary --study NAME [--tracking-uri URI] --out DIR
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from analysis import command, glossary, output, recommendation, rivals, saturation, selection, shares, statistics
from analysis.output import Figure, Lead, Section
from analysis.recommendation import Recommendation
from analysis.runs import Study
from analysis.schema import ACCURACY
from analysis.statistics import Estimate

TITLE = "The answer"
CALIBRATION = "calibration/ece"
#: settings that the figure shows at most
MOST = 14


def section(study: Study, out: Path) -> Section | None:
    """The recommended criterion and setting, how sure it is, what it costs; figure ``answer``.

    None where no fine labels were read, so that there is no question to answer.
    """
    if study.frame.empty or not selection.fine_metric(study):
        return None
    found = recommendation.find(study)
    if found is None:
        name = study.criterion(study.reference).label
        text = f"No answer yet: cross-entropy ({name}) and a rival of it must be done with all their seeds."
        return Section(TITLE, (Lead(text),))
    told = sentences(study, found)
    if left := _left(study):
        verb = "is" if left == 1 else "are"
        told.insert(1, f"So far: {left} of {study.planned_trials} planned trials {verb} not done, and may change this.")
    return Section(TITLE, (*told, *figure(study, out), glossary.of_answer(study, found, told)))


def _left(study: Study) -> int:
    """How many planned trials may still be done: none that failed, or that a pruner stopped."""
    every = study.whole.trials
    ended = every["state"].isin(("done", "failed")) | every["reason"].str.startswith("stopped early")
    return max(0, study.planned_trials - int(ended.sum()))


def sentences(study: Study, found: Recommendation) -> list[str]:
    """The answer: what to use, what it keeps, how far that is, what it costs, and how it was chosen and tested."""
    kept = _way(study, found)
    return [
        Lead(verdict(study, found)),
        _kept(study, found),
        *([kept] if kept else []),
        *([others] if (others := _other_probes(study, found)) else []),
        f"{_cost(study, found)} {_calibration(study, found)}".rstrip(),
        *([saturated] if (saturated := _saturated(study, found)) else []),
        _how(study, found),
    ]


def verdict(study: Study, found: Recommendation) -> str:
    """What to use, in a sentence; by which probe, where others say the opposite."""
    rival, reference = _label(study, found.rival), _reference(study, found)
    contrary = _by_other_probes(study, found)[not found.wins]
    by = f" where features are read by {_probe(study, found.metric)}" if contrary else ""
    if found.wins:
        less = "; other probes say the opposite" if contrary else ""
        return f"Use {rival}{by}: it keeps more of the fine labels than {reference}{less}."
    if found.ahead and found.how == "search":
        return (
            f"Not settled: {rival} was the best of the search, on the seeds that chose it. Add confirm: 10 under "
            "search and run the study again, which tests it on fresh ones."
        )
    if found.ahead and (found.evidence.note or not found.difference.complete):
        return (
            f"Not settled: {rival} was ahead of {reference} where it was chosen, but "
            f"{found.evidence.note or 'a planned seed is missing'}. Ten seeds may."
        )
    more = f" {rival} keeps more by other probes." if contrary else ""
    beats = "beats" if _beyond(study, found) < 0 else "is shown to beat"
    return f"Stay with {reference}{by}: nothing {beats} it {'there' if contrary else 'here'}.{more}"


def figure(study: Study, out: Path) -> list[Figure]:
    """Figure ``answer``: fine metric and coarse accuracy of each setting minus the reference's, by seed."""
    found, metric = recommendation.find(study), selection.fine_metric(study)
    part = found.part if found else study
    against = found.against if found else recommendation.reference_trial(study)
    shown = _shown(part, found)
    metrics = [name for name in dict.fromkeys([metric, ACCURACY]) if against in selection.values(part, name).index]
    if against is None or not shown or not metrics:
        return []
    size = (3.7 * len(metrics) + 1.2, 1.1 + 0.3 * len(shown))
    canvas, grid = plt.subplots(1, len(metrics), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axes, name in zip(grid.flat, metrics, strict=True):
        _differences(axes, part, name, shown, against)
    widened = found is not None and found.difference.complete and found.difference.level > statistics.LEVEL
    if found and widened and found.tested in shown and metrics[0] == found.metric:
        # as the text has it, behind the setting's own
        place, half = shown.index(found.tested), found.difference.half
        colour = output.colour(part, part.trials.set_index("trial")["criterion"][found.tested])
        grid.flat[0].errorbar(found.difference.mean, place, xerr=half, fmt="none", ecolor=colour, elinewidth=0.7)
    labels = grid[0, 0].get_yticklabels()
    for label, trial in zip(labels, shown, strict=True):
        if found and trial == found.tested:
            label.set_fontweight("bold")
    reference = study.criterion(study.reference).label
    seeds = output.seeds_note(part, {_label(part, trial): trial for trial in shown}, statistics.LEVEL)
    fresh = " on the fresh seeds that confirm the search" if found and found.how == "fresh" else ""
    marked = f" In bold: {_label(part, found.tested)}" if found else ""
    marked += (
        ", whose thin line is the interval of the text, widened for the choice." if widened else "." * bool(marked)
    )
    caption = (
        f"Each setting minus {reference}, on the same seeds and held-out samples{fresh}: right of the line is better. "
        f"{seeds} Each interval is for one setting by itself.{marked}"
    )
    return [output.save_figure(part, canvas, out, "answer", caption)]


def _shown(study: Study, found: Recommendation | None) -> list[int]:
    """The settings of the figure, the first at the bottom: of searched criteria the best points alone."""
    best = {choice.trial for choice, _ in selection.search(study).values() if choice}
    table = study.trials[study.trials["criterion"] != study.reference]
    order = table.assign(order=table["criterion"].map(study.rank)).sort_values(
        ["order", *study.hyperparameters, "trial"]
    )
    trials = [
        int(trial)
        for trial, role in zip(order["trial"], order["role"], strict=True)
        if trial in recommendation.whole(study) and (role != "search" or trial in best)
    ]
    if len(trials) > MOST:
        spoken = {choice.trial for choice in selection.headline(study).values()} | ({found.tested} if found else set())
        trials = [trial for trial in trials if trial in spoken]
    return trials[::-1]


def _differences(axes: Axes, study: Study, name: str, shown: list[int], against: int) -> None:
    """A point and its interval for each of ``shown``; the better side is right."""
    criteria = dict(zip(study.trials["trial"], study.trials["criterion"], strict=True))
    metric = study.metric(name)
    for place, trial in enumerate(shown):
        found = selection.difference(study, name, trial, against)
        if found is None or not found.n:
            continue
        colour = output.colour(study, criteria[trial])
        half = found.half if found.complete else 0
        axes.errorbar(found.mean, place, xerr=half, fmt=output.marker(study, criteria[trial]), color=colour, capsize=3)
    colour = output.colour(study, study.reference)
    axes.axvline(0, color=colour, linewidth=1)
    label = study.criterion(study.reference).label
    axes.annotate(
        label, (0, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", color=colour
    )
    axes.set_yticks(range(len(shown)), [_label(study, trial) for trial in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(f"{metric.label},\nminus {study.criterion(study.reference).label}")
    if metric.better == "lower":
        axes.invert_xaxis()


def _kept(study: Study, found: Recommendation) -> str:
    """What the rival and the reference reach, and the difference with its interval."""
    own, other = (selection.summary(found.part, found.metric)[trial] for trial in (found.tested, found.against))
    metric, name = study.metric(found.metric), study.criterion(study.reference).label
    how = f"({metric.label}, on held-out samples; {metric.better} is better)"
    difference = f"{found.difference.bounds}{_allowing(found)}"
    if found.wins:
        return f"It reaches {_plain(own)} against {name}'s {_plain(other)} {how}: {difference}."
    return (
        f"{name} reaches {_plain(other)} {how}, its chosen rival, {_label(study, found.rival)}, {_plain(own)}: "
        f"{difference}."
    )


def _allowing(found: Recommendation) -> str:
    """What the interval is."""
    n = found.difference.n
    if not found.difference.complete:
        return ""
    text = f", a {statistics.LEVEL:.0%} interval over {n} {'fresh seeds' if found.how == 'fresh' else 'seeds'}"
    if found.difference.level > statistics.LEVEL:
        return f"{text}, widened for the choice among several settings"
    if found.how == "search":
        return f"{text}, flattered by the choice"
    return f"{text} that did not choose" if found.how == "apart" else text


def _way(study: Study, found: Recommendation) -> str:
    """Floors, ceiling, and the share of the way between, as far as they were measured; empty without a floor."""
    bottoms = recommendation.floors(study, found)
    if not bottoms:
        return ""
    floors = f"{', '.join(f'{words} {_plain(each)}' for words, each in bottoms.items())} (floors)"
    text = f"For comparison, by the same probe: {floors}"
    between = recommendation.way(study, found)
    if between is None:
        return f"{text}. {_floors_above(study, found)}".rstrip()
    name = study.criterion(study.reference).label
    text = f"{text}, the same network trained on the fine labels {_plain(between.ceiling)} (ceiling)."
    beyond = shares.above(study, [found.metric]) or _floors_above(study, found)
    own, other = between.shares.get(found.rival), between.shares.get(found.reference)
    if own is None or other is None:
        way = "The ceiling is not surely above the untrained network, so that no share of the way is given."
    elif found.wins:
        way = f"It keeps {own} of the way from {next(iter(bottoms))} to ceiling, {name} {other}."
    else:
        rival = _label(study, found.rival)
        way = f"{name} keeps {other} of the way from {next(iter(bottoms))} to ceiling, {rival} {own}."
    return f"{text} {way} {beyond}".rstrip()


def _floors_above(study: Study, found: Recommendation) -> str:
    """What it means where a floor is better than what is recommended; empty where none is."""
    metric, trial = study.metric(found.metric), found.trial
    own = selection.summary(study, found.metric)[trial]
    sign = -1 if metric.better == "lower" else 1
    better = [words for words, each in recommendation.floors(study, found).items() if sign * (each.mean - own.mean) > 0]
    if not better:
        return ""
    return (
        f"By this probe {_label(study, trial)}'s features tell less of the fine labels than {' and '.join(better)}: "
        "training on the coarse labels lost some of it; where the fine labels are what counts, keep the inputs too."
    )


def _by_other_probes(study: Study, found: Recommendation) -> dict[bool, list[str]]:
    """By which other probes the rival is better than the reference (True), or worse, after Holm, and by how much."""
    metrics = [name for name in rivals.compared(found.part) if name != found.metric]
    told = {name: selection.difference(found.part, name, found.tested, found.against) for name in metrics}
    known = {name: each for name, each in told.items() if each is not None and each.complete}
    # it was singled out among several, by a probe that goes along with these
    adjusted = statistics.holm([min(1.0, found.among * each.p) for each in known.values()])
    sides: dict[bool, list[str]] = {True: [], False: []}
    for (name, each), p in zip(known.items(), adjusted, strict=True):
        if p <= statistics.ALPHA:
            is_better = (each.mean > 0) == (study.metric(name).better == "higher")
            sides[is_better].append(f"{_probe(study, name)} ({each.bounds})")
    return sides


def _other_probes(study: Study, found: Recommendation) -> str:
    """What other probes say of the rival; empty where they decide nothing."""
    sides = _by_other_probes(study, found)
    told = [f"better by {', '.join(sides[True])}"] if sides[True] else []
    told += [f"worse by {', '.join(sides[False])}"] if sides[False] else []
    if not told:
        return ""
    text = f"Read by other probes, {_label(study, found.rival)} is {'; '.join(told)}."
    return f"{text} Which to use depends on how the features will be read." if sides[not found.wins] else text


def _probe(study: Study, name: str) -> str:
    """A probe in words, without those of what it reads: ``fine accuracy, linear probe``."""
    label = study.metric(name).label
    return label.rpartition(", ")[2]


def _cost(study: Study, found: Recommendation) -> str:
    value = recommendation.cost(found)
    if value is None:
        return "What it costs in coarse accuracy was not measured."
    own, other = (_plain(selection.summary(found.part, ACCURACY)[trial]) for trial in (found.tested, found.against))
    name, rival = study.criterion(study.reference).label, _label(study, found.rival)
    numbers, who = f"{own} against {name}'s {other}, {value.bounds}", "It" if found.wins else rival
    if not value.complete:
        return f"Coarse accuracy: {numbers}."
    if value.high < 0:
        return f"{who} costs coarse accuracy: {numbers}."
    if value.low > 0:
        return f"{who} {'gains coarse accuracy too' if found.wins else 'has the better coarse accuracy'}: {numbers}."
    return f"A cost of {rival} in coarse accuracy is neither shown nor excluded: {numbers}."


def _calibration(study: Study, found: Recommendation) -> str:
    """What it costs in calibration; empty where that was not measured."""
    value = selection.difference(found.part, CALIBRATION, found.tested, found.against)
    if value is None:
        return ""
    own, other = (_plain(selection.summary(found.part, CALIBRATION)[trial]) for trial in (found.tested, found.against))
    name = study.criterion(study.reference).label
    numbers = f"{study.metric(CALIBRATION).label} {own} against {name}'s {other}, {value.bounds}"
    if not value.complete:
        return f"{numbers}."
    decided = "worse" if value.low > 0 else "better" if value.high < 0 else "not shown to be better or worse"
    return f"Its calibration is {decided}: {numbers}."


def _saturated(study: Study, found: Recommendation) -> str:
    """That the rival is saturated by sampling, and what that means; empty where it is not."""
    label = _label(study, found.rival)
    if label not in saturation.labels(study):
        return ""
    return f"{label} is saturated by sampling (see What was run). {saturation.MEANING}"


def _how(study: Study, found: Recommendation) -> str:
    """How it was chosen and tested."""
    several = f" among {found.among} rivals" if found.among > 1 else ", the only rival"
    text = f"How sure: {_label(study, found.rival)} was chosen by {found.by}{several}"
    if not found.ahead:
        text += f" (by which {study.criterion(study.reference).label} was no worse)"
    tested = {
        "fresh": "tested once, on fresh seeds that had no part in the choice",
        "heldout": "tested on held-out samples"
        + (f", with p corrected for a choice among {found.among}" if found.among > 1 else ""),
        "apart": "tested on the other seeds, as nothing was measured on validation samples",
        "search": "not tested, as the seeds that a search goes by cannot be those that judge it",
    }[found.how]
    numbers = f": {_p(found)}" if found.how != "search" and found.difference.complete else ""
    return f"{text}, and {tested}{numbers}."


def _p(found: Recommendation) -> str:
    """p of both tests."""
    p, exact = found.evidence.p, found.evidence.exact
    shown = statistics.p_text(p).replace(" ", "\u00a0")
    both = (
        f"{shown} by the larger of t-test and exact sign-flip test"
        if p == exact
        else f"{shown} by t-test, {exact:.2g} by the exact sign-flip test"
    )
    return f"{both}; a difference is shown where both are at most {statistics.ALPHA:g}"


def _beyond(study: Study, found: Recommendation) -> float:
    """The end of the interval on the rival's side, above 0 where the rival may be the better one."""
    if not found.difference.complete:
        return float("inf")
    lower = study.metric(found.metric).better == "lower"
    return -found.difference.low if lower else found.difference.high


def _label(study: Study, trial: int) -> str:
    table = study.trials
    return str(table.loc[table["trial"] == trial, "label"].iloc[0])


def _reference(study: Study, found: Recommendation) -> str:
    return f"cross-entropy ({_label(study, found.reference)})"


def _plain(value: Estimate) -> str:
    """The mean alone, to as many places as its interval says."""
    return str(value).split(" ± ")[0]


if __name__ == "__main__":
    command.run(section, __doc__)
