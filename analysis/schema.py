"""How a study stands in MLflow: the names that the tracking writes and the analysis reads.

An experiment per study. Three levels of runs: study -> trial -> seed, nested by ``mlflow.parentRunId``.
The trajectories (step = epoch, 1-based) are an artifact of the trial's run, which holds their means over its seeds as
metrics; of seed runs the metrics are thinned. Before 0.2 they were all that there was, and whole.
"""

from __future__ import annotations

from collections.abc import Mapping

#: the metric that every benchmark measures
ACCURACY = "accuracy/coarse"

#: tag: "study", "trial" or "seed"
LEVEL = "fierce.level"
#: tags on every run of a study
STUDY = "fierce.study"
#: of the study's own run: what tells it from another study of that name
IDENTITY = "fierce.study_id"
#: tag on every run: the versions of what trained it, ``fierce-study 0.2.0 python 3.12.3 …``
VERSIONS = "fierce.versions"
#: tag on the study run: the recipe that its trials are trained by, as JSON
RECIPE = "fierce.recipe"
#: tags on trial and seed runs
TRIAL = "fierce.trial"  # Optuna's trial number, decimal
CRITERION = "fierce.criterion"
PROTOCOL = "fierce.protocol"
BENCHMARK = "fierce.benchmark"
#: tag on seed runs
SEED = "fierce.seed"
#: another, absent where the run's metrics are all there is: how many points of each it holds at most, or "all"; on a
#: trial's run, as "0": its seeds have no runs (see `analysis.runless`)
SEED_POINTS = "fierce.seed_points"
#: tags on the run of such a trial, this one and those that it begins: the seeds that are done before all are, "0,1"
ENDED = "fierce.ended"
#: tag on study and trial runs: the planned seeds, "0,1,2"
SEEDS = "fierce.seeds"
#: param on trial and seed runs: the criterion, for the columns of MLflow's list of runs
CRITERION_PARAM = "criterion"
#: metrics of trial runs: the standard error over the seeds, two or more, of the metric whose name follows
STANDARD_ERROR = "standard-error/"
#: tags on trial and seed runs, known once the data is loaded
DATA_NAME = "fierce.data.name"
DATA_PROVENANCE = "fierce.data.provenance"  # real, semi-synthetic or simulated
DATA_FINGERPRINT = "fierce.data.fingerprint"
DATA_DESCRIPTION = "fierce.data.description"
DATA_CLASSES = "fierce.data.classes"  # names of the coarse classes, a JSON list
#: tag on trial runs, known once the data is split, as JSON: {sizes: {part: samples}, redrawn: whether each seed holds
#: out other samples}
PARTS = "fierce.data.parts"
#: tag on seed runs, known once the data is split: a digest of which samples are in which part, for this seed
SPLIT = "fierce.data.split"
#: tag on trial runs: "baseline" (fixed point), "grid", "search", or "confirm" (one of these, on fresh seeds)
ROLE = "fierce.role"
#: the role of trials that confirm, and their tag with the number of the trial that they train again
CONFIRM, REPEATS = "confirm", "fierce.repeats"
#: tag on failed trial and seed runs
REASON = "fierce.reason"
#: tag on a failed trial's own run: where in code of the user's own the error arose, as Python tells it
TRACEBACK = "fierce.traceback"
#: tag on the study run: the resolved study file, as YAML, is the artifact of this name
STUDY_FILE = "study.yaml"
#: tags on trial and seed runs, this one and those that it begins: names of their artifacts, "a,b", once they are there
KEPT = "fierce.kept"
#: tag on the study run: how many trials are planned, decimal
PLANNED_TRIALS = "fierce.planned_trials"

#: tag on the study run: the training settings and options that vary between its trials, as a JSON list of {name,
#: symbol, log}; they stand as MLflow params of their name (training.learning_rate) on trial and seed runs
VARIED = "fierce.varied"

#: artifacts of the study run: what it declares of itself, each a JSON list (see `analysis.declarations`)
#: of the metrics that are measured: {name, label, note, unit, better: lower | higher | none, fine, twin_of,
#: heldout, group, chance, floor_of}
METRICS_FILE = "metrics.json"
#: of the criteria in report order: {name, label, meaning, hyperparameters: [{name, symbol, whole, log, meaning}]},
#: reference: true of the one that the others are compared with, and fine: true of one that reads fine labels;
#: hyperparameters stand as MLflow params of their name on trial and seed runs, absent where the criterion does not read
#: them
CRITERIA_FILE = "criteria.json"

#: artifact of a seed run: arrays kept after the last epoch, by name (see the evaluators' ``arrays``); of a trial run
#: where seeds have none, by seed and name, ``3/features``, in parts as `weights_file` has it
ARRAYS = "arrays.npz"
#: artifact of a trial run: the weights of all replicas after the last epoch
WEIGHTS = "weights.pt"


def weights_file(position: int, count: int, addition: int = 0) -> str:
    """The artifact's name where the trial was trained in parts, each with a file of its own.

    That is in ``count`` shards of its seeds; and seeds that were added later, the ``addition``-th time. The tag `SEEDS`
    has the seeds of all files in order: by addition, then by position.
    """
    return _part(WEIGHTS, position, count, addition)


#: artifact of a trial run: the trajectories of all its seeds (see `analysis.columns`)
TRAJECTORIES = "trajectories.parquet"


def trajectories_file(position: int, count: int, addition: int = 0) -> str:
    """The artifact's name where the trial was trained in parts, as `weights_file` has it."""
    return _part(TRAJECTORIES, position, count, addition)


def arrays_file(position: int, count: int, addition: int = 0) -> str:
    """The artifact's name where the trial was trained in parts, as `weights_file` has it."""
    return _part(ARRAYS, position, count, addition)


def listed(tags: Mapping[str, str], name: str) -> set[str]:
    """What stands, separated by commas, in the tag ``name`` and in those of its parts, as `kept_tag` calls them."""
    values = (value for tag, value in tags.items() if tag == name or tag.startswith(f"{name}."))
    return {part for value in values for part in value.split(",")} - {""}


def ended_tag(file: str) -> str:
    """The tag that names the seeds of the part with this file, once they are done."""
    return f"{ENDED}.{file.split('.')[0]}"


def kept_tag(file: str) -> str:
    """The tag that names this artifact alone: parts of a trial, which write theirs at once, share none."""
    return f"{KEPT}.{file.split('.')[0]}"


def _part(name: str, position: int, count: int, addition: int) -> str:
    stem, suffix = name.split(".")
    added = f"-added-{addition}" if addition else ""
    part = f"-{position + 1}-of-{count}" if count > 1 else ""
    return f"{stem}{added}{part}.{suffix}"
