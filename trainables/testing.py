"""What tests of code of one's own inherit, under pytest: that it keeps to what training relies on.

A benchmark, with its own network or another one as its option ``backbone``::

    from trainables.testing import BenchmarkTests

    class TestTable(BenchmarkTests):
        benchmark = "mylab.tables:Table"
        options = {"data": "digits.csv"}

A criterion, on a small simulated scene, or on the benchmark that the class names::

    from trainables.testing import CriterionTests

    class TestFocal(CriterionTests):
        criterion = "mylab.losses:Focal"
        hyperparameters = {"gamma": 2}

Each test raises what is wrong, or what the code itself raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from trainables import criteria
from trainables.benchmarks import QUICK
from trainables.conformance import Examination
from trainables.criterion import Criterion
from trainables.trial import Trial

__all__ = ["BenchmarkTests", "CriterionTests"]


class _Conformance:
    """Names what is tried, as a study file does."""

    benchmark: ClassVar[str]
    criterion: ClassVar[str]
    protocol: ClassVar[str] = "released"
    options: ClassVar[Mapping[str, Any]] = {}
    training: ClassVar[Mapping[str, Any]] = {}
    hyperparameters: ClassVar[Mapping[str, float]] = {}

    @cached_property
    def examination(self) -> Examination:
        return Examination(
            Trial(
                self.benchmark,
                self.criterion,
                seeds=(0, 1, 2),
                protocol=self.protocol,
                hyperparameters=self.hyperparameters,
                options=self.options,
                training=self.training,
            )
        )

    def test_one_batch_is_trained(self) -> None:
        """The loss of each seed is finite, and all parameters of the criterion take part in it."""
        self.examination.one_batch()

    def test_a_seed_does_not_depend_on_others(self) -> None:
        """A seed alone has the losses that it has among three."""
        self.examination.seeds_apart()

    def test_training_goes_on_from_a_state(self) -> None:
        """An epoch after saving and restoring is the one without."""
        self.examination.goes_on()


class BenchmarkTests(_Conformance):
    """Tests of ``benchmark``, ``package.module:name``, at its ``options``, trained by ``criterion``."""

    criterion: ClassVar[str] = criteria.reference()

    def test_data(self) -> None:
        """Samples and labels are as `trainables.benchmarks.Data` says."""
        self.examination.load()

    def test_splits_and_network(self) -> None:
        """Splits, batches and the network's outputs are as `trainables.benchmarks.Benchmark` says."""
        self.examination.network()

    def test_evaluators_measure_each_seed_by_itself(self) -> None:
        """One value a seed of each metric, the same for a seed alone as among three."""
        self.examination.evaluators()


class CriterionTests(_Conformance):
    """Tests of ``criterion``, ``package.module:name``, at its ``hyperparameters``."""

    benchmark: ClassVar[str] = QUICK[0]
    options: ClassVar[Mapping[str, Any]] = QUICK[1]

    def test_hyperparameters_by_replica(self) -> None:
        """Replicas with values of their own have the losses that each has alone at its value."""
        if self.examination.takes_by_replica:
            self.examination.by_replica()

    def test_declaration(self) -> None:
        """It has a label, and hyperparameters of different names with defaults in their ranges."""
        kind: type[Criterion] = criteria.find(self.criterion)
        names = [hyperparameter.name for hyperparameter in kind.hyperparameters]
        assert isinstance(kind.label, str) and kind.label
        assert len(set(names)) == len(names), f"two hyperparameters have one name: {', '.join(names)}"
        problems = [hyperparameter.problem(hyperparameter.default) for hyperparameter in kind.hyperparameters]
        assert not any(problems), "; ".join(filter(None, problems))
        unknown = set(self.hyperparameters) - set(names)
        assert not unknown, f"no hyperparameter {min(unknown)!r}; it reads {', '.join(names)}"
