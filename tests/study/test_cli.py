"""The command ``fierce``: what it prints, its exit codes, and the servers it starts and ends."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from analysis.runs import Study
from study.cli import app
from study.errors import UserError
from study.file.spec import StudySpec, ready_made
from study.home import Home
from study.launch.cost import Cost, Kind
from study.launch.events import BEGIN, Replay
from study.launch.progress import StudyProgress
from study.record.files import load_spec
from study.service.ui import Server, serve
from tests import launches
from tests.launches import require_all_undisturbed, runs_of
from trainables.trial import Trial

TESTS = Path(__file__).resolve().parents[1]
FIERCE = Path(sys.executable).with_name("fierce")
COMMANDS = (
    *("run", "resume", "submit", "attach", "stop", "status", "report", "export", "studies", "delete", "schema", "ui"),
    "doctor",
)
STUDY = """
benchmark: tiny:Tiny
criteria: [ce, {name: fierce, lambda: 2}]
seeds: [3, 5]
training: {epochs: 2}
concurrency: 1
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path) -> dict[str, str]:
    """Without the variables that point a study elsewhere, and with the tests' own benchmark importable."""
    return launches.environment(TESTS.parent, TESTS) | {"FIERCE_HOME": str(home), "OMP_NUM_THREADS": "1"}


def fierce(home: Path, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [FIERCE, *arguments], capture_output=True, encoding="utf-8", env=environment(home), cwd=home.parent, timeout=300
    )
    assert result.returncode == expect, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


