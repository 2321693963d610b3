"""How a study stands in MLflow: the names that the tracking writes and the analysis reads.

An experiment per study. Three levels of runs: study -> trial -> seed, nested by ``mlflow.parentRunId``.
The trajectories (step = epoch, 1-based) are an artifact of the trial's run, which holds their means over its seeds as
metrics; of seed runs the metrics are thinned. Before 0.2 they were all that there was, and whole.
"""

from __future__ import annotations

#: tag: "study", "trial" or "seed"
LEVEL = "fierce.level"
#: tags on every run of a study
STUDY = "fierce.study"
#: of the study's own run: what tells it from another study of that name
IDENTITY = "fierce.study_id"
#: tag on the study run: the recipe that its trials are trained by, as JSON
RECIPE = "fierce.recipe"
#: tags on trial and seed runs
TRIAL = "fierce.trial"  # Optuna's trial number, decimal
CRITERION = "fierce.criterion"
PROTOCOL = "fierce.protocol"
BENCHMARK = "fierce.benchmark"
#: tag on seed runs
SEED = "fierce.seed"
#: another, absent where the run's metrics are all there is: how many points of each it holds at most, or "all"
SEED_POINTS = "fierce.seed_points"
#: tag on study and trial runs: the planned seeds, "0,1,2"
SEEDS = "fierce.seeds"
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
#: tag on trial runs: "baseline" (fixed point), "grid", "search", or "confirm" (one of these, on fresh seeds)
ROLE = "fierce.role"
#: the role of trials that confirm, and their tag with the number of the trial that they train again
CONFIRM, REPEATS = "confirm", "fierce.repeats"
#: tag on failed trial and seed runs
REASON = "fierce.reason"
#: tag on the study run: the resolved study file, as YAML, is the artifact of this name
STUDY_FILE = "study.yaml"
#: tags on trial and seed runs, this one and those that it begins: names of their artifacts, "a,b", once they are there
KEPT = "fierce.kept"
#: tag on the study run: how many trials are planned, decimal
PLANNED_TRIALS = "fierce.planned_trials"

#: artifacts of the study run: what it declares of itself, each a JSON list (see `analysis.declarations`)
#: of the metrics that are measured: {name, label, note, unit, better: lower | higher | none, fine, twin_of,
#: heldout, group}
METRICS_FILE = "metrics.json"
#: of the criteria in report order: {name, label, hyperparameters: [{name, symbol, whole, log}]}, and reference: true
#: of the one that the others are compared with; hyperparameters stand as MLflow params of their name on trial and seed
#: runs, absent where the criterion does not read them
CRITERIA_FILE = "criteria.json"

#: artifact of a seed run: arrays kept after the last epoch, by name (see the evaluators' ``arrays``)
ARRAYS = "arrays.npz"
#: artifact of a trial run: the weights of all replicas after the last epoch
WEIGHTS = "weights.pt"


def weights_file(position: int, count: int) -> str:
    """The artifact's name where the trial was trained in ``count`` shards of its seeds: each has its own."""
    return WEIGHTS if count == 1 else f"weights-{position + 1}-of-{count}.pt"


#: artifact of a trial run: the trajectories of all its seeds (see `analysis.columns`)
TRAJECTORIES = "trajectories.parquet"


def trajectories_file(*part: int) -> str:
    """The artifact's name where the trial was trained in parts, as `weights_file` has it."""
    (weights, before), (own, suffix) = WEIGHTS.split("."), TRAJECTORIES.split(".")
    return f"{weights_file(*part).removesuffix(f'.{before}').replace(weights, own)}.{suffix}"


def kept_tag(file: str) -> str:
    """The tag that names this artifact alone: parts of a trial, which write theirs at once, share none."""
    return f"{KEPT}.{file.split('.')[0]}"
