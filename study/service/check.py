"""``fierce check``: a study's own code tried here on a few batches, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from study.errors import UserError
from study.file.plan import fixed_points, name_of, trial_for
from study.file.spec import StudySpec
from study.launch.preflight import check_data

if TYPE_CHECKING:
    from trainables.conformance import Finding
    from trainables.trial import Trial


def examine(source: str, overrides: Sequence[str] = ()) -> Iterator[Finding]:
    """What is found of the study file ``source``, check by check; see `trainables.conformance`."""
    import torch

    from trainables import conformance
    from trainables.benchmarks import find
    from trainables.own_code import own_traceback
    from trainables.remote_data import fetched

    try:
        spec = StudySpec.load(source, overrides)
    except UserError as error:
        traceback = next(filter(None, map(own_traceback, _reasons(error))), "")
        # a slip in the file is said as every command says it
        if not traceback:
            raise
        yield conformance.Finding("study file", False, str(error), traceback)
        return
    yield conformance.Finding("study file", True, f"{spec.name}: {spec.benchmark.name}")
    device = "cuda" if spec.resources.needs_gpu and torch.cuda.is_available() else "cpu"
    options = fetched(find(spec.benchmark.name).Options, spec.benchmark.options)
    points = trials_of(spec)
    trials, names = [replace(point, options=options) for point in points], [name_of(spec, point) for point in points]
    required = tuple(spec.search.metrics) if spec.search else ()
    failed = False
    for finding in conformance.examine(trials, device, required, names):
        failed |= not finding.ok
        yield finding
    if not failed:
        yield conformance.attempt("search and cadence", lambda: _check_study(spec))


def _reasons(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that pydantic met on the way and does not chain."""
    if error is not None:
        yield error
    while error is not None:
        if isinstance(error, ValidationError):
            met = (details.get("ctx", {}).get("error") for details in error.errors())
            yield from (error for error in met if isinstance(error, BaseException))
        error = error.__cause__ or error.__context__


def _check_study(spec: StudySpec) -> str:
    warnings = [f"; warning: {warning}" for warning in check_data(spec).splitlines()]
    return f"metrics and evaluators that the study names are there{''.join(warnings)}"


def trials_of(spec: StudySpec) -> list[Trial]:
    """For each criterion its first and last fixed points, and the lower and upper ends of what is searched."""
    points: dict[str, list[Trial]] = {}
    for point in fixed_points(spec):
        points.setdefault(point.trial.criterion, []).append(point.trial)
    for criterion in spec.search.criteria if spec.search else ():
        assert spec.search is not None
        space = spec.search.space(criterion)
        ends = [{name: interval.ends[end] for name, interval in space.items()} for end in (0, 1)]
        points.setdefault(criterion, []).extend(trial_for(spec, criterion, values) for values in ends)
    return [trial for series in points.values() for trial in (series if len(series) == 1 else (series[0], series[-1]))]