def here(home: Path, *arguments: str, expect: int = 0) -> Result:
    """A command in this process, which has imported what it needs, and may have a Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("FIERCE_HOME", str(home))
        patch.chdir(home.parent)
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == expect, result.output
    return result


def asked(home: Path, *arguments: str) -> str:
    return here(home, *arguments).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: fierce {command}" in result.output


@pytest.mark.parametrize("arguments", [["run", "--help"], ["--version"], ["--show-completion", "bash"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom typer.testing import CliRunner\nfrom study.cli import app\n"
        f"assert CliRunner().invoke(app, {arguments}).exit_code == 0\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    # typer would look for the shell that called it, and there may be none
    named = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", env=named)
    assert done.stdout == "[]\n", done.stderr


def test_the_version_is_that_of_the_package() -> None:
    printed = CliRunner().invoke(app, ["--version"]).stdout.split()
    assert printed == ["fierce-study", metadata.version("fierce-study")]


def test_bash_completes_commands(tmp_path: Path) -> None:
    asked = {
        **environment(tmp_path),
        "_FIERCE_COMPLETE": "complete_bash",
        "COMP_WORDS": "fierce stat",
        "COMP_CWORD": "1",
    }
    completed = subprocess.run([FIERCE], capture_output=True, encoding="utf-8", env=asked, check=True).stdout
    assert completed.split() == ["status"]


def test_dry_run_prints_trials_replicas_and_resources(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        STUDY.replace("concurrency: 1", "resources: {cpus: 0.5}\nconcurrency: 2"), encoding="utf-8"
    )
    home = tmp_path / "home"
    result = CliRunner().invoke(
        app, ["run", str(tmp_path / "mine.yaml"), "--dry-run", "--home", str(home), "--set", "criteria.1.e=7"]
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[:4] == [
        "baseline\tce\t1 trial\t2 replicas",
        "baseline\tfierce λ=2 e=7\t1 trial\t2 replicas",
        "benchmark tiny:Tiny, protocol released, 2 epochs",
        "2 trials, 4 replicas (seeds 3, 5)",
    ]
    assert "each trial: 0.5 CPU, 0 GPU; concurrency 2" in result.output
    assert not home.exists()


def test_dry_run_shows_four_digits_and_more_where_settings_would_look_alike(tmp_path: Path) -> None:
    grid = "benchmark: tiny:Tiny\ngrid: {fierce: {lambda: [0.3333333333, 0.123441, 0.123442], e: [10]}}\n"
    (tmp_path / "mine.yaml").write_text(grid, encoding="utf-8")
    result = CliRunner().invoke(app, ["run", str(tmp_path / "mine.yaml"), "--dry-run", "--home", str(tmp_path / "h")])
    shown = [line.split("\t")[1] for line in result.output.splitlines() if line.startswith("grid")]
    assert shown == ["fierce λ=0.3333 e=10", "fierce λ=0.123441 e=10", "fierce λ=0.123442 e=10"]


def test_dry_run_of_a_search_names_its_ranges() -> None:
    # so short that it is over before it could be timed
    changes = ("seeds=2", "training.epochs=1", "training.milestones=[]")
    arguments = [word for change in changes for word in ("--set", change)]
    result = CliRunner().invoke(app, ["run", "hyperspectral-search", "--dry-run", *arguments])
    assert "search\tfierce: lambda 0.01..10 (log), e 10..400 (log), by tpe\t30 trials\t60 replicas" in result.output
    fresh = "confirm\tthe choice of the search and the baselines, on seeds 2 to 11\t3 trials\t30 replicas"
    assert fresh in result.output
    assert "35 trials, 94 replicas (seeds 0, 1)" in result.output


def test_passwords_are_not_printed(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY + "optuna_uri: postgresql://me:secret@db/optuna\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["run", str(tmp_path / "mine.yaml"), "--dry-run"])
    assert "me@db" in result.output
    assert "secret" not in result.output


def test_studies_lists_the_home(tmp_path: Path) -> None:
    for name in ("b", "a"):
        folder = tmp_path / "studies" / name
        folder.mkdir(parents=True)
        (folder / "study.yaml").write_text(f"name: {name}\n{STUDY}", encoding="utf-8")
    result = CliRunner().invoke(app, ["studies", "--home", str(tmp_path)])
    columns, *rows = (line.split("\t") for line in result.stdout.splitlines())
    assert columns == ["study", "state", "date", "trials", "best"]
    assert [[*row[:2], *row[3:]] for row in rows] == [[name, "not begun", "0/?", "–"] for name in ("a", "b")]
    assert all(name in result.stderr for name in ready_made())


@pytest.mark.slow
def test_doctor_finds_a_good_machine(tmp_path: Path) -> None:
    checks = json.loads(fierce(tmp_path / "home", "doctor", "--json").stdout)
    by_name = {check["name"]: check for check in checks}
    assert {"python", "torch", "ray", "mlflow", "devices", "home", "disk", "tracking", "optuna"} <= set(by_name)
    assert all(check["ok"] for check in checks)
    assert str(os.cpu_count()) in by_name["devices"]["detail"]


def test_doctor_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "home").write_text("", encoding="utf-8")
    result = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path / "home")])
    failed = [line for line in result.output.splitlines() if line.startswith("FAIL")]
    assert result.exit_code == 1
    # Optuna's database would lie in the home
    assert [line.split()[1] for line in failed] == ["home", "tracking", "optuna"]
    assert uri in failed[1]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.server
def test_ui_serves_both_interfaces_until_ctrl_c(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    port, dashboard_port = free_port(), free_port()
    command = [str(FIERCE), "ui", "--port", str(port), "--dashboard-port", str(dashboard_port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment(home), cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(3)]
            logs = [path.read_text(encoding="utf-8") for path in (home / "logs").glob("*.log")]
            assert lines == [
                f"MLflow: http://127.0.0.1:{port}",
                f"optuna-dashboard: http://127.0.0.1:{dashboard_port}",
                "Ctrl-C ends both",
            ], logs
            groups = [
                int(pid)
                for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
            ]
            assert len(groups) == 2
            assert answers(f"http://127.0.0.1:{port}/health")
            assert answers(f"http://127.0.0.1:{dashboard_port}/dashboard/")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
    assert process.returncode == 130
    for group in groups:
        # the server and its own workers alike
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)


def web_server(name: str) -> Server:
    port = free_port()
    return Server(name, (sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"), {}, port)


def test_servers_end_together_where_one_ends(tmp_path: Path) -> None:
    one = web_server("one")
    # ends by itself once the other one answers
    program = f"import socket\nwith socket.create_server(('127.0.0.1', {(port := free_port())})) as s: s.accept()"
    other = Server("other", (sys.executable, "-c", program), {}, port)
    with pytest.raises(UserError, match=r"other ended by itself .*other\.log"):
        serve([one, other], tmp_path, lambda: None)
    assert not answers(one.url)


def test_a_request_to_end_ends_the_servers(tmp_path: Path) -> None:
    started = [web_server("one"), web_server("other")]

    def ready() -> None:
        assert all(answers(server.url) for server in started)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        serve(started, tmp_path, ready)
    assert not any(answers(server.url) for server in started)


@pytest.fixture(scope="module")
def finished(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The home of a study that was run to its end, and what the command printed."""
    home = tmp_path_factory.mktemp("cli") / "home"
    (home.parent / "mine.yaml").write_text(STUDY, encoding="utf-8")
    return home, asked(home, "run", "mine.yaml", "--name", "first")


