"""A study from Python, as in a notebook: run it, look how far it is, read it, draw it, take its networks along.

>>> from study import api
>>> study = api.load("quickstart", ["seeds=2", "training.epochs=3"])
>>> study.name, study.spec.seeds
('quickstart', (0, 1))
"""

from __future__ import annotations

import base64
import html
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import UserError
from study.file.spec import StudySpec
from study.home import Home

# Ray, MLflow and torch take seconds to import
if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import nn

    from analysis import runs
    from analysis.output import Section
    from study.launch.observer import Observer
    from study.launch.sweep import Outcome
    from study.record.status import StudyStatus
    from trainables.trained import Trained
    from trainables.trial import Trial


def load(
    source: str | Path, overrides: Sequence[str] = (), name: str | None = None, home: str | Path | None = None
) -> Study:
    """The study of a study file, or the ready-made one of that name, with ``key.path=value`` overrides.

    ``home`` is the folder of the studies, else ``FIERCE_HOME``, else ``./fierce-home``. Raises `study.errors.UserError`
    with one sentence for a file that is wrong.
    """
    return Study(StudySpec.load(source, overrides, name), Home.find(home))


def reopen(name: str, home: str | Path | None = None) -> Study:
    """A study that was run before, by its name; raises `study.errors.UserError` where there is none."""
    from study.record.files import load_spec

    at = Home.find(home)
    return Study(load_spec(at, name), at)


@dataclass(frozen=True)
class Study:
    """A study: its file as checked, and the home that it is kept in. Each call reads what is there by then."""

    spec: StudySpec
    home: Home

    @property
    def name(self) -> str:
        return self.spec.name

    def run(
        self, observer: Observer | None = None, address: str | None = None, *, retry_failed: bool = False
    ) -> Outcome:
        """Train what is missing of the study, and say how many trials are done, failed and missing.

        Progress is shown, or told to ``observer`` (`study.launch.observer`). ``address`` is a Ray cluster's, else
        ``RAY_ADDRESS``, else Ray runs on this machine for the time being. Interrupting the cell lets each trial save
        itself, and the next call goes on. Raises `study.errors.UserError`, or `trainables.benchmarks.DataError` of
        the data, with one sentence.
        """
        from rich.console import Console

        from study.launch import sweep
        from study.launch.preflight import preflight
        from study.launch.progress import StudyProgress
        from study.servers.checks import check_ray, check_servers
        from study.service.running import describe

        address = address or os.environ.get("RAY_ADDRESS")
        if warning := preflight(self.spec, address):
            warnings.warn(warning, stacklevel=2)
        self.home.prepare()
        check_ray(address)
        uri = self.home.tracking_uri(self.spec)
        check_servers(uri, self.home.optuna_uri(self.spec), self.home.storage(self.spec))
        with ExitStack() as shown:
            watched = observer or shown.enter_context(StudyProgress(self.spec, Console()))
            outcome = sweep.run(self.spec, self.home, watched, address, retry_failed=retry_failed)
        with _same_backend():
            describe(uri, self.name)
        return outcome

    def status(self) -> StudyStatus:
        """What is done, running, failed and missing by trial and seed, while another process runs it as well."""
        from study.record.status import read

        return read(self.home, self.name)

    def recorded(self) -> runs.Study:
        """What MLflow holds of the study, read anew; raises `analysis.runs.StudyNotFound` where it was never run."""
        from analysis import runs

        return runs.Study.open(self.home.tracking_uri(self.spec), self.name)

    def trials(self) -> pd.DataFrame:
        """One row per trial: number, label, criterion, hyperparameters, state, …; see `analysis.runs.Study.trials`."""
        return self.recorded().whole.trials

    def frame(self) -> pd.DataFrame:
        """Every value of every metric, tidy: trial, criterion, hyperparameters, seed, metric, epoch, value."""
        return self.recorded().whole.frame

    def draw(self, section: Callable[[runs.Study, Path], Section | None] | None = None) -> Drawn:
        """A section of the report, shown where it is a cell's value: its figures, tables and sentences.

        ``section`` is any module's of `analysis` by that name, or one of your own; by default the trajectories.
        """
        with _same_backend(), tempfile.TemporaryDirectory() as scratch:
            from analysis import trajectories

            made = (section or trajectories.section)(self.recorded(), Path(scratch))
            return Drawn("" if made is None else _as_html(made), made)

    def network(self, trial: int, seed: int) -> Network:
        """The trained network of a ``seed`` of the trial of that number, with its benchmark's data loaded.

        Raises `study.errors.UserError` where there is none.
        """
        import torch

        from study.file.plan import trial_for
        from study.launch.placement import split
        from trainables.assignment import Shard
        from trainables.trained import Trained

        recorded = self.recorded().whole
        rows = {int(row["trial"]): row for row in recorded.trials.to_dict("records")}
        if trial not in rows or seed not in rows[trial]["planned"]:
            raise UserError(f"study {self.name!r} has no seed {seed} of a trial {trial}: see its trials()")
        row = rows[trial]
        values = {name: row[name] for name in recorded.hyperparameters if row[name] == row[name]}
        planned = trial_for(self.spec, row["criterion"], values, row["role"])
        addition, together = self._trained_together(trial, seed, planned.seeds)
        for parts in range(1, len(together) + 1):
            shards = split(together, parts)
            position = next(place for place, seeds in enumerate(shards) if seed in seeds)
            content = _weights(recorded, trial, Shard(position, parts), addition)
            if content is not None:
                read = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                return Network(Trained(_of_seeds(planned, shards[position]), read), seed)
        raise UserError(
            f"trial {trial} of study {self.name!r} has no weights yet ({row['state']}): run the study to its end"
        )

    def _trained_together(self, trial: int, seed: int, planned: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """How many times seeds had been added to the trial before this one was, and the seeds given to it with this."""
        from study.record import status, trials

        study = status.optuna_study(self.spec, self.home)
        given = trials.additions(self.spec, study, trial) if study is not None else [planned]
        return next(((time, seeds) for time, seeds in enumerate(given) if seed in seeds), (0, planned))


@dataclass(frozen=True)
class Drawn:
    """What a notebook shows of a section: ``html`` holds its figures; ``section`` has the tables as frames."""

    html: str
    section: Section | None

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True)
class Network:
    """The trained network of one seed. ``trained`` has those of the seeds that were trained beside it."""

    trained: Trained
    seed: int

    @property
    def module(self) -> nn.Module:
        """The torch module of all of those seeds, in evaluation mode: see `trainables.trained.Trained.network`."""
        return self.trained.network

    @property
    def inputs(self) -> np.ndarray:
        """The benchmark's own inputs (N, …) as it stores them, which is the form of new ones."""
        return self.trained.inputs.cpu().numpy()

    def features(self, inputs: Any) -> np.ndarray:
        """Features (n, d) of new ``inputs`` (n, …): an array or tensor of samples as the benchmark stores them."""
        return self.trained.features(inputs, self.seed)

    def probabilities(self, inputs: Any) -> Mapping[str, np.ndarray]:
        """What the network says of new ``inputs``, as `features`: coarse class -> probability (n,)."""
        from scipy.special import softmax

        shares = softmax(self.trained.logits(inputs, self.seed), axis=1)
        return dict(zip(self.trained.class_names, shares.T, strict=True))


