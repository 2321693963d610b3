"""The stated size of checkpoints against files that a training writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from study.file.plan import fixed_points
from study.file.spec import StudySpec
from study.launch import footprint
from trainables.training import Training


@pytest.mark.parametrize(
    "training", [{"epochs": 1}, {"epochs": 1, "optimizer": "sgd", "momentum": 0.9}, {"epochs": 1, "optimizer": "sgd"}]
)
def test_a_checkpoint_is_as_large_as_was_said(tmp_path: Path, training: dict[str, Any]) -> None:
    spec = StudySpec.model_validate(
        {
            "name": "s",
            "benchmark": {"name": "hyperspectral", "pixels": 400, "probe_epochs": 1},
            "criteria": ["ce", "ls"],
            "seeds": 3,
            "training": training,
        }
    )
    stated = footprint.estimate(spec)
    run = Training(fixed_points(spec)[0].trial)
    list(run.run())
    torch.save(run.state(), tmp_path / "state.pt")
    torch.save(run.weights(), tmp_path / "weights.pt")
    assert stated.checkpoint == pytest.approx((tmp_path / "state.pt").stat().st_size, rel=0.02)
    assert stated.kept == pytest.approx((tmp_path / "weights.pt").stat().st_size, rel=0.02)
    assert stated.total == 2 * max(stated.checkpoint, stated.kept)


def test_operations_are_those_of_the_layers() -> None:
    spec = StudySpec.model_validate(
        {"name": "s", "benchmark": {"name": "hyperspectral", "pixels": 400}, "criteria": ["ce"], "seeds": 2}
    )
    run = Training(fixed_points(spec)[0].trial)
    bands, classes = run.data.inputs.shape[1], run.data.classes
    assert footprint.estimate(spec).operations == bands * 200 + 200 * 400 + 400 * 100 + 100 * classes


def test_it_is_said_in_units() -> None:
    said = str(footprint.Footprint(3_100_000, 950, 2_000))
    assert (
        said == "a trial's checkpoint takes 3 MB while it runs, a finished trial 950 bytes; 6.2 GB at the most in all"
    )
