"""Does code of one's own keep to what training relies on: tried on a few batches, in seconds, without Ray or MLflow.

Each check gives one `Finding`. What the code raises comes with its traceback from the first frame that is neither the
project's nor an installed package's.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch

from trainables import benchmarks, contract, criteria, network_contract
from trainables.benchmarks import Data, DataError, make_options
from trainables.contract_words import owner_of
from trainables.criterion import Hyperparameter
from trainables.own_code import own_traceback
from trainables.training import Record, Training
from trainables.trial import Trial

#: replicas that are trained together, batches of an epoch and samples of a batch, where seeds and states are compared
SEEDS, BATCHES, SAMPLES = 3, 3, 32
#: relative and absolute differences that reassociation may leave, by dtype
TOLERANCES: Mapping[str, tuple[float, float]] = {"float64": (1e-6, 1e-9), "float32": (1e-2, 1e-4)}


@dataclass(frozen=True)
class Finding:
    """One check: ``detail`` says what was seen or what is wrong, ``traceback`` where in the code of one's own."""

    name: str
    ok: bool
    detail: str
    traceback: str = ""


class ConformanceError(DataError):
    """The code breaks the contract; the message says what it does and what it should do."""


def examine(
    trials: Sequence[Trial], device: str = "cpu", required: Sequence[str] = (), names: Sequence[str] = ()
) -> Iterator[Finding]:
    """What is found of one benchmark under the criteria of ``trials``, check by check.

    The first trial of each criterion is tried in full, the others by one batch. ``required`` are metrics that must be
    measured after the last epoch. ``names`` are the trials', by default criterion and hyperparameters. What cannot be
    told since an earlier check failed is left out.
    """
    first = Examination(trials[0], device)
    for name, check in (("data", first.load), ("network", first.network)):
        finding = attempt(name, check)
        yield finding
        if not finding.ok:
            return
    tried: dict[str, Examination | None] = {}
    for trial, name in zip(trials, names or map(_label, trials), strict=True):
        examination = Examination(trial, device, first.data)
        finding = attempt(f"{name}: one batch", examination.one_batch)
        yield finding
        if trial.criterion not in tried:
            tried[trial.criterion] = examination if finding.ok else None
            if finding.ok:
                yield attempt(f"{name}: seeds apart", examination.seeds_apart)
                yield attempt(f"{name}: goes on from a state", examination.goes_on)
                if examination.takes_by_replica:
                    yield attempt(f"{name}: by replica", examination.by_replica)
    able = [examination for examination in tried.values() if examination is not None]
    if able:
        # only a criterion's own trials measure its metrics, so other trials need not
        own = {metric.name for examination in able for metric in criteria.find(examination.trial.criterion).metrics}
        needed = [name for name in required if name not in own]
        yield attempt("evaluators", lambda: able[0].evaluators(needed))


def attempt(name: str, check: Callable[[], str]) -> Finding:
    """The finding of ``check``, which returns what it saw or raises what is wrong."""
    try:
        with torch.random.fork_rng(devices=[]):
            return Finding(name, True, check())
    # code of one's own raises whatever it likes
    except Exception as error:
        return Finding(name, False, sentence(error), own_traceback(error))


