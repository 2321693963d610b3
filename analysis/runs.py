"""A study as it stands in MLflow: one tidy frame of trajectories, one row per trial, the study file, the arrays.

Which criteria, hyperparameters and metrics there are, and how they are called, the study itself declares.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import yaml
from mlflow.entities import Experiment, Run

from analysis import artifacts, declarations, dialect, legacy, pages, runless, schema, store
from analysis.addresses import without_login, without_logins
from analysis.columns import history_of
from analysis.declarations import Criterion, Hyperparameter, Metric
from analysis.numbers import number
from analysis.pages import Page
from analysis.store import StoreError, StudyNotFound

__all__ = ["DuplicateRows", "StoreError", "Study", "StudyNotFound", "load", "trials"]

Declared = TypeVar("Declared")

#: MLflow's run status -> how a trial or replica stands
STATES: Mapping[str, str] = {
    "FINISHED": "done",
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FAILED": "failed",
    "KILLED": "stopped",
}


@dataclass(frozen=True)
class Parts:
    """How a trial's data was split: the samples of each part, and whether each seed holds out others."""

    sizes: Mapping[str, int]
    redrawn: bool


class DuplicateRows(StoreError):
    """A replica, or a value of one, is there twice, so that no mean over seeds could be trusted."""


def load(tracking_uri: str, study: str) -> pd.DataFrame:
    """Every trajectory of every replica, tidy: the columns of `Study.columns`, one row per value.

    ``study``, ``criterion``, ``protocol`` and ``metric`` are categorical; a hyperparameter is NaN where the criterion
    does not read it; ``epoch`` counts from 1. Deleted runs are left out. Raises `StudyNotFound`, `DuplicateRows`, or
    `StoreError` where the store cannot be read.
    """
    return Study.open(tracking_uri, study).whole.frame


def trials(tracking_uri: str, study: str) -> pd.DataFrame:
    """One row per trial of the study; see `Study.trials`. Raises as `load` does."""
    return Study.open(tracking_uri, study).whole.trials


