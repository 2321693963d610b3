"""What others find of a study in MLflow: its run's description, its report, and a view of its trials."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import artifacts, output, schema, selection, statistics
from analysis.runs import Study
from study.errors import UserError
from study.servers.mlflow import open_client, tracking_errors, writing

if TYPE_CHECKING:
    from mlflow.entities import Run

#: folder of the report among the study run's artifacts
REPORT = "report"
#: the tag that MLflow shows as a run's description, in Markdown, and its longest value
DESCRIPTION, DESCRIPTION_LENGTH = "mlflow.note.content", 8000
#: the experiment's tag in which MLflow's interface keeps what its button "Share" makes, and the key in the link to it
VIEW, VIEW_KEY = "mlflow.sharedViewState.trials", "trials"
#: MLflow's interface is one for language models unless it is asked for this one
WORKFLOW = "workflowType=machine_learning"


class _Final(Study):
    """A study whose last values are those that MLflow keeps with each run: no trajectory is read."""

    @cached_property
    def final(self) -> pd.DataFrame:
        done = [run for run in self._level("seed") if run.info.status == "FINISHED"]
        # a study may keep no metrics with its seeds' runs
        if any(run.data.tags.get(schema.SEED_POINTS) == "0" for run in done):
            return Study.open(self.tracking_uri, self.name).final
        rows = [
            (int(run.data.tags[schema.TRIAL]), int(run.data.tags[schema.SEED]), metric, value)
            for run in done
            for metric, value in run.data.metrics.items()
        ]
        return pd.DataFrame(rows, columns=["trial", "seed", "metric", "value"])


def attach_report(tracking_uri: str, name: str, page: Path) -> None:
    """Put the page, and the figures beside it as PNG, below ``report`` of the study's run, in place of older ones.

    Raises `UserError` or `analysis.runs.StoreError` where MLflow does not take them.
    """
    run = _study_run(Study.open(tracking_uri, name))
    # a figure of the report is there in both formats, which tells it from an image of the user's own
    figures = [path for path in sorted(page.parent.glob("*.png")) if path.with_suffix(".svg").is_file()]
    with tracking_errors(tracking_uri):
        for path in (page, *figures):
            artifacts.write(tracking_uri, run, path, REPORT)


def describe(tracking_uri: str, name: str) -> None:
    """Write the study run's description, as far as the study is, and the view of the trials that it links to.

    Raises `UserError` or `analysis.runs.StoreError` where MLflow does not take it.
    """
    study = _Final.open(tracking_uri, name)
    client = open_client(tracking_uri)
    with tracking_errors(tracking_uri), writing(tracking_uri):
        experiment = study.experiment.experiment_id
        # the list of experiments shows it
        client.set_experiment_tag(experiment, DESCRIPTION, str(study.settings.get("description") or ""))
        client.set_experiment_tag(experiment, VIEW, json.dumps(_view(study)))
        client.set_tag(_study_run(study).info.run_id, DESCRIPTION, _description(study)[:DESCRIPTION_LENGTH])


def view(tracking_uri: str, name: str) -> str:
    """Where MLflow's interface shows the study's trials, behind its address; empty where MLflow has no such study."""
    client = open_client(tracking_uri)
    with tracking_errors(tracking_uri):
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        return ""
    shared = f"viewStateShareKey={VIEW_KEY}&" if VIEW in experiment.tags else ""
    return f"#/experiments/{experiment.experiment_id}/runs?{shared}{WORKFLOW}"


def _study_run(study: Study) -> Run:
    for run in study.runs:
        if _level(run) == "study":
            return run
    raise UserError(f"MLflow holds trials of study {study.name!r}, but not the study's own run; resume the study")


def _level(run: Run) -> str | None:
    level: str | None = run.data.tags.get(schema.LEVEL)
    return level


def _description(study: Study) -> str:
    # MLflow shows the first lines alone until one asks for more
    paragraphs = [
        str(study.settings.get("description") or "").strip(),
        _where_to_look(study),
        _what(study),
        "Trained on coarse labels alone; the question is which criterion leaves most of the fine labels to be read "
        "from the features.",
        _state(study),
    ]
    if not study.final.empty:
        paragraphs += [_best(study), _table(study)]
    paragraphs.append(_reproduce(study))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _what(study: Study) -> str:
    tags = study.tags
    seeds = len(tags.get(schema.SEEDS, "").split(","))
    data = "" if study.trials.empty else f" {output.data_note(study)}"
    return (
        f"**What**: benchmark {tags.get(schema.BENCHMARK)}, protocol {tags.get(schema.PROTOCOL)}, "
        f"{study.planned_trials} trials, {seeds} seeds each.{data}"
    )


def _state(study: Study) -> str:
    table = study.whole.trials
    done = ((table["state"] == "done") & (table["found"] == table["planned"])).sum()
    failed = [
        f"trial {row.trial}, {row.label} ({row.reason})" for row in table[table["state"] == "failed"].itertuples()
    ]
    text = f"**State**: {done} of {study.planned_trials} trials done with all their seeds."
    return text + (f" Failed: {'; '.join(failed[:5])}{'; …' if len(failed) > 5 else ''}." if failed else "")


def _best(study: Study) -> str:
    """The best point of each searched criterion, with its interval; empty without a search."""
    sentences = []
    for criterion, (best, points) in selection.search(study).items():
        if best is None:
            sentences.append(
                f"no searched point of {study.criterion(criterion).label} is done with all its seeds and feasible"
            )
        else:
            objective = points.loc[points["trial"] == best.trial, "objective"].iloc[0]
            scored_by = selection.scored_by(study)
            score = selection.summary(study, scored_by).get(best.trial) if scored_by else None
            heldout = f" on validation samples, {score} on held-out ones" if score is not None else ""
            sentences.append(f"{best.label} (trial {best.trial}, of {len(points)}) at {objective}{heldout}")
    return f"**Best point** by {selection.rule(study)}: {'; '.join(sentences)}." if sentences else ""


def _table(study: Study) -> str:
    """The main metrics of the trial that speaks for each criterion."""
    metrics = _main(study)
    rows = [["criterion", *(study.metric(metric).label for metric in metrics)]]
    rows.append(["---"] * len(rows[0]))
    for choice in selection.headline(study).values():
        values = (selection.summary(study, metric).get(choice.trial) for metric in metrics)
        rows.append([f"{choice.label} (trial {choice.trial})", *(str(value or "–") for value in values)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    caption = f"Means over seeds after the last epoch, with {statistics.LEVEL:.0%} Student-t intervals."
    return "\n".join(lines) + f"\n\n{caption}"


def _main(study: Study) -> list[str]:
    """Names of the metrics worth showing, the search's objective first."""
    measured = set(map(str, study.final["metric"]))
    objective = selection.scored_by(study) or selection.objective_metric(study)
    fine = [metric.name for metric in study.metrics.values() if metric.fine and metric.name in measured]
    # the question is about fine labels, and a page for any benchmark cannot name what reads them
    others = () if measured & set(fine) & set(study.page.metrics) else fine[:4]
    wanted = [metric for metric in dict.fromkeys((objective, *study.page.metrics, *others)) if metric in measured]
    return wanted or sorted(measured)[:4]


