"""Calibration, accuracy, mutual information and stability against hand-worked cases, scikit-learn and pandas."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import rel_entr
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score
from torch import Tensor

from trainables.evaluators.calibration import expected_calibration_error, maximum_calibration_error, reliability
from trainables.evaluators.classification import accuracy, mutual_information, stability, stability_released

S, N, C = 3, 500, 4


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(S, N, C, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.fixture
def coarse(logits: Tensor) -> Tensor:
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return (logits + 2 * noise).argmax(-1)


def test_reliability_equals_scikit_learns_curve_over_all_class_probabilities(logits: Tensor, coarse: Tensor) -> None:
    probabilities = torch.softmax(logits, -1)
    curve = reliability(probabilities, coarse)
    for s in range(S):
        right = np.eye(C)[coarse[s]].ravel()
        frequency, confidence = calibration_curve(right, probabilities[s].numpy().ravel(), n_bins=10)
        np.testing.assert_allclose(curve[s, :, 0], confidence, rtol=1e-12)
        np.testing.assert_allclose(curve[s, :, 1], frequency, rtol=1e-12)
    assert curve[..., 2].sum(-1).tolist() == [N * C] * S


def test_calibration_errors_of_a_hand_worked_case() -> None:
    # first sample right with .8, second wrong with .8, third right with .6
    probabilities = torch.tensor([[[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]]], dtype=torch.float64)
    curve = reliability(probabilities, torch.tensor([[0, 1, 1]]), bins=2)
    # at most .5: confidences .2 .2 .4, one of three right; above: .8 .8 .6, two of three right
    np.testing.assert_allclose(curve[0], [[0.8 / 3, 1 / 3, 3], [2.2 / 3, 2 / 3, 3]], rtol=1e-12)
    assert expected_calibration_error(curve).item() == pytest.approx(0.2 / 3)
    assert maximum_calibration_error(curve).item() == pytest.approx(0.2 / 3)


def test_errors_differ_where_bins_do_and_empty_bins_count_for_nothing() -> None:
    # one-hot outputs, one of four wrong: bins 1 and 10 of ten are off by .25 each, eight are empty
    probabilities = torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]].unsqueeze(0)
    curve = reliability(probabilities, torch.tensor([[0, 0, 1, 0]]))
    assert curve[0, 1:9, :2].isnan().all()
    assert expected_calibration_error(curve).item() == 0.25
    unequal = torch.tensor([[[0.95, 0.95, 30.0], [0.5, 0.1, 10.0], [math.nan, math.nan, 0.0]]])
    assert expected_calibration_error(unequal).item() == pytest.approx(0.1)
    assert maximum_calibration_error(unequal).item() == pytest.approx(0.4)


def test_probabilities_on_an_edge_belong_below_it() -> None:
    probabilities = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]], dtype=torch.float64)
    assert reliability(probabilities, torch.tensor([[0, 0]]), bins=2)[0, :, 2].tolist() == [3, 1]


def test_accuracy_equals_scikit_learns(logits: Tensor, coarse: Tensor) -> None:
    expected = [accuracy_score(y, z.argmax(-1)) for y, z in zip(coarse, logits, strict=True)]
    np.testing.assert_allclose(accuracy(logits, coarse), expected, rtol=1e-12)
    assert 0.4 < min(expected) < max(expected) < 0.9


def test_mutual_information_is_that_of_the_joint_table_of_samples_and_classes(logits: Tensor) -> None:
    probabilities = torch.softmax(logits, -1)
    # p(x) = 1/n and p(y|x) = q(x): the divergence of the joint table q/n from the product of its margins
    joint = probabilities.numpy() / N
    margins = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    expected = rel_entr(joint, margins).sum((1, 2)) / math.log(2)
    np.testing.assert_allclose(mutual_information(probabilities), expected, rtol=1e-9)


def test_mutual_information_in_closed_form() -> None:
    assert mutual_information(torch.eye(4).unsqueeze(0)).item() == pytest.approx(2)
    assert mutual_information(torch.full((1, 9, 4), 0.25)).item() == pytest.approx(0, abs=1e-6)


def test_stability_equals_a_grouped_deviation(logits: Tensor) -> None:
    probabilities = torch.softmax(logits, -1)
    for s in range(S):
        frame = pd.DataFrame({"q": probabilities[s].amax(-1), "predicted": probabilities[s].argmax(-1)})
        deviations = frame.groupby("predicted")["q"].std(ddof=0)
        assert len(deviations) == C
        assert stability(probabilities)[s].item() == pytest.approx(1 - deviations.mean(), rel=1e-12)
        assert stability_released(probabilities)[s].item() == pytest.approx(1 - deviations[C - 1], rel=1e-12)


def test_stability_leaves_out_classes_that_are_never_predicted() -> None:
    # class 0 with .6 and .8: deviation .1; class 1 once: 0; class 2 never
    probabilities = torch.tensor([[[0.6, 0.3, 0.1], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]])
    assert stability(probabilities).item() == pytest.approx(1 - 0.05)
    assert stability_released(probabilities).isnan()


def test_a_diverged_replica_gives_nan_and_harms_no_other(logits: Tensor, coarse: Tensor) -> None:
    def measured() -> list[Tensor]:
        probabilities = torch.softmax(logits, -1)
        curve = reliability(probabilities, coarse)
        errors = [expected_calibration_error(curve), maximum_calibration_error(curve)]
        measures = [mutual_information(probabilities), stability(probabilities), accuracy(logits, coarse)]
        return [*errors, *measures]

    healthy = measured()
    logits[1] = math.nan
    for before, after in zip(healthy, measured(), strict=True):
        assert after[1].isnan()
        np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_sample_that_is_not_finite_gives_nan(logits: Tensor, coarse: Tensor, value: float) -> None:
    logits[1, 7, 2] = value
    probabilities = torch.softmax(logits, -1)
    curve = reliability(probabilities, coarse)
    measured = [expected_calibration_error(curve), maximum_calibration_error(curve), accuracy(logits, coarse)]
    measured += [mutual_information(probabilities), stability(probabilities), stability_released(probabilities)]
    for values in measured:
        assert values.isnan().tolist() == [False, True, False]


def test_accuracy_leaves_out_what_has_no_class_and_takes_minus_infinity_for_a_class_ruled_out() -> None:
    logits = torch.tensor([[[1.0, -math.inf], [2, 3], [0, 1], [5, 1]]])
    assert accuracy(logits, torch.tensor([[0, 1, 0, -1]])).item() == pytest.approx(2 / 3)
    # nothing is left to be predicted
    assert accuracy(torch.full((1, 2, 3), -math.inf), torch.zeros(1, 2, dtype=torch.int64)).isnan()