@dataclass(frozen=True, eq=False)
class Study:
    """One study's runs, read once; values, study file, declarations and arrays are read when first asked for.

    ``page_module`` names a page to report it by, in place of its benchmark's own; see `analysis.pages.find`. ``part``
    says which trials are seen: those of the plan, those that ``confirm`` what a search chose, on other seeds, or all.
    """

    name: str
    tracking_uri: str
    experiment: Experiment
    runs: Sequence[Run]
    page_module: str = ""
    part: Literal["plan", "confirm", "all"] = "plan"

    @classmethod
    def open(cls, tracking_uri: str, name: str, page_module: str = "") -> Study:
        """Find the study ``name``; raises `StudyNotFound` or `StoreError`."""
        return cls(name, tracking_uri, *store.find(tracking_uri, name), page_module)

    @cached_property
    def whole(self) -> Study:
        """The study with all its trials."""
        return replace(self, part="all")

    @cached_property
    def confirmation(self) -> Study:
        """The study as the trials alone that confirm what a search chose; without any where there are none."""
        return replace(self, part="confirm")

    @property
    def benchmark(self) -> str:
        """The benchmark's name in the study file."""
        return next(iter(self.trials["benchmark"]), str(self.tags.get(schema.BENCHMARK, "")))

    @cached_property
    def page(self) -> Page:
        """The page that it is reported by. Raises `analysis.pages.PageError`."""
        return pages.find(self.benchmark, self.page_module)

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that the study declares, by name, in order; see `metric` for one that it does not."""
        return self._declared(schema.METRICS_FILE, declarations.read_metrics, legacy.METRICS)

    @cached_property
    def criteria(self) -> Mapping[str, Criterion]:
        """The criteria, by name, in the order of figures and tables: those declared, then others that have a trial."""
        declared = self._declared(schema.CRITERIA_FILE, declarations.read_criteria, legacy.CRITERIA)
        there = sorted({run.data.tags[schema.CRITERION] for run in self._level("trial")} - declared.keys())
        return {**declared, **{name: legacy.CRITERIA.get(name) or Criterion(name, name) for name in there}}

    @cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names of the criteria's hyperparameters, in the order of columns."""
        declared = [
            hyperparameter.name for criterion in self.criteria.values() for hyperparameter in criterion.hyperparameters
        ]
        first = [name for name in legacy.HYPERPARAMETERS if name in declared]
        return tuple(dict.fromkeys([*first, *declared]))

    @cached_property
    def varied(self) -> tuple[Hyperparameter, ...]:
        """The training settings and options that differ between trials, in the order of columns."""
        text = self.tags.get(schema.VARIED, "")
        declared = declarations.read_settings(text.encode()) if text else ()
        runs = self.whole._level("trial")
        return tuple(each for each in declared if len({run.data.params.get(each.name) for run in runs}) > 1)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of what tells the study's trials apart: hyperparameters, and the settings that are `varied`."""
        return (*self.hyperparameters, *(each.name for each in self.varied))

    @cached_property
    def reference(self) -> str:
        """Name of the criterion that the others are compared with; the study need not have a trial of it."""
        criteria = [*self.criteria.values(), *legacy.CRITERIA.values()]
        return next(criterion.name for criterion in criteria if criterion.reference)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of `frame`, in order."""
        # those who read exported frames expect the columns that these always had, so they come first
        read = tuple(dict.fromkeys([*legacy.HYPERPARAMETERS, *self.axes]))
        return ("study", "trial", "criterion", "protocol", *read, "seed", "metric", "epoch", "value")

    def metric(self, name: str) -> Metric:
        """The metric of that name, under its name alone where it is not declared."""
        return self.metrics.get(name) or Metric(name, name)

    def criterion(self, name: str) -> Criterion:
        """The criterion of that name, under its name alone where the study has none of it."""
        return self.criteria.get(name) or legacy.CRITERIA.get(name) or Criterion(name, name)

    def rank(self, criterion: str) -> int:
        """Place of a criterion in figures and tables, from 0."""
        return list(self.criteria).index(criterion)

    def label(self, criterion: str, values: Mapping[str, float | str], digits: int = 4) -> str:
        """How a trial is called in figures and tables: ``FIERCE λ=1 e=100``, ``values`` of `axes` to so many digits."""
        declared = self.criterion(criterion)
        own = {each.symbol: values.get(each.name, np.nan) for each in (*declared.hyperparameters, *self.varied)}
        read = [f"{symbol}={_shown(value, digits)}" for symbol, value in own.items() if not pd.isna(value)]
        return " ".join([declared.label, *read])

    def labels(self, trials: Sequence[tuple[int, str, Mapping[str, float | str]]]) -> list[str]:
        """Labels of ``trials`` (number, criterion, values of `axes`), each unlike the others.

        Values have as many digits as tell the settings apart; two trials of one setting have their number behind.
        """
        labels = [self.label(criterion, values) for _, criterion, values in trials]
        for digits in (5, 7, 10, 17):
            again = {label for label in labels if labels.count(label) > 1}
            for place, (_, criterion, values) in enumerate(trials):
                if labels[place] in again:
                    labels[place] = self.label(criterion, values, digits)
        again = {label for label in labels if labels.count(label) > 1}
        named = zip(trials, labels, strict=True)
        return [f"{label} (trial {number})" if label in again else label for (number, *_), label in named]

    @cached_property
    def replicas(self) -> pd.DataFrame:
        """One row per replica: trial, seed, run_id, state (done, running, failed, stopped), reason."""
        rows = [
            {
                "trial": int(run.data.tags[schema.TRIAL]),
                "seed": int(run.data.tags[schema.SEED]),
                "run_id": run.info.run_id,
                "state": STATES[run.info.status],
                "reason": run.data.tags.get(schema.REASON, ""),
            }
            for run in self._level("seed")
        ]
        table = pd.DataFrame(rows, columns=["trial", "seed", "run_id", "state", "reason"])
        table = table.sort_values(["trial", "seed"], ignore_index=True)
        twice = table[table.duplicated(["trial", "seed"])]
        if len(twice):
            first = twice.iloc[0]
            raise DuplicateRows(
                f"study {self.name!r} has two runs of trial {first.trial}, seed {first.seed}: delete one of them in "
                f"MLflow (one is {first.run_id})"
            )
        return table

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial, in order of its number.

        Columns: trial, label, criterion, protocol, benchmark, those of `axes` (NaN where not read), role,
        repeats (the number of the trial that it trains again on fresh seeds, −1 for none), state, planned (tuple of
        seeds), found (tuple of the seeds whose run is done), data_name, provenance, fingerprint, description, classes
        (names), epochs (planned; NaN where unknown), reason.
        """
        rows: list[dict[str, Any]] = []
        by_trial = {number: self.replicas[self.replicas["trial"] == number] for number in set(self.replicas["trial"])}
        for run in self._level("trial"):
            tags = run.data.tags
            number = int(tags[schema.TRIAL])
            replicas = by_trial.get(number, self.replicas.iloc[:0])
            hyperparameters = self._settings(run)
            reasons = [tags.get(schema.REASON, ""), *replicas["reason"]]
            rows.append(
                {
                    "trial": number,
                    "label": "",
                    "criterion": tags[schema.CRITERION],
                    "protocol": tags.get(schema.PROTOCOL, ""),
                    "benchmark": tags.get(schema.BENCHMARK, ""),
                    **hyperparameters,
                    "role": tags.get(schema.ROLE, ""),
                    "repeats": int(tags.get(schema.REPEATS, -1)),
                    "state": STATES[run.info.status],
                    "planned": _seeds(tags.get(schema.SEEDS, "")),
                    "found": tuple(int(seed) for seed in replicas.loc[replicas["state"] == "done", "seed"]),
                    "data_name": tags.get(schema.DATA_NAME, ""),
                    "provenance": tags.get(schema.DATA_PROVENANCE, ""),
                    "fingerprint": tags.get(schema.DATA_FINGERPRINT, ""),
                    "description": tags.get(schema.DATA_DESCRIPTION, ""),
                    "classes": _names(tags.get(schema.DATA_CLASSES, "[]")),
                    "epochs": float(run.data.params.get("training.epochs", "nan")),
                    "reason": "; ".join(dict.fromkeys(reason for reason in reasons if reason)),
                }
            )
        settings: Any = [(row["trial"], row["criterion"], {name: row[name] for name in self.axes}) for row in rows]
        for row, label in zip(rows, self.labels(settings), strict=True):
            row["label"] = label
        columns = [
            "trial",
            "label",
            "criterion",
            "protocol",
            "benchmark",
            *self.axes,
            "role",
            "repeats",
            "state",
        ]
        columns += [
            "planned",
            "found",
            "data_name",
            "provenance",
            "fingerprint",
            "description",
            "classes",
            "epochs",
            "reason",
        ]
        table = pd.DataFrame(rows, columns=columns).sort_values("trial", ignore_index=True)
        twice = table[table.duplicated("trial")]
        if len(twice):
            raise DuplicateRows(
                f"study {self.name!r} has two runs of trial {twice.iloc[0].trial}: delete one of them in MLflow"
            )
        return table

    @cached_property
    def parts(self) -> Mapping[int, Parts]:
        """By trial, how its data was split; trials that don't say so are left out, as those of before 0.2."""
        tagged = (run.data.tags for run in self._level("trial"))
        return {
            int(tags[schema.TRIAL]): Parts(**json.loads(tags[schema.PARTS])) for tags in tagged if schema.PARTS in tags
        }

    @cached_property
    def splits(self) -> Mapping[int, Mapping[int, str]]:
        """By trial and seed, a digest of which samples are in which part; without those that don't say, as before 0.2.

        Trials of one study and seed have one split.
        """
        found: dict[int, dict[int, str]] = {}
        for run in self._level("seed"):
            tags = run.data.tags
            if schema.SPLIT in tags:
                found.setdefault(int(tags[schema.TRIAL]), {})[int(tags[schema.SEED])] = tags[schema.SPLIT]
        return found

    def class_name(self, number: int) -> str:
        """Name of a coarse class, or ``class 3`` where the study does not hold it."""
        names = next((names for names in self.trials["classes"] if number < len(names)), ())
        return names[number] if names and number >= 0 else f"class {number}"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The tidy frame; see `load`."""
        runs = self._level("seed")
        trials = self._level("trial")
        history = history_of(self.tracking_uri, self.experiment.experiment_id, trials, runs)
        position = history["run"].to_numpy()
        tags = [run.data.tags for run in runs]
        columns: dict[str, Any] = {
            "study": pd.Categorical.from_codes(np.zeros(len(history), np.int64), pd.Index([self.name])),
            "trial": np.array([int(tag[schema.TRIAL]) for tag in tags], np.int64)[position],
            "criterion": _category([tag[schema.CRITERION] for tag in tags], position),
            "protocol": _category([tag.get(schema.PROTOCOL, "") for tag in tags], position),
        }
        # a seed's run has them only once its first metrics are there
        parents = {run.data.tags[schema.TRIAL]: run for run in trials}
        settings = [self._settings(parents.get(run.data.tags[schema.TRIAL], run)) for run in runs]
        columns |= dict.fromkeys(legacy.HYPERPARAMETERS, np.full(len(history), np.nan))
        for name in self.hyperparameters:
            columns[name] = np.array([setting[name] for setting in settings], np.float64)[position]
        if self.varied:
            # a trial's own run has all of them, whenever it was made
            own = self.trials.set_index("trial")
            for each in self.varied:
                columns[each.name] = own[each.name].reindex(columns["trial"]).to_numpy()
        columns["seed"] = np.array([int(tag[schema.SEED]) for tag in tags], np.int64)[position]
        columns |= {name: history[name].array for name in ("metric", "epoch", "value")}
        frame = pd.DataFrame(columns, columns=list(self.columns))
        frame = frame.sort_values(["trial", "seed", "metric", "epoch"], ignore_index=True, kind="stable")
        twice = frame.duplicated(["trial", "seed", "metric", "epoch"])
        if twice.any():
            first = frame[twice].iloc[0]
            raise DuplicateRows(
                f"study {self.name!r} holds {int(twice.sum())} values twice, the first {first.metric} of trial "
                f"{first.trial}, seed {first.seed}, epoch {first.epoch}: delete that run in MLflow and resume the study"
            )
        return frame

    @cached_property
    def courses(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """metric -> columns trial, seed, epoch and value of its rows of `frame`: to select rows takes much longer."""
        return by_metric(self.frame, ("trial", "seed", "epoch", "value"))

    @cached_property
    def ends(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """metric -> columns trial, seed and value of its rows of `final`."""
        return by_metric(self.final, ("trial", "seed", "value"))

    @cached_property
    def final(self) -> pd.DataFrame:
        """Rows of `frame` at the last epoch, of the replicas that are done.

        The last epoch is the planned one of each trial, or the study's last where that is not known; a trial that
        was stopped earlier has none.
        """
        done = self.replicas.loc[self.replicas["state"] == "done", ["trial", "seed"]]
        frame = self.frame
        if frame.empty:
            return frame
        last = self.trials.set_index("trial")["epochs"].fillna(frame["epoch"].max())
        rows = frame[frame["epoch"].to_numpy() == frame["trial"].map(last).to_numpy()]
        merged: pd.DataFrame = rows.merge(done, on=["trial", "seed"])
        return merged

    @cached_property
    def file(self) -> str:
        """The resolved study file, as YAML without passwords; empty where none was kept.

        `StoreError` where one was: without it a search would seem to be none.
        """
        own = self._level("study")
        for run in own:
            text = artifacts.read(self.tracking_uri, run, schema.STUDY_FILE)
            if text is not None:
                # the numbers are readable in any encoding, so only the letters that are not are replaced
                return without_logins(text.decode("utf-8", errors="replace"))
        # stores of before studies had an identity never held the file, so it is not missing there
        if own and not any(run.data.tags.get(schema.IDENTITY) for run in own):
            return ""
        where = "is no longer among the artifacts of" if own else "was deleted with"
        raise StoreError(
            f"the file of study {self.name!r} {where} the study's run in {without_login(self.tracking_uri)}: resume "
            "the study, which writes it again"
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The study file's content; empty where none was kept, `StoreError` where it cannot be read."""
        if not self.file:
            return {}
        try:
            settings = dialect.load(self.file)
        except (yaml.YAMLError, ValueError):
            settings = None
        if not isinstance(settings, dict):
            raise StoreError(
                f"the file of study {self.name!r} among the artifacts of the study's run in "
                f"{without_login(self.tracking_uri)} is damaged: resume the study, which writes it again"
            )
        return settings

    @property
    def planned_trials(self) -> int:
        """How many trials the study plans; those that are there where that was not written down."""
        counts = [run.data.tags.get(schema.PLANNED_TRIALS) for run in self._level("study")]
        return int(next((count for count in counts if count), len(self.trials)))

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the study's run: source commit, versions, description."""
        return next((dict(run.data.tags) for run in self._level("study")), {})

    def arrays(self, trial: int, seed: int) -> dict[str, np.ndarray]:
        """Arrays kept after a replica's last epoch, by name; empty where there are none (see `lost`)."""
        if (trial, seed) not in self._arrays:
            run = next(
                (
                    run
                    for run in self._level("seed")
                    if (int(run.data.tags[schema.TRIAL]), int(run.data.tags[schema.SEED])) == (trial, seed)
                ),
                None,
            )
            self._arrays[trial, seed] = {} if run is None else self._read_arrays(run, (trial, seed))
        return self._arrays[trial, seed]

    def _read_arrays(self, run: Run, replica: tuple[int, int]) -> dict[str, np.ndarray]:
        own, prefix = run, ""
        if not runless.has_run(run):
            own = next(each for each in self._level("trial") if each.data.tags[schema.TRIAL] == str(replica[0]))
            prefix = f"{replica[1]}/"
        stem = schema.ARRAYS.split(".")[0]
        for name in sorted(name for name in artifacts.kept(own) if name.startswith(stem)) or [schema.ARRAYS]:
            content = artifacts.read(self.tracking_uri, own, name)
            if content is None and name in artifacts.kept(own):
                self._unreadable.add(replica)
            if content is None:
                continue
            try:
                with np.load(io.BytesIO(content), allow_pickle=False) as file:
                    if found := {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}:
                        return found
            # a file that was cut off may raise any error
            except Exception:
                self._unreadable.add(replica)
        return {}

    @property
    def lost(self) -> list[tuple[int, int]]:
        """(trial, seed) of those whose `arrays` were asked for, were kept, and are no longer there or damaged.

        All replicas of a study keep the same ones: those that say nothing themselves lack theirs where others do not.
        """
        some = any(self._arrays.values())
        return sorted(
            replica for replica, arrays in self._arrays.items() if not arrays and (some or replica in self._unreadable)
        )

    @cached_property
    def _arrays(self) -> dict[tuple[int, int], dict[str, np.ndarray]]:
        return {}

    @cached_property
    def _unreadable(self) -> set[tuple[int, int]]:
        return set()

    def _declared(
        self, file: str, read: Callable[[bytes], Mapping[str, Declared]], old: Mapping[str, Declared]
    ) -> Mapping[str, Declared]:
        """What the study's run declares in ``file``; ``old`` where it was begun before studies did."""
        for run in self._level("study"):
            content = artifacts.read(self.tracking_uri, run, file)
            if content is not None:
                try:
                    return read(content)
                except ValueError as error:
                    raise StoreError(
                        f"{file} of study {self.name!r} in {without_login(self.tracking_uri)} cannot be read "
                        f"({error}): run or resume the study, which writes it again"
                    ) from error
        return old

    def _settings(self, run: Run) -> dict[str, Any]:
        params = run.data.params
        found: dict[str, Any] = {name: float(params.get(name, "nan")) for name in self.hyperparameters}
        for setting in self.varied:
            value = params.get(setting.name)
            is_text = value is not None and setting.name in self._words
            found[setting.name] = value if is_text else float(value or "nan")
        return found

    @cached_property
    def _words(self) -> frozenset[str]:
        """The settings that vary of which some value is no number: all of theirs are text."""
        held = [(each.name, run.data.params.get(each.name, "nan")) for run in self.runs for each in self.varied]
        return frozenset(name for name, value in held if not _is_number(value))

    def _level(self, level: str) -> list[Run]:
        """The runs of a level, of those trials that are seen."""
        at_level = [run for run in self.runs if run.data.tags.get(schema.LEVEL) == level]
        if self.part == "all" or level == "study":
            return at_level
        wanted = self.part == "confirm"
        return [run for run in at_level if (run.data.tags[schema.TRIAL] in self._confirming) == wanted]

    @cached_property
    def _confirming(self) -> frozenset[str]:
        """Numbers of the trials that confirm."""
        tagged = (run.data.tags for run in self.runs)
        return frozenset(tags[schema.TRIAL] for tags in tagged if tags.get(schema.ROLE) == schema.CONFIRM)