class Examination:
    """The checks of one trial; each returns what it saw, in words, and raises where something is wrong.

    ``data`` is the benchmark's, where it is loaded already.
    """

    def __init__(self, trial: Trial, device: str = "cpu", data: Data | None = None) -> None:
        self.trial, self.device = trial, device
        self._given = data

    @cached_property
    def benchmark(self) -> benchmarks.Benchmark:
        return benchmarks.find(self.trial.benchmark)

    @cached_property
    def options(self) -> Any:
        return make_options(self.benchmark.Options, self.trial.options)

    @cached_property
    def recipe(self) -> Any:
        return self.benchmark.recipe(self.trial.protocol, self.options).override(self.trial.training)

    @cached_property
    def data(self) -> Data:
        if self._given is not None:
            return self._given
        return contract.load(self.benchmark, self.options, getattr(torch, self.recipe.dtype))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Three of the trial's, and others where it has fewer."""
        others = (seed for seed in range(2 * SEEDS) if seed not in self.trial.seeds)
        return (*self.trial.seeds, *others)[:SEEDS]

    @property
    def takes_by_replica(self) -> bool:
        """Whether the criterion has a hyperparameter of which each replica may have a value of its own."""
        return bool(criteria.find(self.trial.criterion).taken_by_replica())

    def load(self) -> str:
        """The data is as `trainables.contract.check_data` wants it."""
        data = self.data
        return f"{len(data.inputs):,} samples of {tuple(data.inputs.shape[1:])}, {data.classes} coarse classes"

    def network(self) -> str:
        """Splits, batches and the network are as `trainables.contract.examine` wants them."""
        try:
            contract.examine(self.benchmark, self.data, self.options, self.recipe, self.seeds)
        except network_contract.NetworkError:
            # a network written for a GPU may fail on the CPU, so it is tried on its own device below
            if self.device == "cpu":
                raise
            contract.examine(self.benchmark, self.data, self.options, self.recipe, self.seeds, network=False)
        parts = self._training(1, evaluate=False).parts
        return ", ".join(f"{part} {indices.shape[1]:,}" for part, indices in parts.items())

    def one_batch(self) -> str:
        """A batch goes forwards and backwards; the criterion's parameters are each replica's own, and all learn."""
        training = self._training(1, evaluate=False)
        criterion, name, count = training.criterion, self.trial.criterion, len(self.seeds)
        for parameter, value in criterion.named_parameters():
            if value.shape[:1] != (count,):
                raise ConformanceError(
                    f"the criterion {name}: parameter {parameter} is {tuple(value.shape)}; give it a leading dimension "
                    f"of the seeds, setup.replicas, here {count}"
                )
        (record,) = training.run()
        losses = record.metrics["loss/train"]
        for seed, loss in zip(self.seeds, losses, strict=True):
            if not math.isfinite(loss):
                raise ConformanceError(
                    f"the criterion {name} gives a loss of {loss:g} for the first batch, seed {seed}"
                )
        for parameter, value in criterion.named_parameters():
            if value.requires_grad and value.grad is None:
                raise ConformanceError(f"the criterion {name}: parameter {parameter} has no part in the loss")
        where = f"the criterion {name}"
        measured = contract.check_metrics(criterion.measured, count, {}, where)
        if unknown := sorted(set(measured) - {metric.name for metric in criterion.metrics}):
            raise ConformanceError(f"{where} measures {unknown[0]!r}, which is not declared among its metrics")
        return f"loss {losses[0]:.4g} for seed {self.seeds[0]}"

    def seeds_apart(self) -> str:
        """A seed alone has the losses that it has among three."""
        dtype, together, alone = self._both(evaluate=False)
        self._compare(together, alone, dtype, f"the criterion {self.trial.criterion}")
        return f"seed {self.seeds[1]} alone is as among {len(self.seeds)} ({dtype})"

    def goes_on(self) -> str:
        """An epoch after saving and restoring is the one that an undisturbed training has."""
        undisturbed = self._training(BATCHES, evaluate=False, epochs=2, batch_size=self._samples)
        run, file = undisturbed.run(), io.BytesIO()
        next(run)
        torch.save(undisturbed.state(), file)
        file.seek(0)
        restored = self._training(BATCHES, evaluate=False, epochs=2, batch_size=self._samples)
        restored.load(torch.load(file, map_location=self.device, weights_only=True))
        expected, restored_record = next(run), next(restored.run())
        # a GPU need not repeat itself to the bit
        exact = self.device == "cpu"
        for name, values in expected.metrics.items():
            for seed, one, other in zip(self.seeds, values, restored_record.metrics[name], strict=True):
                if not _close(one, other, (0.0, 0.0) if exact else TOLERANCES["float32"]):
                    raise ConformanceError(
                        f"{name} of seed {seed} is {other:.9g} in the epoch after a state was saved and restored, and "
                        f"{one:.9g} without: keep what changes in parameters and buffers, and draw random numbers "
                        "from the streams that are given"
                    )
        return "an epoch after saving and restoring is the same"

    def by_replica(self) -> str:
        """Hyperparameters that the criterion takes by replica give each its own loss, as the number alone does."""
        kind = criteria.find(self.trial.criterion)
        values = kind.settle(self.trial.hyperparameters, self.recipe)
        # at 0 a criterion may leave out a term, so that no replica has 0 beside others
        tried = {own.name: _around(own, values[own.name]) for own in kind.taken_by_replica()}
        own = {name: near for name, near in tried.items() if 0 not in near}
        dtype, together, alone = self._both(evaluate=False, own=own)
        named = " and ".join(own)
        whose = (
            f"the criterion {self.trial.criterion}, which takes {named} by replica, has another loss where each "
            "replica has a value of its own"
        )
        self._compare(together, alone, dtype, whose)
        return f"seed {self.seeds[1]} alone is as among {len(self.seeds)} of other {named or 'seeds'} ({dtype})"

    def evaluators(self, required: Sequence[str] = ()) -> str:
        """Every evaluator measures each seed by itself, and ``required`` metrics are among what is measured."""
        dtype, together, alone = self._both(evaluate=True)
        self._compare(together, alone, dtype, f"{owner_of(self.benchmark)}.evaluators")
        lacking = [name for name in required if name not in together.metrics]
        if lacking:
            raise ConformanceError(
                f"{lacking[0]!r}, which the study needs, is not measured after the last epoch; measured are "
                f"{', '.join(sorted(together.metrics))}"
            )
        return f"{len(together.metrics)} metrics, of seed {self.seeds[1]} alone as among {len(self.seeds)} ({dtype})"

    def measured(self) -> list[str]:
        """The metrics that are measured after the last epoch, of a short training."""
        (only,) = self._training(BATCHES, evaluate=True, batch_size=self._samples).run()
        return sorted(only.metrics)

    @property
    def _samples(self) -> int:
        return min(int(self.recipe.batch_size), SAMPLES)

    def _both(
        self, *, evaluate: bool, own: Mapping[str, Sequence[float]] = MappingProxyType({})
    ) -> tuple[str, Record, Record]:
        """The dtype, and the records of three seeds, with hyperparameters of their ``own``, and of the second alone."""
        seconds = {name: values[1] for name, values in own.items()}
        second = replace(self.trial, hyperparameters={**self.trial.hyperparameters, **seconds})

        def record(dtype: str, **given: Any) -> Record:
            training = self._training(BATCHES, evaluate=evaluate, batch_size=self._samples, dtype=dtype, **given)
            (only,) = training.run()
            if evaluate:
                training.arrays()
            return only

        dtype = "float64"
        try:
            together = record(dtype, own=own)
        # code may be written for one precision
        except Exception:
            dtype = str(self.recipe.dtype)
            together = record(dtype, own=own)
        return dtype, together, record(dtype, trial=replace(second, seeds=self.seeds[1:2]))

    def _compare(self, together: Record, alone: Record, dtype: str, whose: str) -> None:
        if odd := together.metrics.keys() ^ alone.metrics.keys():
            raise ConformanceError(f"{whose}: {min(odd)!r} is measured for one seed or for three, not for both")
        for name, values in together.metrics.items():
            among, by_itself = values[1], alone.metrics[name][0]
            if not _close(among, by_itself, TOLERANCES[dtype]):
                raise ConformanceError(
                    f"{whose}: {name} of seed {self.seeds[1]} is {by_itself:.9g} alone and {among:.9g} among "
                    f"{len(self.seeds)} seeds: a replica must depend on its own seed alone, in what it computes as in "
                    "what it draws"
                )

    def _training(
        self,
        batches: int,
        *,
        evaluate: bool,
        trial: Trial | None = None,
        own: Mapping[str, Sequence[float]] = MappingProxyType({}),
        epochs: int = 1,
        **settings: Any,
    ) -> _Short:
        changed = {**self.trial.training, "compile": False, "epochs": epochs, **settings}
        trial = replace(trial or replace(self.trial, seeds=self.seeds), training=changed)
        return _Short(trial, self.device, self.data, batches, evaluate, own)


