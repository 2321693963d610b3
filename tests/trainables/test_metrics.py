"""What shipped benchmarks measure is what they declare."""

from __future__ import annotations

import pytest

from trainables.training import Training
from trainables.trial import Trial

SMALL = {
    "hyperspectral": {"pixels": 300, "probe_epochs": 2, "validation": 0.1},
    "age": {"samples": 200, "size": 16, "width": 2, "evaluation": 20},
    "cifar10": {"samples": 6, "size": 16, "width": 2},
    "cifar-fs": {"samples": 20, "size": 16, "width": 2, "runs": 10},
}


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", SMALL)
@pytest.mark.parametrize("criterion", ["ce", "fierce"])
def test_every_metric_is_declared(benchmark: str, criterion: str) -> None:
    trial = Trial(benchmark, criterion, (0, 1), options=SMALL[benchmark], training={"epochs": 1, "batch_size": 16})
    training = Training(trial)
    (record,) = training.run()
    declared = {metric.name: metric for metric in training.metrics}
    assert len(declared) == len(training.metrics), "declared twice"
    assert record.metrics.keys() <= declared.keys()
    assert all(metric.label for metric in declared.values())
