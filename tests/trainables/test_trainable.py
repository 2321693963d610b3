"""The function that Tune calls, under Tune: what it reports, keeps and continues from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from trainables import trainable
from trainables.assignment import Facts
from trainables.storage import Folder
from trainables.trainable import CHECKPOINT, STOP, TrialError, train_trial
from trainables.training import Record, Training
from trainables.trial import Trial

pytestmark = pytest.mark.usefixtures("ray_here")


class Notes:
    """A tracker that writes down what it is given, in the trial's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notes"

    def _note(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def describe(self, training: Training) -> Facts:
        self._note(f"describe {training.data.name} from {training.epoch}")
        return Facts({"name": training.data.name}, {}, len(training.data.inputs), training.data.classes)

    def recall(self, facts: Facts) -> None:
        self._note(f"recall {facts.tags['name']} {facts.samples}")

    def add(self, records: Sequence[Record]) -> None:
        for record in records:
            self._note(f"epoch {record.epoch}")

    def flush(self, now: bool = False) -> None:
        pass

    def complete(self, arrays: Mapping[str, np.ndarray], weights: Mapping[str, torch.Tensor]) -> None:
        self._note(f"complete {len(arrays)} {len(weights)}")

    def finish(self) -> None:
        self._note("finish")


class StoppingNotes(Notes):
    """Tells the study to stop once the trial's network stands."""

    def describe(self, training: Training) -> dict[str, Any]:
        (self.path.parents[2] / STOP).touch()
        return super().describe(training)


def trial(**changes: Any) -> Trial:
    values: dict[str, Any] = {"benchmark": "tiny:Tiny", "criterion": "ls", "seeds": (1, 4, 6)}
    return Trial(**values | changes)


def notes(folder: Path, number: int) -> list[str]:
    return (folder / "trials" / str(number) / "notes").read_text(encoding="utf-8").splitlines()


def run_case(config: dict[str, Any], folder: Path, stopping: bool = False, **options: Any) -> None:
    case = config["case"]
    # what is timed is kept there, and not in the cache of whoever runs the tests
    os.environ["FIERCE_CACHE"] = str(folder / "cache")
    notes = (StoppingNotes if stopping else Notes)(folder / "trials" / str(case["number"]))
    train_trial(case, folder=Folder(str(folder)), open_tracker=lambda _: notes, **options)


def launch(folder: Path, *trials: Trial, **options: Any) -> list[Any]:
    """Run the trials under Tune, numbered from 0; their results."""
    from ray import tune

    cases = [{"number": number, "shard": (0, 1), "trial": trial.to_dict()} for number, trial in enumerate(trials)]
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_case, folder=folder, **options), {"cpu": 1}),
        param_space={"case": tune.grid_search(cases)},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
    )
    return sorted(tuner.fit(), key=lambda result: result.config["case"]["number"])


def reference(trial: Trial) -> list[tuple[int, dict[str, list[float]]]]:
    """The records of a trial that nothing disturbs, trained here with as many threads as Tune gives."""
    torch.set_num_threads(1)
    return [(record.epoch, record.metrics) for record in Training(trial).run()]


def saved(folder: Path, number: int) -> dict[str, Any]:
    loaded = torch.load(folder / "trials" / str(number) / CHECKPOINT, weights_only=True)
    assert isinstance(loaded, dict)
    return loaded


def records(folder: Path, number: int) -> list[tuple[int, dict[str, list[float]]]]:
    return [(record["epoch"], record["metrics"]) for record in saved(folder, number)["records"]]


def prepare(folder: Path, number: int, trial: Trial, epochs: int) -> Path:
    """The checkpoint of a trial that was killed after some epochs."""
    place = folder / "trials" / str(number)
    place.mkdir(parents=True)
    training = Training(trial)
    told = list(islice(training.run(), epochs))
    trainable._Saver(Folder(str(place)), trial, 0.0)(told, training.state())
    return place / CHECKPOINT


def same(kept: list[tuple[int, dict[str, list[float]]]], wanted: list[tuple[int, dict[str, list[float]]]]) -> None:
    """Exactly the same numbers, NaN equal to NaN."""
    np.testing.assert_equal(kept, wanted)


def test_a_trial_reports_its_last_epoch_and_keeps_its_records(tmp_path: Path) -> None:
    first, second = launch(tmp_path, trial(), trial(criterion="ce", seeds=(2,)))
    wanted = reference(trial())
    epoch, last = wanted[-1]
    assert (first.metrics["number"], first.metrics["epoch"], first.metrics["epochs"]) == (0, epoch, epoch)
    assert (first.metrics["finished"], first.metrics["interrupted"]) == (True, False)
    for name, values in last.items():
        assert first.metrics[f"mean/{name}"] == pytest.approx(np.mean(values))
        assert first.metrics[f"values/{name}"] == values
    assert second.metrics["values/mse/odd"] == [0.2]
    same(records(tmp_path, 0), wanted)
    kept = saved(tmp_path, 0)
    assert (kept["finished"], kept["state"]) == (True, None)
    training = Training(trial())
    list(training.run())
    np.testing.assert_equal(trainable.Checkpoint.of(kept).arrays, training.arrays())
    epochs = [f"epoch {epoch}" for epoch in range(1, 7)]
    assert notes(tmp_path, 0) == ["describe tiny from 0", *epochs, "complete 4 6", "finish"]


