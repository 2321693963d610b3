"""Which rule without fine labels costs least, over several studies: each study's table of regret, and one over all.

python -m benchmarks.rules STUDY … [--tracking-uri URI]

A regret is told in per cent of always cross-entropy's error on the same fine labels, so that studies can be averaged.
For each study the rule is named that is best on the others, and what it costs there: what a default would have given.
"""

from __future__ import annotations

import argparse

import pandas as pd

from analysis import command, regret
from analysis.regret import HINDSIGHT
from analysis.runs import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", help="names of studies with a table of regret")
    command.add_store(parser)
    arguments = parser.parse_args()
    regrets, gains = {}, {}
    for name in arguments.studies:
        study = Study.open(arguments.tracking_uri, name)
        for metric in regret.measured(study):
            costs = {cost.name: cost for cost in regret.costs(study, metric)}
            scale = costs["reference"].error.mean / 100
            column = f"{name} {metric}"
            regrets[column] = {rule: cost.regret.mean / scale for rule, cost in costs.items() if cost.regret}
            gains[column] = {rule: cost.against.mean / scale for rule, cost in costs.items() if cost.against}
            gains[column] |= {rule: 0.0 for rule, cost in costs.items() if cost.against is None}
    for title, table in (("regret", pd.DataFrame(regrets)), ("less always CE", pd.DataFrame(gains))):
        print(f"{title}, % of always CE's error")
        print(table.assign(mean=table.mean(axis=1, skipna=False)).round(2).to_string())
    print("leave one study out: the rule with the least mean regret on the other studies, and its own there")
    print(left_out(pd.DataFrame(regrets)).to_string(index=False))


def left_out(regrets: pd.DataFrame) -> pd.DataFrame:
    """For each study, the rule (or always the reference) that is best on the others; ``regrets`` are rules × columns.

    A column is called by its study and a metric. Rules that lack a value count for none.
    """
    table = regrets.drop(index=HINDSIGHT, errors="ignore").dropna()
    studies = pd.Series([column.split(" ")[0] for column in table.columns], index=table.columns)
    # each study counts alike, however many metrics it has
    by_study = table.T.groupby(studies, sort=False).mean().T
    rows = []
    for study in by_study.columns:
        best = by_study.drop(columns=[study]).mean(axis=1).idxmin()
        rows.append(
            {
                "study": study,
                "best on the others": best,
                "its regret %": round(by_study.at[best, study], 2),
                "always CE's %": round(by_study.at["reference", study], 2),
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
