"""Optuna's samplers, each drawing for one criterion from that criterion's searched points alone.

Baselines and the points of other criteria stand in the same Optuna study, under one numbering. A sampler that saw them
would infer a search space that all of them share, which is empty where cross-entropy is a baseline, and draw at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from study.file.search import SAMPLERS
from study.record.trials import ADDITION

if TYPE_CHECKING:
    from study.file.spec import StudySpec


class _Searched:
    """An Optuna study of which only the searched trials of one criterion are seen."""

    def __init__(self, study: Study, own: Mapping[str, str]) -> None:
        self._whole, self._own = study, own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def get_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        return self._kept(self._whole.get_trials(*arguments, **options))

    # the samplers call this private method, which caches within one draw
    def _get_trials(self, *arguments: Any, **options: Any) -> list[FrozenTrial]:
        return self._kept(self._whole._get_trials(*arguments, **options))

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    def _kept(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        # a point to which seeds were added stands there twice
        return [
            trial
            for trial in trials
            if self._own.items() <= trial.user_attrs.items() and ADDITION not in trial.user_attrs
        ]


class CriterionSampler(BaseSampler):
    """``sampler`` over the declared ``space``, from the trials whose user attributes hold ``own``."""

    def __init__(self, sampler: BaseSampler, space: Mapping[str, BaseDistribution], own: Mapping[str, str]) -> None:
        self._sampler, self._space, self._own = sampler, dict(space), own

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The declared space, as far as the sampler proposes jointly at all."""
        if isinstance(self._sampler, optuna.samplers.RandomSampler):
            return {}
        # a sequence knows numbers alone
        numbers_only = isinstance(self._sampler, optuna.samplers.QMCSampler)
        return {
            name: each
            for name, each in self._space.items()
            if not (numbers_only and isinstance(each, CategoricalDistribution))
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(self._view(study), trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(self._view(study), trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(self._view(study), trial, state, values)

    def _view(self, study: Study) -> Study:
        return cast(Study, _Searched(study, self._own))


def sampler_for(
    spec: StudySpec, number: int, space: Mapping[str, BaseDistribution], own: Mapping[str, str]
) -> BaseSampler:
    """The study's sampler as it stands for trial ``number``, whichever launch asks: see `CriterionSampler`."""
    assert spec.search is not None
    kind, seed = spec.search.sampler, spec.search.sampler_seed
    # a quasi-random sequence is even only where all points are scrambled by one seed
    scattered = [seed] if kind == "qmc" else [seed, number]
    options: dict[str, Any] = {"seed": int(np.random.SeedSequence(scattered).generate_state(1)[0])}
    if kind == "tpe":
        # trials that run at the same time count as bad ones, so that they are not proposed twice
        options |= {
            "constant_liar": spec.concurrency != 1 or spec.points_per_trial not in (1, "auto"),
            "multivariate": True,
        }
    if kind == "nsga-ii":
        # a first generation is random, and the default's 50 points are more than most searches have
        options["population_size"] = min(50, max(4, spec.search.trials // 4))
    if kind == "qmc":
        options |= {"scramble": True, "warn_independent_sampling": False, "warn_asynchronous_seeding": False}
    return CriterionSampler(getattr(optuna.samplers, SAMPLERS[kind])(**options), space, own)