def spread(rows: pd.DataFrame, index: str, columns: str) -> pd.DataFrame:
    """``rows`` with their values laid out over two of their columns, NaN where there is none.

    What `DataFrame.pivot` gives of rows that are there once, in a tenth of its time.
    """
    return laid_out({name: rows[name].to_numpy() for name in (index, columns)}, rows["value"].to_numpy())


def laid_out(axes: Mapping[str, np.ndarray], value: np.ndarray) -> pd.DataFrame:
    """``value`` (n) laid out over two ``axes`` (n), the index and the columns, each with its name."""
    (down, row), (across, column) = (np.unique(each, return_inverse=True) for each in axes.values())
    values = np.full((len(down), len(across)), np.nan)
    values[row, column] = value
    index, columns = (pd.Index(each, name=name) for name, each in zip(axes, (down, across), strict=True))
    return pd.DataFrame(values, index, columns)


def by_metric(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """metric -> the ``columns`` of its ``rows``."""
    codes, names = pd.factorize(rows["metric"])
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))[:-1]
    parts = {name: np.split(rows[name].to_numpy()[order], ends) for name in columns}
    return {str(metric): {name: parts[name][place] for name in parts} for place, metric in enumerate(names)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: float | str, digits: int) -> str:
    return value if isinstance(value, str) else number(value, digits)


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(seed) for seed in text.split(",") if seed)


def _names(text: str) -> tuple[str, ...]:
    """Names of the classes; none where the tag was cut off."""
    try:
        return tuple(json.loads(text))
    except ValueError:
        return ()


def _category(values: Iterable[str], position: np.ndarray) -> pd.Categorical:
    codes, names = pd.factorize(np.array(list(values), dtype=object))
    return pd.Categorical.from_codes(codes[position], pd.Index(names))
