"""What stands first on a page that judges claims: how many hold, and a small grid with the verdicts on each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import claims, output, recommendation, summary
from analysis.claims import FAILS, HOLDS, NO_VERDICT, OUTCOMES, UNDECIDED, UNTESTED, Claim
from analysis.output import Figure, Lead, Section, Table
from analysis.runs import Study

#: how a claim stands, by its tests -> how it is counted in words
STANDS = {
    "all": "upheld in every test",
    "some": "upheld in some tests",
    "none": "contradicted",
    "open": "undecided",
    "no verdict": "without a verdict",
    "untested": "not tested here",
}


def section(study: Study, out: Path, judged: Sequence[Claim]) -> Section:
    """The count, figure ``answer``, table ``verdicts``, and where something was searched for what was found."""
    data = claims.judge(study, judged)
    found = {claim.sentence: data.loc[data["claim"] == claim.sentence, "verdict"].tolist() for claim in judged}
    stands = [_stands(outcomes) for outcomes in found.values()]
    counts = ", ".join(f"{stands.count(name)} {words}" for name, words in STANDS.items() if name in stands)
    items: list[str | Figure | Table] = [Lead(f"The paper's {len(found)} claims: {counts}.")]
    items += _searched(study)
    items += summary.figure(study, out)
    rows = [
        {"claim": sentence, "verdict": _counted(each)}
        for sentence, each in found.items()
        if _stands(each) != "untested"
    ]
    if rows:
        caption = (
            "The verdicts on each claim of which something was measured here, with how many of its tests say so. The "
            "tests, their numbers and how a verdict comes about stand below, under the claims."
        )
        items.append(output.save_table(study, pd.DataFrame(rows), out, "verdicts", caption))
    untested = [sentence for sentence, each in found.items() if _stands(each) == "untested"]
    if untested:
        items.append(f"Not tested here: {'; '.join(untested)}.")
    return Section(summary.TITLE, tuple(items))


def _searched(study: Study) -> list[str]:
    """What a search recommends; nothing without one."""
    if not study.settings.get("search"):
        return []
    found = recommendation.find(study)
    if found is None:
        return []
    first, *rest = summary.sentences(study, found)
    return [f"The search: {first[0].lower()}{first[1:]}", *rest]


def _stands(outcomes: Sequence[str]) -> str:
    """How a claim stands whose tests came to ``outcomes``."""
    tested = [outcome for outcome in outcomes if outcome != UNTESTED]
    decided = [outcome for outcome in tested if outcome != NO_VERDICT]
    if not decided:
        return "no verdict" if tested else "untested"
    if HOLDS in decided:
        return "all" if set(decided) == {HOLDS} else "some"
    return "none" if FAILS in decided else "open"


def _counted(outcomes: Sequence[str]) -> str:
    """The outcomes that there are, each with how often: ``holds ×2; undecided``."""
    counts = {outcome: outcomes.count(outcome) for outcome in (HOLDS, FAILS, UNDECIDED, NO_VERDICT)}
    assert set(counts) | {UNTESTED} == set(OUTCOMES)
    return "; ".join(f"{outcome} ×{count}" if count > 1 else outcome for outcome, count in counts.items() if count)