def test_run_prints_plain_lines_and_where_to_go_on(finished: tuple[Path, str]) -> None:
    _, printed = finished
    lines = printed.splitlines()
    assert lines[0].startswith("a trial's checkpoint takes ")
    assert lines[1] == "2 trials planned"
    assert "trial 0 started: ce (baseline)" in lines
    assert "trial 1 started: fierce λ=2 e=10 (baseline)" in lines
    assert lines[-3] == "2 done, 0 failed, 0 missing"
    assert lines[-2] == "report: fierce report first"
    assert lines[-1] == "browse: fierce ui"
    assert "\x1b" not in printed


def test_a_finished_study_has_nothing_left_to_do(finished: tuple[Path, str]) -> None:
    home, _ = finished
    again = asked(home, "resume", "first")
    assert "2 done, 0 failed, 0 missing" in again
    assert "epoch" not in again


def accuracy(home: Path, trial: int) -> str:
    """As a person reads it, the mean over the trial's seeds after the last epoch."""
    frame = Study.open(Home(home).tracking_uri(), "first").final
    own = frame[(frame["trial"] == trial) & (frame["metric"] == "accuracy/coarse")]
    return f"{own['value'].mean():.4g}"


def test_status_by_trial_and_seed(finished: tuple[Path, str]) -> None:
    home, _ = finished
    assert asked(home, "status", "first").splitlines() == [
        "trial\tcriterion\trole\tstate\tepoch\tseeds\taccuracy/coarse\treason",
        f"0\tce\tbaseline\tdone\t2/2\t2 done\t{accuracy(home, 0)}\t",
        f"1\tfierce λ=2 e=10\tbaseline\tdone\t2/2\t2 done\t{accuracy(home, 1)}\t",
        "trials: 2 done, 0 running, 0 failed, 0 missing",
        "replicas: 4 done, 0 running, 0 failed, 0 missing",
    ]
    state = json.loads(asked(home, "status", "first", "--json"))
    assert [trial["state"] for trial in state["trials"]] == ["done", "done"]
    assert [trial["seeds"] for trial in state["trials"]] == [{"3": "done", "5": "done"}] * 2


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_export_is_one_tidy_table(finished: tuple[Path, str], suffix: str) -> None:
    home, _ = finished
    out = home.parent / f"table.{suffix}"
    asked(home, "export", "first", "--out", str(out))
    frame = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert " ".join(frame.columns) == "study trial criterion lambda e sigma beta seed metric epoch value"
    loss = frame[frame.metric == "loss/train"]
    # 2 trials of 2 seeds and 2 epochs
    assert len(loss) == 8
    assert set(loss.seed) == {3, 5}
    assert set(loss[loss.criterion == "fierce"]["lambda"]) == {2.0}
    assert loss[loss.criterion == "ce"]["lambda"].isna().all()
    assert not list(home.parent.glob(".*part"))


def test_report_is_one_page(finished: tuple[Path, str]) -> None:
    home, _ = finished
    line = asked(home, "report", "first", "--out", str(home.parent / "page")).splitlines()[-1]
    page = Path(line.removeprefix("report: "))
    assert page.parent == home.parent / "page"
    assert "<html" in page.read_text(encoding="utf-8")
    # the same page opens in MLflow, at the study's run
    [attached] = (home / "artifacts" / "first").glob("*/artifacts/report/report.html")
    assert attached.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    figures = sorted(path.name for path in page.parent.glob("*.png"))
    assert figures
    assert sorted(path.name for path in attached.parent.glob("*.png")) == figures


@pytest.mark.usefixtures("ray_here")
def test_events_in_place_of_the_display(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(STUDY, encoding="utf-8")
    printed = asked(tmp_path / "home", "run", "mine.yaml", "--events")
    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["event"] for event in events[:2]] == ["message", "started"]
    assert events[1]["planned"] == 2
    outcome = events[-1]
    assert outcome.pop("time") >= events[0]["time"]
    assert outcome == {"event": "outcome", "done": 2, "failed": 0, "missing": 0, "interrupted": False}
    started = [(event["number"], event["label"]) for event in events if event["event"] == "trial_started"]
    assert started == [(0, "ce"), (1, "fierce λ=2 e=10")]
    assert [event["state"] for event in events if event["event"] == "trial_ended"] == ["done", "done"]


