"""What a study asks of a scheduler, by hand-worked cases."""

from __future__ import annotations

from typing import Any

import pytest

from study.errors import UserError
from study.file.machines import Asked, asked
from study.file.spec import StudySpec
from study.record.changes import refused

STUDY: dict[str, Any] = {"name": "few", "benchmark": "hyperspectral", "criteria": ["ce"]}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        # one trial, where as many as possible are let run at once
        ({}, Asked(1, 1, 0, None, None)),
        ({"resources": {"cpus": 4, "gpus": "auto"}}, Asked(1, 4, 1, None, None)),
        # five on each of two nodes: three to a GPU, so that two GPUs are needed
        (
            {"concurrency": 10, "resources": {"cpus": 2, "gpus": 0.3}, "machines": {"nodes": 2}},
            Asked(2, 10, 2, None, None),
        ),
        # four GPUs of two trials each keep eight trials busy, with three halves of a core each
        ({"resources": {"cpus": 1.5, "gpus": 0.5}, "machines": {"gpus": 4}}, Asked(1, 12, 4, None, None)),
        ({"concurrency": 3, "machines": {"cpus": 8, "memory": 64, "hours": 0.5}}, Asked(1, 8, 0, 64, 0.5)),
    ],
)
def test_nodes_have_what_their_trials_take(changes: dict[str, Any], wanted: Asked) -> None:
    spec = StudySpec.model_validate(STUDY | changes)
    assert asked(spec) == wanted
    assert StudySpec.from_yaml(spec.to_yaml()) == spec


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machines: {nodez: 2}", "machines.nodez: unknown key 'nodez'; did you mean 'nodes'"),
        ("machines: {nodes: 0}", "machines.nodes: "),
        ("machines: {gpus: 0}\nresources: {gpus: 1}", "machines.gpus: is 0"),
        ("machines: {cpus: 1}\nresources: {cpus: 2}", "machines.cpus: is 1, and a trial asks for 2"),
        ("machines: {slurm: {time: 10}}", "machines.slurm.time: is written by fierce itself"),
        ("machines: {slurm: {'gres=gpu': 1}}", "machines.slurm.gres=gpu: is no long option"),
        ("machines: {kubernetes: {claim: My_Claim}}", "machines.kubernetes.claim: 'My_Claim': a name in Kubernetes"),
        ("machines: {kubernetes: {mount: data}}", "machines.kubernetes.mount: 'data' is no absolute path"),
    ],
)
def test_what_no_scheduler_takes_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        StudySpec.from_yaml(f"name: few\nbenchmark: hyperspectral\ncriteria: [ce]\n{text}\n")
    assert said in str(error.value)


def test_a_study_may_go_on_on_other_machines() -> None:
    before = StudySpec.model_validate(STUDY)
    assert refused(before, StudySpec.model_validate(STUDY | {"machines": {"nodes": 2}})) == []
