"""What changes hands between a study and Tune, against the plain values that are read and written there."""

from __future__ import annotations

import json

import torch

from trainables.assignment import (
    DECLARED,
    WHOLE,
    Assignment,
    Result,
    Shard,
    Share,
    from_config,
    from_tune,
    to_config,
    to_tune,
)
from trainables.trainable import Checkpoint
from trainables.trial import Trial

TRIAL = Trial("tiny:Tiny", "fierce", (1, 4), hyperparameters={"lambda": 0.5, "e": 10}, training={"epochs": 2})
DESCRIBED = {
    "benchmark": "tiny:Tiny",
    "criterion": "fierce",
    "seeds": [1, 4],
    "protocol": "released",
    "hyperparameters": {"lambda": 0.5, "e": 10},
    "options": {},
    "training": {"epochs": 2},
    "cadence": {},
}


def test_tunes_config_holds_plain_values() -> None:
    given = Assignment(3, "grid", TRIAL, Shard(1, 2), Share(2.0, 0.5))
    config = {"number": 3, "role": "grid", "shard": [1, 2], "trial": DESCRIBED, "cpus": 2.0, "gpus": 0.5}
    # as a snapshot of Tune holds it
    assert json.loads(json.dumps(given.to_config())) == config
    assert Assignment.from_config(config) == given


def test_a_config_of_before_there_were_shards() -> None:
    assert Assignment.from_config({"number": 3, "role": "grid", "trial": DESCRIBED}).shard == WHOLE == (0, 1)


def test_a_result_is_flat_for_tune() -> None:
    going = Result(epoch=1, epochs=6, memory=0.25, means={"mse/odd": 2.0})
    told = {"epoch": 1, "epochs": 6, "finished": False, "interrupted": False, "memory": 0.25, "mean/mse/odd": 2.0}
    assert going.to_tune() == told
    # Tune adds keys of its own
    assert Result.from_tune({**told, "trial_id": "a", "config": {"number": 1}}) == going
    finished = {**told, "finished": True, "values/mse/odd": [1.0, 3.0], DECLARED: [{"name": "mse/odd", "fine": True}]}
    assert Result.from_tune(finished).to_tune() == finished
    assert Result.from_tune(finished).values == {"mse/odd": [1.0, 3.0]}


def test_a_trial_that_told_of_no_epoch() -> None:
    # a scheduler must find no epoch to judge by
    assert Result(interrupted=True).to_tune() == {"interrupted": True, "finished": False}
    assert Result(out_of_memory=True).to_tune() == {"interrupted": False, "finished": False, "out_of_memory": True}
    assert Result.from_tune(None) == Result.from_tune({"trial_id": "a"}) == Result()


def test_several_points_of_one_trial_of_tune() -> None:
    one, other = (
        Assignment(3, "grid", TRIAL, share=Share(1.0, 0.0)),
        Assignment(5, "grid", TRIAL, share=Share(1.0, 0.0)),
    )
    assert to_config([one]) == one.to_config() and from_config(one.to_config()) == [one]
    config = to_config([one, other])
    assert from_config(json.loads(json.dumps(config))) == [one, other] and list(config) == ["points"]
    results = [Result(1, 6, means={"mse/odd": 2.0}), Result(failure="mse/odd is not finite")]
    told = to_tune([one, other], results)
    assert [(each["number"], each["shard"]) for each in told["points"]] == [(3, [0, 1]), (5, [0, 1])]
    assert from_tune({**told, "trial_id": "a"}, 2) == results
    assert to_tune([one], results[:1]) == {"number": 3, "shard": [0, 1], **results[0].to_tune()}
    # before anything was told
    assert from_tune(None, 2) == from_tune({"trial_id": "a"}, 2) == [Result()] * 2


def test_a_checkpoint_of_before_it_kept_facts_declarations_and_arrays() -> None:
    old = {
        "trial": DESCRIBED,
        "records": [{"epoch": 1, "metrics": {"mse/odd": [1.0, 3.0]}, "time": 1_700_000_000_000}],
        "state": None,
        "finished": True,
    }
    kept = Checkpoint.of(old)
    assert [record.to_dict() for record in kept.records] == old["records"]
    assert (kept.finished, kept.facts, list(kept.declared), dict(kept.arrays)) == (True, None, [], {})
    arrays = Checkpoint.of({**old, "arrays": {"features": torch.ones(2, 3)}}).arrays
    assert arrays["features"].tolist() == [[1.0] * 3] * 2
