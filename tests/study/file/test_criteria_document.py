"""What docs/criteria.md shows of study files is a study file."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from study.file.plan import recipe, trial_for
from study.file.spec import StudySpec
from trainables import criteria
from trainables.trial import Projector

DOCUMENT = Path(__file__).parents[3] / "docs" / "criteria.md"


def test_searches_and_projector_of_the_document(tmp_path: Path) -> None:
    searches, projector = map(
        yaml.safe_load, re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    )
    common = {"benchmark": {"name": "tiny:Tiny"}, "criteria": ["ce"], "seeds": 2, **projector}
    searches["search"] |= {"trials": 3, "objective": {"metric": "mse/odd", "direction": "minimize"}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**common, **searches}), encoding="utf-8")
    spec = StudySpec.load(path)
    assert spec.search is not None
    searchable = {name for name in criteria.names() if criteria.find(name).hyperparameters}
    missing = searchable - set(spec.search.criteria) - {"ls", "fierce", "confidence-penalty"}
    assert not missing, f"docs/criteria.md shows no range to search of {', '.join(sorted(missing))}"
    for name, space in spec.search.criteria.items():
        defaults = criteria.find(name).settle({}, recipe(spec))
        assert all(interval.low <= defaults[name] <= interval.high for name, interval in space.items())
        assert trial_for(spec, name, {}).training == {"projector": {"hidden": 2048, "output": 256}}
    assert recipe(spec).projector == Projector(2048, 256)
    assert StudySpec.from_yaml(spec.to_yaml()) == spec
