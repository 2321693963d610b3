"""How many points are found to be worth training together, against made-up times and what is left untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainables import points_choice
from trainables.storage import Folder
from trainables.training import Training
from trainables.trial import Trial


def training(criterion: str = "ls", epochs: int = 70) -> Training:
    """Three steps an epoch."""
    return Training(Trial("tests.tiny:Tiny", criterion, (1, 4), training={"epochs": epochs}))


def test_the_number_after_which_more_gain_little() -> None:
    assert points_choice.worth({1: 1.0}) == 1
    # a processor that is busy with one alone
    assert points_choice.worth({1: 1.0, 2: 1.9}) == 1
    assert points_choice.worth({1: 1.0, 2: 1.8, 4: 3.6}) == 2
    assert points_choice.worth({1: 1.0, 2: 1.0, 4: 1.1, 8: 1.3, 16: 1.8}) == 16


def test_numbers_are_tried_as_long_as_there_are_gain_memory_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = training()
    tried: list[int] = []
    now = 0.0

    def takes(seconds: dict[int, float]) -> list[int]:
        def epoch(training: Training, count: int, clock: object) -> float:
            nonlocal now
            tried.append(count)
            if seconds[count] < 0:
                raise MemoryError
            now += 5 * seconds[count]
            return seconds[count]

        tried.clear()
        monkeypatch.setattr(points_choice, "_epoch", epoch)
        monkeypatch.setattr(points_choice.kernels, "stopwatch", lambda device: lambda: now)
        found = points_choice.measured(made)
        assert found == {count: taken for count, taken in seconds.items() if taken > 0 and count in tried}
        return tried

    assert takes({1: 0.1, 2: 0.1, 4: 0.12, 8: 0.23, 16: 0.4}) == [1, 2, 4, 8]
    assert takes({1: 0.1, 2: 0.1, 4: -1}) == [1, 2, 4]
    # twice as many might take 25 s
    assert takes({1: 2.5, 2: 2.5}) == [1]
    assert takes({1: 0.1, 2: 0.1, 4: 0.1, 8: 0.1, 16: 0.1}) == [1, 2, 4, 8, 16]


def test_it_is_found_once_a_study_and_the_training_is_none_the_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, study = training(), Folder(str(tmp_path))
    found = points_choice.settle(made, study)
    (kept,) = (tmp_path / points_choice.FOUND).glob("*.json")
    content = json.loads(kept.read_text(encoding="utf-8"))
    assert content["points"] == found and set(content["seconds"]) >= {"1", "2"}
    kept.write_text(json.dumps({**content, "points": 7}), encoding="utf-8")
    assert points_choice.settle(training(), study) == 7
    records = made.run()
    untouched = training().run()
    for _ in range(3):
        assert next(records).metrics == next(untouched).metrics


def test_what_is_soon_over_or_cannot_go_together_is_not_timed(tmp_path: Path) -> None:
    study = Folder(str(tmp_path))
    assert points_choice.settle(training(epochs=6), study) == 1
    assert points_choice.settle(training("ce"), study) == 1
    assert study.names() == []