def test_status_without_optunas_database_is_that_of_mlflow(finished: tuple[Path, str], tmp_path: Path) -> None:
    home, _ = finished
    before = asked(home, "status", "first")
    (home / "optuna.db").rename(tmp_path / "optuna.db")
    try:
        assert asked(home, "status", "first") == before
        # asking does not make an empty one
        assert not (home / "optuna.db").exists()
    finally:
        (tmp_path / "optuna.db").rename(home / "optuna.db")


@pytest.mark.usefixtures("ray_here")
def test_a_failed_trial_is_exit_code_1(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.write_text("1 raise", encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        f"benchmark: {{name: tiny:Tiny, trouble: {trouble}}}\ncriteria: [ce]\nseeds: 1\nmax_failures: 0\n",
        encoding="utf-8",
    )
    result = here(tmp_path / "home", "run", "mine.yaml", expect=1)
    assert "0 done, 1 failed, 0 missing" in result.stdout
    assert "fierce resume mine" in result.stderr


@pytest.mark.thorough
@pytest.mark.usefixtures("ray_here")
def test_ctrl_c_leaves_a_study_that_resume_finishes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "benchmark: {name: tiny:Tiny, pause: 0.3}\ncriteria: [ce, ls]\nseeds: 1\ntraining: {epochs: 6}\n"
        "concurrency: 1\n",
        encoding="utf-8",
    )
    home = Home(tmp_path / "home")
    with subprocess.Popen(
        [FIERCE, "run", "mine.yaml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(home.root),
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("trial 0 started"):
                break
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        process.wait(timeout=120)
    assert process.returncode == 130
    assert "fierce resume mine" in errors
    assert "Traceback" not in errors
    spec = load_spec(home, "mine")
    assert {run.info.status for run in runs_of(home, spec).values()} <= {"KILLED"}
    state = json.loads(asked(home.root, "status", "mine", "--json"))
    assert not state["running"]
    assert [(trial["state"], trial["seeds"]) for trial in state["trials"]] == [("missing", {"0": "missing"})] * 2
    assert "2 done, 0 failed, 0 missing" in asked(home.root, "resume", "mine")
    assert {run.info.status for run in runs_of(home, spec).values()} == {"FINISHED"}
    require_all_undisturbed(home, spec)


def progress_of(text: str) -> tuple[StudyProgress, io.StringIO]:
    stream = io.StringIO()
    return StudyProgress(StudySpec.from_yaml(text), Console(file=stream, width=200)), stream


SEARCH = """
name: s
benchmark: tiny:Tiny
criteria: [ce]
seeds: 2
search:
  criteria: {fierce: {lambda: {low: 0.1, high: 1}}}
  trials: 2
  objective: {metric: mse/raw, direction: minimize}
  constraint: {at_least: 0.9}
"""


def test_plain_progress_is_one_line_per_start_and_end() -> None:
    progress, stream = progress_of(SEARCH)
    with progress:
        progress.started(2)
        progress.trial_started(0, "ce", "baseline")
        for epoch in range(1, 6):
            progress.epoch(0, epoch, 5, {"mse/raw": 0.1})
        progress.trial_ended(0, "done", None, {"mse/raw": 0.1, "accuracy/coarse": 0.95})
        progress.trial_started(1, "fierce λ=1 e=10", "search")
        progress.trial_ended(1, "failed", "out of memory", {})
    # the epochs came within the same ten seconds
    assert stream.getvalue().splitlines() == [
        "2 trials planned",
        "trial 0 started: ce (baseline)",
        "trial 0 done: ce accuracy/coarse 0.95 mse/raw 0.1 (1/2 ended)",
        "trial 1 started: fierce λ=1 e=10 (search)",
        "trial 1 failed: fierce λ=1 e=10: out of memory (2/2 ended)",
    ]


def test_progress_shows_four_digits_and_more_where_settings_would_look_alike() -> None:
    progress, stream = progress_of(SEARCH)
    with progress:
        for number, value in enumerate(("0.123441", "0.123449", "2.71828182846")):
            progress.trial_started(number, f"fierce λ={value} e=10", "search")
    assert [line.split(": ")[1] for line in stream.getvalue().splitlines()] == [
        *("fierce λ=0.1234 e=10 (search)", "fierce λ=0.12345 e=10 (search)", "fierce λ=2.718 e=10 (search)")
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_study_without_a_search_shows_what_every_trial_has_and_names_no_best(terminal: bool) -> None:
    stream = io.StringIO()
    spec = StudySpec.from_yaml("name: g\nbenchmark: tiny:Tiny\ncriteria: [ce]\nseeds: 2")
    means = {"loss/train": 0.2, "mse/raw": 0.1, "accuracy/coarse": 0.95}
    with StudyProgress(spec, Console(file=stream, width=160, force_terminal=terminal)) as progress:
        progress.started(2)
        progress.trial_started(0, "ce", "baseline")
        progress.trial_ended(0, "done", None, means)
        progress.trial_started(1, "ls σ=0.1", "baseline")
        progress.epoch(1, 5, 6, means)
    text = stream.getvalue()
    assert "accuracy/coarse 0.95 loss/train 0.2" in text
    assert "best" not in text and "mse/raw" not in text


def test_epochs_are_told_after_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("study.launch.progress.time.monotonic", lambda: now)
    progress, stream = progress_of(SEARCH)
    with progress:
        progress.started(2)
        progress.trial_started(0, "ce", "baseline")
        for epoch in (1, 2, 3, 4):
            now += 6
            progress.epoch(0, epoch, 10, {"mse/raw": 0.25})
    # 8 epochs of 6 s and a second trial; then 6 epochs and that
    assert stream.getvalue().splitlines()[2:] == [
        "trial 0 epoch 2/10 mse/raw 0.25, about 1 min 48 s left",
        "trial 0 epoch 4/10 mse/raw 0.25, about 1 min 36 s left",
    ]


def test_criteria_that_take_longer_count_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("study.launch.progress.time.monotonic", lambda: now)
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    # 5 s and 15 s from the first epoch on
    kinds = [
        Kind(Trial("hyperspectral", name, (0,)), 1, pace=pace, epochs=1) for name, pace in (("ce", 5), ("fierce", 15))
    ]
    predicted = Cost(20, 20, 1, 0, 0, 0.0, kinds)
    with StudyProgress(StudySpec.from_yaml(SEARCH), console, predicted) as progress:
        progress.started(2)
        progress.trial_started(0, "ce", "baseline")
        for epoch in (1, 2, 3):
            now += 6
            progress.epoch(0, epoch, 10, {})
    # 8 epochs of 6 s, and a trial of three times 60 s
    assert "trial 0 epoch 2/10, about 3 min 48 s left" in stream.getvalue()


def test_a_study_that_is_looked_at_late_knows_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr("study.launch.progress.time.monotonic", lambda: now)
    progress, stream = progress_of(SEARCH)
    replay = Replay(progress)
    # the log tells at once of what took two minutes: an epoch takes 60 s, so that eight and a second trial are left
    events = [
        {"event": "started", "time": 1000.0, "planned": 2},
        {"event": "trial_started", "time": 1030.0, "number": 0, "label": "ce", "role": "baseline"},
        *({"event": "epoch", "time": 1030.0 + 60 * epoch, "number": 0, "epoch": epoch, "epochs": 10, "means": {}}
          for epoch in (1, 2)),
    ]  # fmt: skip
    with progress:
        for line in [f"{BEGIN}s-1: exec fierce run s.yaml", *map(json.dumps, events)]:
            replay(line)
        now += 60
        replay(json.dumps({**events[-1], "time": 1210.0, "epoch": 3}))
    assert stream.getvalue().splitlines()[-1] == "trial 0 epoch 3/10, about 17 min 00 s left"


def test_terminal_progress_names_the_best_feasible_trial() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=160, force_terminal=True)
    with StudyProgress(StudySpec.from_yaml(SEARCH), console) as progress:
        progress.started(3)
        for number, (label, error, accuracy) in enumerate(
            [("worse", 0.3, 0.95), ("best", 0.2, 0.95), ("infeasible", 0.1, 0.5)]
        ):
            progress.trial_started(number, label, "search")
            progress.epoch(number, 6, 6, {"mse/raw": error})
            progress.trial_ended(number, "done", None, {"mse/raw": error, "accuracy/coarse": accuracy})
    last = stream.getvalue()
    assert "3/3" in last
    assert "best so far mse/raw 0.2: best" in last
    assert "mse/raw 0.1: infeasible" not in last
