"""Several points trained together against each of them trained apart."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch

from trainables import criteria
from trainables.points import Points, apart
from trainables.training import Record, Training
from trainables.trial import Trial

#: by criterion, the hyperparameters of three points that differ in all that it takes by replica
SETTINGS: Mapping[str, Sequence[Mapping[str, float]]] = {
    "ls": [{"sigma": 0.1}, {"sigma": 0.45}, {}],
    "fierce": [{"lambda": 0.1}, {"lambda": 3.0}, {"lambda": 0.7}],
    "fierce-learned": [{"lambda": 0.1}, {"lambda": 3.0}, {"lambda": 0.7}],
    "confidence-penalty": [{"beta": 0.05}, {"beta": 0.6}, {}],
    "vcreg": [{"variance": 0.5, "covariance": 0.2}, {"covariance": 1.0}, {"variance": 2.0}],
    "sigreg": [{"strength": 0.5}, {"strength": 2.0}, {}],
    "supcon": [{"tau": 0.1}, {"tau": 1.0}, {}],
    "supcon-spread": [{"tau": 0.1, "spread": 0.2}, {"spread": 0.9}, {}],
}


def trials(criterion: str, dtype: str = "float64", **changes: Any) -> list[Trial]:
    training = {"epochs": 3, "dtype": dtype}
    values: dict[str, Any] = {"benchmark": "tests.tiny:Tiny", "seeds": (3, 1), "training": training}
    values |= changes
    return [Trial(criterion=criterion, hyperparameters=point, **values) for point in SETTINGS[criterion]]


def close(ours: Record, theirs: Record, rtol: float = 1e-9) -> None:
    assert (ours.epoch, ours.metrics.keys()) == (theirs.epoch, theirs.metrics.keys())
    for name, values in ours.metrics.items():
        np.testing.assert_allclose(values, theirs.metrics[name], rtol, atol=1e-12, err_msg=name)


def test_every_hyperparameter_that_is_taken_by_replica_is_tried() -> None:
    for name in criteria.names():
        taken = {own.name for own in criteria.find(name).hyperparameters if own.by_replica}
        assert taken == {key for point in SETTINGS.get(name, ()) for key in point}, name


@pytest.mark.slow
@pytest.mark.parametrize("criterion", SETTINGS)
def test_points_together_are_those_apart(criterion: str) -> None:
    """Every record, the weights and the kept arrays, in 64 bits to nine digits."""
    points = trials(criterion)
    together = Points(points)
    records = list(together.run())
    for place, trial in enumerate(points):
        alone = Training(trial)
        for ours, theirs in zip(records, list(alone.run()), strict=True):
            close(ours[place], theirs)
        for name, value in alone.weights().items():
            torch.testing.assert_close(together.weights()[place][name], value, rtol=1e-9, atol=1e-12)
        for name, array in alone.arrays().items():
            np.testing.assert_allclose(together.arrays()[place][name], array, 1e-8, 1e-10, err_msg=name)
    # they are different trainings, so that no slice can stand for another
    losses = [record.metrics["loss/train"] for record in records[-1]]
    assert all(abs(a[0] - b[0]) > 1e-6 for a, b in pairwise(losses))


def test_points_of_a_convolutional_network_in_32_bits() -> None:
    options = {"samples": 40, "size": 8, "width": 2, "evaluation": 10, "mode": "looped"}
    training = {"epochs": 1, "batch_size": 10, "anchors": "centred-grid"}
    points = trials("fierce", benchmark="age", options=options, training=training)
    (together,) = Points(points).run()
    for ours, trial in zip(together, points, strict=True):
        (alone,) = Training(trial).run()
        for name in ("loss/train", "entropy/batch"):
            np.testing.assert_allclose(ours.metrics[name], alone.metrics[name], rtol=1e-5)


def stored(state: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def read(state: bytes) -> Any:
    """As a checkpoint's; a training goes on in the memory of what it loads, so each reads its own."""
    return torch.load(io.BytesIO(state), weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["fierce-learned", "supcon"])
def test_a_point_goes_on_alone_or_among_others_from_a_state_of_its_own(criterion: str) -> None:
    points = trials(criterion)
    whole = list(Points(points).run())
    stopped = Points(points)
    list(islice(stopped.run(), 1))
    states = [stored(state) for state in stopped.states()]

    alone = Training(points[1])
    alone.load(read(states[1]))
    for ours, theirs in zip(alone.run(), whole[1:], strict=True):
        close(ours, theirs[1])
    others = Points([points[2], points[0]])
    others.load([read(states[2]), read(states[0])])
    for records, theirs in zip(others.run(), whole[1:], strict=True):
        close(records[0], theirs[2])
        close(records[1], theirs[0])
    # a point that was begun alone joins others
    single = Training(points[0])
    list(islice(single.run(), 1))
    assert len(states[0]) < 1.1 * len(stored(single.state())) + 10_000, "a point's state holds its own replicas alone"
    joined = Points(points[:2])
    joined.load([read(stored(single.state())), read(states[1])])
    for records, theirs in zip(joined.run(), whole[1:], strict=True):
        close(records[0], theirs[0])
        close(records[1], theirs[1])
    with pytest.raises(ValueError, match="of different epochs or kernels: go on with each by itself"):
        joined.load([single.state(), joined.states()[1]])


def test_what_keeps_trials_apart() -> None:
    first, second, third = trials("fierce")
    assert apart([first, second, third]) is None
    assert apart([first]) == "are one alone"
    assert apart([first, replace(second, seeds=(3, 2))]) == "differ in more than hyperparameters"
    assert apart([first, replace(second, criterion="ls")]) == "differ in more than hyperparameters"
    fewer = replace(second, hyperparameters={**second.hyperparameters, "e": 5})
    assert apart([first, fewer]) == "differ in e, of which all replicas have the same"
    # at λ = 0 nothing is assigned, and the entropy not measured
    assert apart([first, replace(second, hyperparameters={"lambda": 0})]) == "differ in whether lambda is 0"
    taught = [replace(first, criterion="distillation", hyperparameters={"weight": weight}) for weight in (0.2, 0.4)]
    assert apart(taught) == "differ in weight, of which all replicas have the same"
    with pytest.raises(ValueError, match="the trials differ in e, of which all replicas have the same: train each by"):
        Points([first, fewer])


def test_one_seed_of_several_points_holds_out_other_samples_than_the_next_seed() -> None:
    points = trials("ls", seeds=(3,))
    assert Points(points).training.redraws and Training(points[0]).redraws