def test_a_trial_goes_on_from_its_checkpoint_or_starts_over(tmp_path: Path) -> None:
    whole, truncated, foreign = trial(), trial(seeds=(1, 2)), trial(seeds=(5, 6))
    prepare(tmp_path, 0, whole, 3)
    broken = prepare(tmp_path, 1, truncated, 4)
    os.truncate(broken, broken.stat().st_size // 2)
    prepare(tmp_path, 2, trial(seeds=(8, 9)), 2)
    launch(tmp_path, whole, truncated, foreign, checkpoint_seconds=0.0)
    epochs = [f"epoch {epoch}" for epoch in range(1, 7)]
    assert notes(tmp_path, 0)[:5] == [*epochs[:3], "describe tiny from 3", epochs[3]]
    assert notes(tmp_path, 1)[0] == notes(tmp_path, 2)[0] == "describe tiny from 0"
    for number, case in enumerate((whole, truncated, foreign)):
        same(records(tmp_path, number), reference(case))

    # a finished one is not trained again, and all that it recorded is offered to the tracker
    (tmp_path / "trials" / "0" / "notes").unlink()
    (again,) = launch(tmp_path, whole)
    assert again.metrics["finished"]
    assert notes(tmp_path, 0) == [*epochs, "recall tiny 200", "complete 4 0", "finish"]


def test_a_trial_is_stopped_and_goes_on_while_its_teacher_trains(tmp_path: Path) -> None:
    student = trial(criterion="distillation", training={"epochs": 3})
    wanted = reference(student)
    (stopped,) = launch(tmp_path, student, stopping=True)
    assert (stopped.metrics["interrupted"], stopped.metrics["finished"]) == (True, False)
    kept = saved(tmp_path, 0)
    assert kept["records"] == [] and (kept["state"]["epoch"], kept["state"]["teacher"]["epoch"]) == (0, 1)
    (tmp_path / STOP).unlink()
    launch(tmp_path, student)
    same(records(tmp_path, 0), wanted)


@pytest.mark.thorough
def test_a_trial_takes_its_study_s_kernel_and_keeps_it_in_its_checkpoint(tmp_path: Path) -> None:
    """Trials of two hundred steps, from which on kernels are timed."""
    options = {"samples": 20, "size": 8, "width": 1, "evaluation": 5}
    training = {"epochs": 100, "batch_size": 8, "anchors": "centred-grid"}
    begun, later = (
        trial(benchmark="age", criterion=criterion, seeds=(1, 4), options=options, training=training)
        for criterion in ("ce", "ls")
    )

    def kernel_of(trial: Trial) -> dict[str, Any]:
        """What computes it, for an epoch."""
        (tmp_path / STOP).unlink(missing_ok=True)
        (stopped,) = launch(tmp_path, trial, stopping=True)
        assert stopped.error is None and stopped.metrics["interrupted"]
        return dict(saved(tmp_path, 0)["state"]["kernel"])

    chosen = kernel_of(begun)
    (kept,) = (tmp_path / "kernels").glob("*.json")
    content = json.loads(kept.read_text(encoding="utf-8"))
    assert content["kernel"] == chosen
    another = {"mode": "looped" if chosen["mode"] == "bmm" else "bmm", "channels_last": False}
    kept.write_text(json.dumps({**content, "kernel": another}), encoding="utf-8")
    # whatever the study says now
    assert kernel_of(begun) == chosen
    assert len(records(tmp_path, 0)) == 2
    assert kernel_of(later) == another


def test_a_metric_that_must_be_finite(tmp_path: Path) -> None:
    odd = trial(options={"odd_seed": 4})
    (lost,) = launch(tmp_path, odd, required=("mse/odd", "loss/train"))
    assert lost.error is None and not lost.metrics["finished"]
    assert lost.metrics["failure"] == "mse/odd is not finite at the last epoch for seed 4"
    # everything was sent all the same, and nothing is marked as finished
    assert notes(tmp_path, 0)[-1].startswith("complete")
    why = trainable._lacking(["mse/else"], [Record(6, reference(odd)[-1][1], 0)], odd)
    assert why.startswith("mse/else is not measured at the last epoch; measured are accuracy/coarse")


def test_a_stopping_study_begins_no_trial(tmp_path: Path) -> None:
    (tmp_path / STOP).touch()
    (result,) = launch(tmp_path, trial())
    assert (result.metrics["interrupted"], result.metrics["finished"]) == (True, False)
    assert not (tmp_path / "trials" / "0" / "notes").exists()


def test_two_processes_never_train_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainable, "PREDECESSOR_SECONDS", 0.1)
    with (
        FileLock(tmp_path / "lock"),
        pytest.raises(TrialError, match=f"{tmp_path}/lock is held by another process for over 0 s; end that one"),
        trainable._alone(Folder(str(tmp_path))),
    ):
        pass
    with trainable._alone(Folder(str(tmp_path))):
        pass


def test_a_checkpoint_is_written_aside(tmp_path: Path) -> None:
    """A write that fails leaves the last checkpoint as it was."""
    path = prepare(tmp_path, 0, trial(), 1)
    before = path.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        trainable._Saver(Folder(str(path.parent)), trial(), 0.0)([], {"state": lambda: None})
    assert path.read_bytes() == before