def _reproduce(study: Study) -> str:
    name, tags = study.name, study.tags
    commit = tags.get("mlflow.source.git.commit")
    code = f" Code: commit {commit[:12]}; {tags.get(schema.VERSIONS)}." if commit else ""
    return (
        f"**Reproduce**: `{schema.STUDY_FILE}` among this run's artifacts is the study file as it was resolved: "
        f"`fierce run {schema.STUDY_FILE} --name {name} && fierce report {name}`.{code}"
    )


def _where_to_look(study: Study) -> str:
    metrics = ", ".join(f"`{metric}`" for metric in _main(study)) or "those of its first trial"
    experiment, run = study.experiment.experiment_id, _study_run(study).info.run_id
    report = f"#/experiments/{experiment}/runs/{run}/artifacts/{REPORT}/report.html?{WORKFLOW}"
    trials = f"#/experiments/{experiment}/runs?viewStateShareKey={VIEW_KEY}&{WORKFLOW}"
    return (
        f"**Look at**: [the report]({report}), written by `fierce report`; [the trials by criterion]({trials}), each "
        f"with a run for every seed; [their trajectories as charts]({trials}&compareRunsMode=CHART): {metrics}; in "
        f"optuna-dashboard, the study of the same name."
    )


def _view(study: Study) -> dict[str, Any]:
    """The trials by criterion with the columns worth showing, as MLflow's interface describes a shared view."""
    read = [name for name in study.axes if study.trials[name].notna().any()]
    return {
        "searchFilter": f"tags.`{schema.LEVEL}` = 'trial'",
        "selectedColumns": [
            *(f"params.`{name}`" for name in read),
            *(f"metrics.`{metric}`" for metric in _main(study)),
            f"tags.`{schema.ROLE}`",
        ],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": schema.CRITERION}]},
        # a searched criterion's points differ, so that charts show each trial and not the mean of all
        "useGroupedValuesInCharts": False,
    }