@contextmanager
def _same_backend() -> Iterator[None]:
    """Figures are written to files by a backend without windows; a notebook's own is as it was afterwards."""
    import matplotlib as mpl

    before = mpl.get_backend()
    try:
        yield
    finally:
        mpl.use(before)


def _of_seeds(trial: Trial, seeds: tuple[int, ...]) -> Trial:
    """The trial with its data at hand, of the ``seeds`` that were trained together."""
    from trainables.benchmarks import find
    from trainables.remote_data import fetched

    return replace(trial, seeds=seeds, options=fetched(find(trial.benchmark).Options, trial.options))


def _weights(recorded: runs.Study, trial: int, shard: tuple[int, int], addition: int) -> bytes | None:
    from analysis import artifacts, schema

    wanted = {schema.LEVEL: "trial", schema.TRIAL: str(trial)}
    run = next(run for run in recorded.runs if wanted.items() <= run.data.tags.items())
    return artifacts.read(recorded.tracking_uri, run, schema.weights_file(*shard, addition))


def _as_html(section: Section) -> str:
    from analysis.output import Figure, Table

    parts = [f"<h3>{html.escape(section.title)}</h3>"]
    for item in section.items:
        if isinstance(item, Figure):
            image = base64.b64encode(item.png.read_bytes()).decode()
            parts.append(f'<img src="data:image/png;base64,{image}" alt="{html.escape(item.caption)}">')
        elif isinstance(item, Table):
            parts.append(item.frame.to_html(index=False))
        parts.append(f"<p>{html.escape(item if isinstance(item, str) else item.caption)}</p>")
    return "\n".join(parts)
