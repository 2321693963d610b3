"""Floors: what probes read of networks before training and of raw inputs, against scikit-learn and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.neighbors import NearestCentroid

from tests.trainables.test_shared_evaluators import last
from trainables import floors
from trainables.evaluators.linear_probe import RIDGE
from trainables.replicas import stream
from trainables.training import Training
from trainables.trial import Trial

WHERE = "tests.trainables.test_shared_evaluators"
FLOORS = ("-untrained", "-inputs")


def parts(training: Training, kind: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and fine labels of each part, as a floor reads them."""
    found = {}
    for part, indices in training.parts.items():
        features = training.data.inputs[indices] if kind == "inputs" else training._predict(indices)[0]
        found[part] = features[seed].double().numpy(), training.data.fine[indices][seed].numpy()
    return found


@pytest.mark.parametrize("kind", ["untrained", "inputs"])
def test_floors_of_classes_are_those_of_the_network_as_it_was_made_and_of_the_inputs(kind: str) -> None:
    _, measured = last("Bare")
    fresh = Training(Trial(f"{WHERE}:Bare", "ce", (0, 1)))
    for seed in (0, 1):
        read = parts(fresh, kind, seed)
        expected = NearestCentroid().fit(*read["train"]).score(*read["heldout"])
        assert measured[f"accuracy/fine-nearest-mean-{kind}"][seed] == pytest.approx(expected)
    assert measured["accuracy/fine-nearest-mean-untrained"] != measured["accuracy/fine-nearest-mean"]


@pytest.mark.parametrize("kind", ["untrained", "inputs"])
def test_floors_of_values_are_probes_whose_strength_validation_chose(kind: str) -> None:
    _, measured = last("Valued")
    fresh = Training(Trial(f"{WHERE}:Valued", "ce", (0, 1)))
    for seed in (0, 1):
        read = parts(fresh, kind, seed)
        features, labels = read["train"]
        errors = {}
        for strength in RIDGE:
            ridge = Ridge(len(features) * strength * features.var(0).mean(), tol=1e-10).fit(features, labels)
            validation, wanted = read["validation"]
            errors[mean_squared_error(wanted, ridge.predict(validation))] = ridge
        found = errors[min(errors)].predict(read["heldout"][0])
        expected = mean_squared_error(read["heldout"][1], found)
        assert measured[f"mse/fine-linear-{kind}"][seed] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_the_reference_alone_measures_floors_once() -> None:
    training, measured = last("Bare")
    declared = {metric.name: metric for metric in training.metrics}
    named = {name for name in measured if name.endswith(FLOORS)}
    assert named == {f"{probe}{kind}" for probe in declared if "/fine-" in probe for kind in FLOORS} & declared.keys()
    for name in named:
        floor = declared[name]
        assert floor.reads_fine and floor.heldout and not floor.twin_of
        assert floor.group in ("untrained network", "raw inputs")
        bounded = declared[floor.floor_of]
        assert bounded.name in measured and bounded.better == floor.better and not bounded.floor_of
    other, others = last("Bare", criterion="ls")
    assert not any(name.endswith(FLOORS) for name in [*others, *(metric.name for metric in other.metrics)])
    (early, _) = (
        record.metrics for record in Training(Trial(f"{WHERE}:Bare", "ce", (0,), training={"epochs": 2})).run()
    )
    assert not any(name.endswith(FLOORS) for name in early)


@pytest.mark.parametrize("benchmark", ["Bare", "Valued"])
def test_a_seed_alone_has_the_floors_that_it_has_among_others(benchmark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "MOST_INPUTS", 5)
    _, among = last(benchmark, (0, 1, 2), dtype="float64", epochs=1)
    _, alone = last(benchmark, (1,), dtype="float64", epochs=1)
    found = {name: values[0] for name, values in alone.items() if name.endswith(FLOORS)}
    assert found == pytest.approx({name: among[name][1] for name in found}, rel=1e-7)


def test_wide_inputs_are_read_by_their_principal_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against numpy's singular values, of samples whose spectrum falls."""
    monkeypatch.setattr(floors, "MOST_INPUTS", 4)
    scales = torch.tensor(2.0, dtype=torch.float64) ** -torch.arange(12)
    samples = 3 + torch.randn(200, 12, generator=stream(0, "wide"), dtype=torch.float64) * scales
    before = torch.random.get_rng_state()
    centre, basis = floors.principal(samples, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    *_, expected = np.linalg.svd((samples - samples.mean(0)).numpy(), full_matrices=False)
    overlap = np.abs(np.sum(basis.numpy().T * expected[:4], axis=1))
    assert overlap == pytest.approx(np.ones(4), abs=1e-3)
    predict = floors.inputs(lambda indices: samples[indices], torch.arange(200).expand(2, -1), 3, (0, 1), 7)
    features, logits = predict(torch.arange(50).expand(2, -1))
    assert logits.shape == (2, 50, 3)
    torch.testing.assert_close(features[0], (samples[:50] - centre) @ basis)


def test_few_wide_samples_have_no_axis_beyond_their_own() -> None:
    samples = torch.randn(20, 600, generator=stream(0, "few"), dtype=torch.float64)
    centre, basis = floors.principal(samples, 0)
    assert basis.shape == (600, 19)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(19, dtype=torch.float64))
    # they lie where the axes do
    torch.testing.assert_close((samples - centre) @ basis @ basis.mT, samples - centre)
