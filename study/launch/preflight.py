"""Whether this machine can run a study: its resources and data are looked at before anything starts."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from study.errors import UserError
from study.file import settings
from study.file.document import dotted
from study.file.plan import lopsided, recipe, trial_for
from study.file.spec import StudySpec
from study.servers import versions
from study.servers.logins import require_no_secrets
from study.servers.reach import is_local, stored_file

if TYPE_CHECKING:
    from trainables.benchmarks import Benchmark, Data, Split
    from trainables.evaluators import Evaluator

log = logging.getLogger(__name__)

#: benchmark -> what tells its data from others, as far as this process has loaded it
_digests: dict[str, str] = {}


def preflight(spec: StudySpec, address: str | None = None) -> str:
    """Refuse what this machine cannot run, before anything starts; `UserError` with one sentence.

    With ``address`` the trials run elsewhere, and neither devices nor data are looked for here. Returns warnings, each
    a line of one sentence, empty where there are none.
    """
    versions.require()
    require_no_secrets(spec)
    if not is_local(address):
        return lopsided(spec)
    _check_resources(spec)
    return check_data(spec)


def _check_resources(spec: StudySpec) -> None:
    cores = os.cpu_count() or 1
    if spec.resources.cpus > cores:
        raise UserError(
            f"resources.cpus: {spec.resources.cpus:g} cores are asked for and this machine has {cores}; lower it"
        )
    if spec.resources.needs_gpu:
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"resources.gpus: a GPU ({spec.resources.gpus}) is asked for and torch finds none on this machine; "
                "set it to 0, or give the address of a cluster that has one"
            )


def check_data(spec: StudySpec) -> str:
    """Load the benchmark's data once, and try a network of one's own, so that a fault is known before any trial.

    Returns warnings, each a line of one sentence, empty where there are none.
    """
    import torch
    from pydantic import TypeAdapter

    from trainables import contract, network_contract
    from trainables.benchmarks import BENCHMARKS, DataError, find
    from trainables.own_code import data_digest
    from trainables.remote_data import addresses, fetched
    from trainables.replicas import stream

    benchmark = find(spec.benchmark.name)
    for name, values in addresses(benchmark.Options, spec.benchmark.options).items():
        for value in values:
            stored_file(f"benchmark.{name}", value)
    options: Any = TypeAdapter(benchmark.Options).validate_python(fetched(benchmark.Options, spec.benchmark.options))
    training = recipe(spec)
    own = contract.own_network(spec.benchmark.name, options)
    try:
        data = contract.load(benchmark, options, getattr(torch, training.dtype))
    except Exception as error:
        # a user's own benchmark may raise any error
        if spec.benchmark.name in BENCHMARKS or isinstance(error, DataError):
            raise
        raise UserError(
            f"benchmark.name: {spec.benchmark.name} cannot load its data: {type(error).__name__}: {error}"
        ) from error
    _digests[spec.benchmark.model_dump_json()] = data_digest(spec.benchmark.name, data)
    try:
        evaluators = contract.examine(benchmark, data, options, training, spec.seeds, network=own)
    except network_contract.NetworkError:
        # a network written for a GPU may fail on this CPU, which then says nothing of it
        if not spec.resources.needs_gpu:
            raise
        evaluators = contract.examine(benchmark, data, options, training, spec.seeds, network=False)
    names = {evaluator.name for evaluator in evaluators}
    for name in spec.evaluation.cadence:
        if name not in names:
            raise UserError(
                f"evaluation.cadence.{name}: {spec.benchmark.name} has no such evaluator; "
                f"known: {', '.join(sorted(names))}"
            )
    split = benchmark.split(data, options, stream(spec.seeds[0], "split"))
    _check_settings(spec, benchmark, options, data, split)
    said = _check_search(spec, evaluators, [part for part, indices in split.items() if len(indices)])
    alone = _check_points(spec, benchmark, data, options)
    return "\n".join(filter(None, (said, lopsided(spec), _check_pruner(spec, evaluators), alone)))


def _check_points(spec: StudySpec, benchmark: Benchmark, data: Data, options: Any) -> str:
    """A warning where trials are to be one program and the network is made of one for each seed."""
    from trainables.backbones import is_looped
    from trainables.replicas import streams

    if spec.points_per_trial in (1, "auto"):
        return ""
    network = benchmark.backbone(data, options, streams(spec.seeds[:1], "init"))
    if not is_looped(network):
        return ""
    return (
        f"points_per_trial: the network of {spec.benchmark.name} takes one seed after another, so that trials gain "
        "nothing together and are trained one by one: leave it out"
    )


def _check_settings(spec: StudySpec, benchmark: Benchmark, options: Any, data: Data, split: Split) -> None:
    """Each value of an option that varies leaves data and split as they are, and gives a network that can be trained.

    Batch sizes and projectors are tried as well: the last batch may hold one sample alone.
    """
    import torch

    from trainables import contract
    from trainables.replicas import stream

    for name, values in settings.values_of(spec.grid or {}, spec.search):
        block, own = name.partition(".")[::2]
        if block == "training" and own not in ("batch_size", "projector"):
            continue
        for value in values:
            changed = replace(options, **{own: _tuple(value)}) if block == "benchmark" else options
            other = data
            if block == "benchmark":
                other = contract.load(benchmark, changed, getattr(torch, recipe(spec).dtype))
                parts = benchmark.split(other, changed, stream(spec.seeds[0], "split"))
                if other.fingerprint != data.fingerprint or not _same(split, parts):
                    raise UserError(
                        f"{name}: {settings.text(value)} changes the data or its split, which trials that are compared "
                        "share: give it a study of its own"
                    )
            trained = recipe(spec, {name: value})
            own_code = contract.own_network(spec.benchmark.name, changed) and not spec.resources.needs_gpu
            contract.examine(benchmark, other, changed, trained, spec.seeds, network=own_code)


def _tuple(value: Any) -> Any:
    """A list is the only way to write a tuple in a study file."""
    return tuple(value) if isinstance(value, list) else value


def _same(first: Split, second: Split) -> bool:
    import torch

    return first.keys() == second.keys() and all(torch.equal(first[part], second[part]) for part in first)


def _seen(spec: StudySpec, lacking: Collection[str]) -> Collection[str]:
    """What a short training measures, where a metric that the search reads is declared by none."""
    import torch

    from trainables.benchmarks import find
    from trainables.conformance import Examination
    from trainables.remote_data import fetched

    assert spec.search is not None
    device = "cuda" if spec.resources.needs_gpu else "cpu"
    # a network for a GPU may not run here; the first trial says then what is lacking
    if not lacking or (device == "cuda" and not torch.cuda.is_available()):
        return lacking
    trial = trial_for(spec, next(iter(spec.search.criteria)), {})
    options = fetched(find(spec.benchmark.name).Options, spec.benchmark.options)
    return Examination(replace(trial, options=options), device).measured()


def _check_pruner(spec: StudySpec, evaluators: Sequence[Evaluator]) -> str:
    """A pruner can see what it goes by; a warning where that is an error of fine labels, which may fall again."""
    if spec.search is None or spec.search.pruner is None:
        return ""
    from trainables import twins

    metric, pruner = spec.search.objective.metric, spec.search.pruner
    measured = twins.original(metric) or metric
    for evaluator in evaluators:
        declared = {each.name: each for each in evaluator.metrics}
        if measured not in declared:
            continue
        if spec.evaluation.cadence.get(evaluator.name, evaluator.every) == 0:
            raise UserError(
                f"search.pruner: {metric} is measured at the last epoch alone, so that {pruner.name} could stop no "
                f"trial by it: set evaluation.cadence.{evaluator.name} to 1, say"
            )
        if declared[measured].reads_fine:
            return (
                f"search.pruner: {metric} reads fine labels, and such errors fall, rise and may fall again while a "
                f"criterion is trained: {pruner.name} may stop the trials that would be best, unless "
                f"search.pruner.grace_period, now {pruner.grace_period}, lies past the turn"
            )
    return ""


def digest(spec: StudySpec, *, load: bool = True) -> str:
    """What tells the study's data from others; empty where it is not known.

    As `check_data` has just found it; else, with ``load``, of the data as it is now. Where it cannot be loaded, the
    trials say why.
    """
    from pydantic import TypeAdapter

    from trainables.benchmarks import find
    from trainables.own_code import data_digest
    from trainables.remote_data import fetched

    # once: by the next launch of this process it may be another
    if found := _digests.pop(spec.benchmark.model_dump_json(), ""):
        return found
    if not load:
        return ""
    try:
        benchmark = find(spec.benchmark.name)
        given = fetched(benchmark.Options, spec.benchmark.options)
        data = benchmark.load(TypeAdapter(benchmark.Options).validate_python(given))
        return data_digest(spec.benchmark.name, data)
    # one of the user's own raises whatever it likes
    except Exception as error:
        log.info("the data of %s cannot be loaded here (%s)", spec.benchmark.name, error)
        return ""


def _check_search(spec: StudySpec, evaluators: Sequence[Evaluator], parts: Collection[str]) -> str:
    """The search reads metrics that are measured, and no fine label where it promises to do without.

    A warning where it chooses by fine labels of the samples that it is scored on; else empty.
    """
    from trainables import criteria, twins
    from trainables.metrics import Metric
    from trainables.training import METRICS

    if spec.search is None:
        return ""
    own = [metric for name in spec.search.criteria for metric in criteria.find(name).metrics]
    declared = {metric.name: metric for metric in (*METRICS, *own)}
    declared |= {metric.name: metric for evaluator in evaluators for metric in evaluator.metrics}
    declared |= {metric.name: metric for metric in twins.declared(evaluators, parts)}
    # an evaluator that declares nothing may measure anything
    if not all(evaluator.metrics or evaluator.measure is None for evaluator in evaluators):
        declared |= {name: Metric(name) for name in _seen(spec, spec.search.metrics.keys() - declared)}
    for metric, keys in spec.search.metrics.items():
        where = f"search.{dotted(keys)}"
        undeclared = metric not in declared or metric in twins.NAMED.values()
        if undeclared and twins.VALIDATION not in parts and twins.original(metric):
            raise UserError(
                f"{where}: {metric} is measured on a validation part, and the split of {spec.benchmark.name} has none: "
                "set benchmark.validation, to 0.2 say, or have the split give one"
            )
        if metric not in declared:
            close = difflib.get_close_matches(metric, declared, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"measured are {', '.join(sorted(declared))}"
            raise UserError(f"{where}: {spec.benchmark.name} does not measure {metric!r}; {hint}")
        if spec.search.objective.label_free and metric in declared and declared[metric].reads_fine:
            raise UserError(f"{where}: {metric} reads fine labels, which label_free: true promises to do without")
    chosen_by = spec.search.objective.metric
    everywhere = {**declared, **{metric.name: metric for metric in twins.declared(evaluators, twins.PARTS)}}
    twin = next((metric.name for metric in everywhere.values() if metric.twin_of == chosen_by), None)
    if twin is None or not everywhere[chosen_by].reads_fine:
        return ""
    part = "" if twins.VALIDATION in parts or twin in declared else ", with benchmark.validation at 0.2 say"
    return (
        f"search.objective.metric: {chosen_by} reads fine labels of the very samples that the choice is scored on, "
        f"which flatters it: choose by {twin} instead{part}"
    )