class _Short(Training):
    """A training whose epochs are a few whole batches long; evaluators see all data, and run where asked."""

    def __init__(
        self,
        trial: Trial,
        device: str,
        data: Data,
        batches: int,
        evaluate: bool,
        own: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> None:
        self._batches, self._evaluates = batches, evaluate
        super().__init__(trial, device, data, own)

    def _another(self, trial: Trial, data: Data) -> Training:
        return _Short(trial, str(self.device), data, self._batches, evaluate=False)

    def _order(self, epoch: int) -> torch.Tensor:
        order = super()._order(epoch)
        # a last batch of one sample is for `contract.examine` to judge
        whole = max(1, min(self._batches, order.shape[1] // self.recipe.batch_size))
        return order[:, : whole * self.recipe.batch_size]

    def _evaluate(self) -> dict[str, torch.Tensor]:
        return super()._evaluate() if self._evaluates else {}


def sentence(error: BaseException) -> str:
    """What went wrong on one line; an error that says so in a sentence is taken at its word."""
    said = error.args[0] if isinstance(error, LookupError) and error.args else error
    text = " ".join(str(said).split())
    return text if isinstance(error, ValueError | LookupError) and text else f"{type(error).__name__}: {text}"


def _close(one: float, other: float, tolerance: tuple[float, float]) -> bool:
    relative, absolute = tolerance
    return math.isclose(one, other, rel_tol=relative, abs_tol=absolute) or (math.isnan(one) and math.isnan(other))


def _around(declared: Hyperparameter, value: float) -> list[float]:
    """Values that the replicas may have of a hyperparameter: ``value``, and others that are not far."""
    spread = (value * (1 + sign * place / 10) for place in range(1, SEEDS) for sign in (-1, 1))
    allowed = [each for each in spread if declared.problem(each) is None]
    return [value, *allowed, *[value] * SEEDS][:SEEDS]


def _label(trial: Trial) -> str:
    """``ls σ=0.1``; for a criterion that cannot be found its bare name."""
    try:
        known = criteria.find(trial.criterion).hyperparameters
    except LookupError:
        known = ()
    values = trial.hyperparameters
    return " ".join(
        [
            trial.criterion,
            *(
                f"{hyperparameter.symbol}={values[hyperparameter.name]:g}"
                for hyperparameter in known
                if hyperparameter.name in values
            ),
        ]
    )
