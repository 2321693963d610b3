"""Optuna behind Tune: persistent, idempotent, reconciled on resume.

Every trial of a study, baselines and grid points included, is a trial of one Optuna study in a database, and its
number is the trial's identity everywhere. Optuna's states and the trials' checkpoints are the only truth: each
launch starts a fresh Tune experiment, to which `StudySearcher` gives whatever is not settled.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from study.file.plan import fixed_points, name_of, settings_of, trial_for, values_of
from study.file.search import VALIDATION_METRIC
from study.file.settings import coded, is_setting, kind
from study.file.spec import StudySpec
from study.launch import groups, pieces, ranges
from study.launch.moments import Moments, kept, moments_of, pooled
from study.launch.parts import assigned, parts, whole
from study.launch.pieces import Cause, Piece
from study.launch.placement import Capacity, first_share, shards
from study.launch.samplers import sampler_for
from study.record.trials import (
    ADDITION,
    CHOSEN,
    CRITERION,
    GPU_MEMORY,
    HYPERPARAMETER_VALUES,
    LABEL,
    MEANS,
    REASON,
    ROLE,
    SEEDS,
    SHARDS,
    STANDARD_ERRORS,
    TUNE_TRIAL,
    WAITING,
    absent_points,
    additions,
    attempts,
    choose,
    enqueue,
    further_seeds,
    identity,
    lacking_seeds,
    note_main_metric,
)
from trainables import criteria
from trainables.assignment import Assignment, Result, Share, from_tune
from trainables.benchmarks import find

#: what stands for a trial's value where a study optimises nothing: measured of every benchmark, and comparable
PLAIN_OBJECTIVES = ("accuracy/coarse", "accuracy/train")

#: the constraint that baselines of a search break, so that Optuna takes none for the best point that was found
NOT_SEARCHED = "not a searched point"

#: Optuna calls the sampler for every trial that is opened, also where all values are given: some are slow then,
#: or end the study, so this one, which does nothing, stands in for them
_AT_REST = optuna.samplers.RandomSampler(seed=0)


class StudySearcher(Searcher):
    """Gives Tune the trials of a study, and tells Optuna how they ended.

    First come the trials that Optuna holds as RUNNING from an earlier launch and those that are finished but in
    none of Tune's snapshots (``settled`` are in both; a finished trial's checkpoint lets it return at once); then
    the fixed points; then what Optuna proposes, as many at a time as the cluster's ``capacity()`` holds; then, where
    the study asks for it, what confirms the choice. A proposal's random stream is derived from the sampler's seed and
    the trial's number, so that a resume repeats none.

    A trial may be given in parts (see `study.launch.parts`); ``begin`` is called with the whole trial before the first
    of them, and ``end`` before Optuna is told, with the whole trial and all its parts. What fails is given again, up to
    ``spec.max_failures`` times, what ran out of memory with a larger share.

    One Tune trial may carry several points (see `study.launch.groups`), each a trial of its own here.
    """

    def __init__(
        self,
        spec: StudySpec,
        study: optuna.Study,
        capacity: Callable[[], Capacity],
        settled: Collection[int] = (),
        begin: Callable[[Assignment], None] | None = None,
        end: Callable[[Assignment, Sequence[Assignment]], None] | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.study, self._capacity = spec, study, capacity
        self._begin, self._end = begin, end
        #: set to stop: no trial is given out any more
        self.stopping = False
        #: why the search cannot go on, in one sentence
        self.problem: str | None = None
        #: what each of Tune's trials works at, less what has ended of it
        self._live: dict[str, list[Piece]] = {}
        #: opened, but not given to Tune yet
        self._pending: deque[Piece] = deque()
        #: trial -> its parts that have finished -> each metric's values over their seeds; and of how many parts
        self._finished: dict[int, dict[tuple[int, int], tuple[Piece, Mapping[str, list[float]]]]] = {}
        self._expected: dict[int, int] = {}
        #: trials that finished on the seeds that an earlier launch gave them, and go on with further ones
        self._followed: set[int] = set()
        #: means and standard errors of the baseline that a search compares with, once it is COMPLETE
        self._ce: Moments | None = None
        self._absent = deque(absent_points(spec, study))
        if SHARDS not in study.user_attrs:
            study.set_user_attr(SHARDS, shards(spec, capacity()))
        #: share of a GPU's memory that a point was seen to take
        self._memory: float | None = study.user_attrs.get(GPU_MEMORY)
        self._sizes = groups.Sizes(spec, study)
        unsettled = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL)
        self._again = deque(
            trial
            for number, trial in sorted(attempts(study).items())
            if trial.state in unsettled
            and (trial.state == TrialState.RUNNING or number not in settled)
            # a failed trial is trained again only where `retry_failed` has asked for it
            and trial.state != TrialState.FAIL
        )

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; None while one must be waited for; FINISHED when there is none left."""
        if self.stopping:
            return self.FINISHED
        limit = self.spec.concurrency
        if limit != "auto" and len(self._live) >= limit:
            return None
        if not self._pending:
            otherwise = self._open_next(trial_id)
            if not self._pending:
                return otherwise
        group = self._live[trial_id] = self._gathered(self._pending.popleft(), trial_id)
        return pieces.for_tune(group)

    def _open_next(self, trial_id: str) -> Any:
        """Open the trial whose turn it is; else what `suggest` says."""
        if self._again:
            self._open(self._again.popleft(), trial_id)
        elif (waiting := self._waiting()) or self._enqueue():
            first = (waiting or self._waiting())[0]
            if self._must_wait(first) or self._is_being_found(first.user_attrs[CRITERION]):
                return None
            self._open(first, trial_id)
        else:
            return self._propose(trial_id)
        return None

    def _gathered(self, first: Piece, trial_id: str) -> list[Piece]:
        """The piece with those that are trained together with it, of what is open and of what can be opened now."""
        size = self._size(first)
        group, most = [first], size if first.most is None else min(first.most, size)
        while len(group) < most:
            piece = self._joining(first, len(group))
            if piece is None and self._open_beside(first, trial_id):
                piece = self._joining(first, len(group))
            if piece is None:
                break
            group.append(piece)
            most = min(most, piece.most or most)
        if len(group) == 1:
            return group
        share = self._share(len(group))
        return [replace(piece, share=max(piece.share, share, key=pieces.size)) for piece in group]

    def _size(self, first: Piece) -> int:
        """In how large a group the piece may be given."""
        criterion = first.assignment.trial.criterion
        if first.assignment.role == "search":
            return self._sizes.proposed(criterion)
        size = self._sizes.of(criterion)
        if size == 1 or not self._sizes.are_found:
            return size
        # no device is to idle for the sake of larger groups
        left: int = 1 + sum(piece.assignment.trial.criterion == criterion for piece in self._pending)
        left += sum(frozen.user_attrs[CRITERION] == criterion for frozen in (*self._again, *self._waiting()))
        left += sum(point.trial.criterion == criterion for point in self._absent)
        capacity, share = self._capacity(), self._share()
        devices = int(capacity.gpus) if share.gpus else capacity.slots(share)
        if self.spec.concurrency != "auto":
            devices = min(devices, self.spec.concurrency)
        return min(size, math.ceil(left / max(1, devices)))

    def _is_being_found(self, criterion: str) -> bool:
        """Whether a trial at work is still to say how many points of the criterion go together."""
        at_work = (piece.assignment.trial.criterion for group in self._live.values() for piece in group)
        return self._sizes.is_wanted(criterion) and criterion in at_work

    def _joining(self, first: Piece, beside: int) -> Piece | None:
        """An open piece that can be trained together with ``first`` and so many in all."""
        company = groups.company(first.assignment)
        for place, piece in enumerate(self._pending):
            if (piece.most is None or piece.most > beside) and groups.company(piece.assignment) == company:
                del self._pending[place]
                return piece
        return None

    def _open_beside(self, first: Piece, trial_id: str) -> bool:
        """Open a further trial of which a part can be trained together with ``first``; whether there was one."""
        waiting = self._waiting() or (self._enqueue() and self._waiting()) or []
        for frozen in (*self._again, *waiting):
            if self._is_company(frozen, first) and not self._must_wait(frozen):
                if frozen.state != TrialState.WAITING:
                    self._again.remove(frozen)
                self._open(frozen, trial_id)
                return True
        given, search = first.assignment, self.spec.search
        if search is None or given.role != "search" or given.addition or waiting:
            return False
        criterion = given.trial.criterion
        if self._sizes.proposed(criterion) == 1 or self._asked()[criterion] >= search.trials:
            return False
        self._draw(criterion, trial_id)
        return True

    def _is_company(self, frozen: FrozenTrial, first: Piece) -> bool:
        """Whether a trial that is not open yet differs from that of ``first`` in numbers alone."""
        values, trial = frozen.user_attrs.get(HYPERPARAMETER_VALUES), first.assignment.trial
        if values is None or frozen.user_attrs[CRITERION] != trial.criterion:
            return False
        other = assigned(self.spec, self.study, frozen, values)
        # a part of it has as few seeds as that of the other
        same = replace(first.assignment, trial=replace(other.trial, seeds=trial.seeds))
        return other.addition == first.assignment.addition and groups.company(same) == groups.company(first.assignment)

    def _enqueue(self) -> bool:
        """Give Optuna the next fixed points; whether there were any."""
        points = [self._absent.popleft() for _ in range(min(WAITING, len(self._absent)))]
        for point in points:
            enqueue(self.spec, self.study, point)
        return bool(points)

    def _must_wait(self, frozen: FrozenTrial) -> bool:
        """Whether the trial's further seeds are compared with those of the reference, which are being trained."""
        if self.spec.search is None or not self.spec.search.needs_ce or ADDITION not in frozen.user_attrs:
            return False
        held = self.study.get_trials(deepcopy=False)
        return any(_is_reference(held[piece.optuna]) for group in self._live.values() for piece in group)

    def _over(self) -> Any:
        """There is nothing left, unless what Tune works at must be given again."""
        return None if self._live else self.FINISHED

    def _propose(self, trial_id: str) -> Any:
        search = self.spec.search
        if search is None:
            return self._over()
        asked = self._asked()
        criterion = min(asked, key=lambda name: asked[name])
        if asked[criterion] >= search.trials:
            return self._confirm(trial_id)
        at_once = self._sizes.proposed(criterion)
        if len(self._live) >= self._capacity().slots(self._share(at_once)) or self._is_being_found(criterion):
            return None
        if search.needs_ce and self._reference() is None:
            if self._live:
                return None
            self.problem = (
                "the search compares with cross-entropy, whose trial failed; resume the study to try it again"
            )
            return self.FINISHED
        self._draw(criterion, trial_id)
        return None

    def _asked(self) -> dict[str, int]:
        """How many points of each searched criterion have been proposed."""
        assert self.spec.search is not None
        asked = dict.fromkeys(self.spec.search.criteria, 0)
        for trial in attempts(self.study).values():
            if trial.user_attrs[ROLE] == "search":
                asked[trial.user_attrs[CRITERION]] += 1
        return asked

    def _draw(self, criterion: str, trial_id: str) -> None:
        """Open a trial at what Optuna proposes."""
        # a kill must leave no RUNNING trial without these attributes, so they are stored before it is asked for
        own = {ROLE: "search", CRITERION: criterion, SEEDS: list(self.spec.seeds)}
        self.study.enqueue_trial({}, user_attrs=own)
        self._open(self._waiting()[0], trial_id)

    def _confirm(self, trial_id: str) -> Any:
        """Once the search has ended: what it chose, and its rivals, on fresh seeds, where the study asks for that."""
        assert self.spec.search is not None
        if self.spec.search.confirm is None or CHOSEN in self.study.user_attrs or self._live:
            return self._over()
        # a launch after a kill must confirm the same choice, so it is stored before it is used
        self.study.set_user_attr(CHOSEN, choose(self.spec, self.study))
        self._absent.extend(absent_points(self.spec, self.study))
        if not self._enqueue():
            return self._over()
        self._open(self._waiting()[0], trial_id)
        return None

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _open(self, frozen: FrozenTrial, trial_id: str) -> None:
        """Take the trial up: draw what it does not have yet, and put its pieces among those to be given."""
        attributes = frozen.user_attrs
        values = attributes.get(HYPERPARAMETER_VALUES)
        if not frozen.state.is_finished():
            # Optuna draws a trial's parameters when the trial is opened, so its sampler is set before that
            self.study.sampler = _AT_REST if values is not None else self._sampler(frozen)
            if frozen.state == TrialState.WAITING:
                # `ask` would take the first one that waits
                self.study._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
            trial = optuna.Trial(self.study, frozen._trial_id)
            if values is None:
                values = self._sample(trial, attributes[CRITERION])
            else:
                self._register(trial, values)
            self.study.sampler = _AT_REST
            trial.set_user_attr(TUNE_TRIAL, trial_id)
        assert values is not None
        given = assigned(self.spec, self.study, frozen, values)
        found = parts(self.spec, self.study, given)
        if not frozen.state.is_finished():
            # the seeds before these are trained already
            found = [part for part in found if part.addition == given.addition]
        if found[-1].is_part and self._begin:
            self._begin(whole(self.spec, self.study, given))
        self._finished.pop(given.number, None)
        self._expected[given.number] = len(found)
        self._pending.extend(Piece(frozen.number, part, self._share()) for part in found)

    def _sampler(self, frozen: FrozenTrial) -> optuna.samplers.BaseSampler:
        """What draws a searched trial: it learns from the searched trials of the same criterion alone."""
        own = {name: frozen.user_attrs[name] for name in (ROLE, CRITERION)}
        return sampler_for(self.spec, frozen.number, self._searched(own[CRITERION]), own)

    def _share(self, points: int = 1) -> Share:
        """What so many points together get that did not fail."""
        return first_share(self.spec.resources, self._memory and points * self._memory)

    def _sample(self, trial: optuna.Trial, criterion: str) -> dict[str, Any]:
        """What is searched, drawn, or as it was drawn before a kill; the other hyperparameters at their defaults."""
        drawn = {}
        for name, distribution in self._searched(criterion).items():
            value = ranges.suggest(trial, name, distribution)
            choices = self.spec.search.space(criterion)[name].choices if self.spec.search else None
            drawn[name] = value if choices is None else next(each for each in choices if coded(each) == value)
        made = trial_for(self.spec, criterion, drawn)
        values = values_of(self.spec, made)
        trial.set_user_attr(LABEL, name_of(self.spec, made))
        trial.set_user_attr(HYPERPARAMETER_VALUES, values)
        return values

    def _register(self, trial: optuna.Trial, values: Mapping[str, Any]) -> None:
        """Makes a fixed point's values known to the sampler and the dashboard, where they lie in the space."""
        made = trial_for(self.spec, trial.user_attrs[CRITERION], values)
        for name, value in {**values, **settings_of(self.spec, made)}.items():
            distribution = self._space.get(name)
            if distribution is not None and ranges.holds(distribution, coded(value)):
                ranges.suggest(trial, name, distribution)

    def _searched(self, criterion: str) -> dict[str, BaseDistribution]:
        """The searched range of each hyperparameter and setting of ``criterion``."""
        assert self.spec.search is not None
        whole = {
            hyperparameter.name for hyperparameter in criteria.find(criterion).hyperparameters if hyperparameter.whole
        }
        options = find(self.spec.benchmark.name).Options
        return {
            name: ranges.distribution(interval, name in whole or (is_setting(name) and kind(name, options) is int))
            for name, interval in self.spec.search.space(criterion).items()
        }

    @cached_property
    def _space(self) -> dict[str, BaseDistribution]:
        """By name: the searched range, or the extent of the numbers of grid and baselines."""
        if self.spec.search:
            spaces = [self._searched(criterion) for criterion in self.spec.search.criteria]
            return {name: distribution for space in spaces for name, distribution in space.items()}
        extents: dict[str, list[Any]] = {}
        for point in fixed_points(self.spec):
            for name, value in {**point.trial.hyperparameters, **settings_of(self.spec, point.trial)}.items():
                extents.setdefault(name, []).append(value)
        return {
            name: IntDistribution(int(min(values)), int(max(values)))
            if all(isinstance(value, int) for value in values)
            else FloatDistribution(min(values), max(values))
            for name, values in extents.items()
            # words and lists, which a longer grid would have more of, and Optuna takes no others then
            if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note what trials take of a GPU's memory and how many go together; Optuna is told at the end."""
        group = self._live.get(trial_id)
        if not group:
            return
        told = from_tune(result, len(group))[0]
        if told.points:
            self._sizes.learn(group[0].assignment.trial.criterion, told.points)
        # several points of one process tell of all its memory each
        memory = told.memory / len(group)
        if self.spec.resources.gpus == "auto" and memory > (self._memory or 0.0):
            self._memory = memory
            self.study.set_user_attr(GPU_MEMORY, memory)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna of the trials that ended, unless they were interrupted or failed (see `fail` and `refuse`)."""
        group = self._live.get(trial_id)
        if error or group is None:
            return
        results = zip(group, from_tune(result, len(group)), strict=True)
        left = [piece for piece, told in results if not self._has_ended(piece, told)]
        if left:
            self._live[trial_id] = left
        else:
            del self._live[trial_id]

    def _has_ended(self, piece: Piece, told: Result) -> bool:
        """Whether the piece is over as it told; False where it failed."""
        if told.out_of_memory or told.failure:
            return False
        if told.finished:
            measured = [metric for metric in told.declared if metric["name"] in told.values]
            note_main_metric(self.spec, self.study, measured)
            done = self._finished.setdefault(piece.number, {})
            done[piece.place] = piece, told.values
            if len(done) == self._expected[piece.number]:
                self._complete(piece, [done[place] for place in sorted(done)])
        elif self.spec.search and self.spec.search.pruner and not told.interrupted and told.epoch:
            self._prune(piece, told)
        return True

    def is_complete(self, number: int) -> bool:
        """Whether all parts of the trial finished in this launch, and none is to follow."""
        done = self._finished.get(number, {})
        return bool(done) and len(done) == self._expected[number] and number not in self._followed

    def fail(self, trial_id: str, reason: str, cause: Cause = "refusal") -> list[tuple[Piece, Piece | None]]:
        """Take note of an attempt that failed: each piece of it, and what it will be tried again as.

        A trial that will not be failed for good, and Optuna is told. Empty for an attempt not known here. Where the
        storage failed all others would: the search stops, and the trials stay open for the next launch.
        """
        group = self._live.pop(trial_id, [])
        if cause == "storage" and group:
            self.stopping = True
            self.problem = f"{reason}; set that right and resume the study"
            return [(piece, None) for piece in group]
        following = pieces.again(group, cause, self.spec.max_failures, self._capacity())
        if cause == "memory" and len(group) > 1:
            # later groups would not fit either
            self._sizes.limit(min(piece.most for piece in following if piece and piece.most))
        self._pending.extendleft(piece for piece in reversed(following) if piece is not None)
        for piece, next_one in zip(group, following, strict=True):
            if next_one is None:
                self._give_up(piece, reason)
        return list(zip(group, following, strict=True))

    def refuse(self, trial_id: str, number: int, reason: str) -> Piece | None:
        """Take note of a trial that was trained to its end and cannot count; None where it is not known here.

        It failed for good, and those that were trained together with it did not.
        """
        group = self._live.get(trial_id, [])
        piece = next((piece for piece in group if piece.number == number), None)
        if piece is None:
            return None
        group.remove(piece)
        if not group:
            del self._live[trial_id]
        self._give_up(piece, reason)
        return piece

    def _give_up(self, piece: Piece, reason: str) -> None:
        self._pending = deque(waiting for waiting in self._pending if waiting.number != piece.number)
        trial = self._unfinished(piece)
        if trial is not None:
            trial.set_user_attr(REASON, reason)
            self.study.tell(piece.optuna, None, TrialState.FAIL)

    def _complete(self, piece: Piece, done: Sequence[tuple[Piece, Mapping[str, list[float]]]]) -> None:
        """All parts of a trial have finished: merge them, and tell Optuna."""
        if piece.assignment.is_part and self._end:
            given = piece.assignment
            self._end(whole(self.spec, self.study, given), parts(self.spec, self.study, given))
        trial = self._unfinished(piece)
        if trial is None:
            return
        means, errors = self._moments(piece, [values for _, values in done])
        trial.set_user_attr(MEANS, kept(means))
        trial.set_user_attr(STANDARD_ERRORS, kept(errors))
        held = trial.constraints
        for name, value in self._constraints(trial, (means, errors)).items():
            if name not in held:
                trial.set_constraint(name, value)
        if self.spec.search and trial.user_attrs[ROLE] != "search" and NOT_SEARCHED not in held:
            trial.set_constraint(NOT_SEARCHED, 1.0)
        metrics = [self.spec.search.objective.metric] if self.spec.search else PLAIN_OBJECTIVES
        # Optuna takes no NaN; a searched metric is finite (see `trainables.trainable`), accuracy/train always
        objective = next(means[name] for name in metrics if math.isfinite(means.get(name, math.nan)))
        self.study.tell(piece.optuna, objective, TrialState.COMPLETE)
        if _is_reference(trial):
            self._ce = None
        self._followed.discard(piece.number)
        if piece.number in lacking_seeds(self.spec, self.study):
            following = further_seeds(self.spec, self.study)
            self._absent.extend(point for point in following if point.extends == piece.number)
            self._followed.add(piece.number)

    def _moments(self, piece: Piece, found: Sequence[Mapping[str, list[float]]]) -> Moments:
        """The trial's means and standard errors, from what was ``found`` of each part and what earlier seeds have."""
        values = {name: [value for part in found for value in part[name]] for name in found[0]}
        moments = moments_of(values)
        addition = piece.assignment.addition
        if not addition:
            return moments
        earlier = additions(self.spec, self.study, piece.number)[:addition]
        before = next(
            trial.user_attrs
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if identity(trial) == piece.number and trial.user_attrs.get(ADDITION, 0) == addition - 1
        )
        known = before[MEANS], before[STANDARD_ERRORS]
        return pooled(known, sum(map(len, earlier)), moments, len(next(iter(values.values()))))

    def _prune(self, piece: Piece, result: Result) -> None:
        trial = self._unfinished(piece)
        if trial is None:
            return
        assert self.spec.search is not None
        value = result.means.get(self.spec.search.objective.metric, math.nan)
        if math.isfinite(value):
            trial.report(value, result.epoch)
        trial.set_user_attr(REASON, f"stopped early after epoch {result.epoch}")
        self.study.tell(piece.optuna, None, TrialState.PRUNED)

    def _unfinished(self, piece: Piece) -> optuna.Trial | None:
        """The trial, or None where it was told already, by a launch that was killed before Tune noted it."""
        frozen = self.study.get_trials(deepcopy=False)[piece.optuna]
        return None if frozen.state.is_finished() else optuna.Trial(self.study, frozen._trial_id)

    def _constraints(self, trial: optuna.Trial, moments: Moments) -> dict[str, float]:
        """By metric, how far the mean lies below its bound: feasible at 0 or less."""
        search, means = self.spec.search, moments[0]
        if search is None:
            return {}
        if search.needs_ce:
            reference = moments if _is_reference(trial) else self._reference()
            # another baseline may end before CE does: it is no searched point, so it needs no constraint
            if reference is None:
                return {}
            ce_means, ce_errors = reference
        if search.objective.label_free:
            # one seed has no standard error, so that nothing is feasible; the report says the same
            slack = ce_errors.get(VALIDATION_METRIC, math.nan)
            if not math.isfinite(slack):
                return {VALIDATION_METRIC: 1.0}
            bound = ce_means[VALIDATION_METRIC] - slack
            return {VALIDATION_METRIC: bound - means[VALIDATION_METRIC]}
        if search.constraint is None:
            return {}
        metric = search.constraint.metric
        if search.constraint.within_of_ce is not None:
            return {metric: ce_means[metric] - search.constraint.within_of_ce - means[metric]}
        assert search.constraint.at_least is not None
        return {metric: search.constraint.at_least - means[metric]}

    def _reference(self) -> Moments | None:
        """Cross-entropy's means and standard errors once it is COMPLETE."""
        if self._ce is None:
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                if _is_reference(trial):
                    self._ce = trial.user_attrs[MEANS], trial.user_attrs[STANDARD_ERRORS]
        return self._ce

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps its searcher in a file that is read by nobody, and this one knows the servers' logins."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the database is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the database is the state."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the database is the state."""


def _is_reference(trial: FrozenTrial | optuna.Trial) -> bool:
    """Whether a trial is the baseline that the search compares with."""
    attributes = trial.user_attrs
    return bool(attributes[ROLE] == "baseline" and attributes[CRITERION] == criteria.reference())


def required_metrics(spec: StudySpec) -> tuple[str, ...]:
    """The metrics without which a trial of the study cannot count."""
    return tuple(spec.search.metrics) if spec.search else ()
