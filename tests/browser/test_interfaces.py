"""MLflow's and Optuna's interfaces in a real browser, behind their logins, showing a study that was just run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from optuna.storages import RDBStorage
from servers import PASSWORD, USER, locked_dashboard, mlflow_server, wsgi_server

from tests.browsing import PATIENCE, Browser, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.skipif(
        os.environ.get("FIERCE_TEST_BROWSER") != "1", reason="drives a browser; FIERCE_TEST_BROWSER=1 runs it"
    ),
    pytest.mark.timeout(900),
]

ROOT = Path(__file__).resolve().parents[2]
FIERCE = Path(sys.executable).with_name("fierce")
EPOCHS = 6
#: the part of MLflow's interface that is not about language models
WORKFLOW = "workflowType=machine_learning"
STUDY = f"""
name: browsed
description: Which λ keeps apart the *blobs* that no label named?
benchmark: tiny:Tiny
criteria: [ce, ls, {{name: fierce, lambda: 1, e: 20}}]
search:
  criteria: {{fierce: {{lambda: {{low: 0.1, high: 10, log: true}}, e: {{low: 5, high: 40}}}}}}
  trials: 3
  objective: {{metric: entropy/features, direction: maximize}}
seeds: [3, 5]
training: {{epochs: {EPOCHS}}}
"""
TRIALS, SEEDS, FIERCE_TRIALS = 6, 2, 4


@dataclass(frozen=True)
class Service:
    """Addresses of the two interfaces."""

    mlflow: str
    dashboard: str


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("interfaces")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "OPTUNA_", "FIERCE_"))}
    with mlflow_server(folder) as tracking_uri:
        environment = ours | {
            "MLFLOW_TRACKING_URI": tracking_uri,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "FIERCE_HOME": str(folder / "home"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE),
        }
        for arguments in (["run", "study.yaml"], ["report", "browsed"]):
            done = subprocess.run(
                [FIERCE, *arguments], env=environment, cwd=folder, capture_output=True, encoding="utf-8"
            )
            assert done.returncode == 0, done.stdout + done.stderr
        storage = RDBStorage(f"sqlite:///{folder / 'home' / 'optuna.db'}")
        with wsgi_server(locked_dashboard(storage, USER, PASSWORD)) as dashboard:
            yield Service(tracking_uri, dashboard)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as driver:
        yield Browser(driver)


@pytest.fixture(scope="module")
def study_run(browser: Browser, service: Service) -> str:
    """The address of the study's run, as one finds it after the login."""
    browser.log_in(service.mlflow, USER, PASSWORD)
    browser.open(f"{service.mlflow}/#/experiments?{WORKFLOW}")
    experiment = browser.link("browsed").partition("?")[0]
    browser.shoot("experiments")
    browser.open(f"{experiment}/runs?{WORKFLOW}")
    browser.read(f"{1 + TRIALS * (1 + SEEDS)} matching runs")
    run = browser.wait(lambda: browser.find("a[href*='/runs/']"))[0]
    assert run.text == "browsed"
    browser.shoot("runs")
    return f"{str(run.get_attribute('href')).partition('?')[0]}?{WORKFLOW}"


def test_nothing_is_shown_without_the_login(browser: Browser, service: Service) -> None:
    for address in (service.mlflow, service.dashboard):
        browser.events("responseReceived")
        # by another name than that for which the browser may know the login
        browser.open(address.replace("127.0.0.1", "localhost"))
        answers = [event["response"] for event in browser.events("responseReceived")]
        assert {answer["status"] for answer in answers if "localhost" in answer["url"]} == {401}


def test_the_study_describes_itself(browser: Browser, study_run: str) -> None:
    browser.open(study_run)
    # the links are there without a click, the rest of a long description after one
    for link in ("the report", "the trials by criterion", "their trajectories as charts"):
        assert browser.link(link)
    browser.shoot("study")
    [more] = browser.wait(lambda: browser.find("[data-testid='show-comment-toggle']"))
    more.click()
    browser.read(f"{TRIALS} of {TRIALS} trials done", "Best point", "CE (trial 0)", "fierce run study.yaml")
    # Markdown was read as such
    assert browser.find("em")
    assert browser.find("table")
    assert "**" not in browser.text()
    browser.shoot("description")


def test_the_description_leads_to_the_trials_by_criterion(browser: Browser, study_run: str) -> None:
    browser.open(study_run)
    browser.open(browser.link("the trials by criterion"))
    browser.read("Group: fierce", "Group: ce", "Group: ls", "lambda", "ls σ=0.2", "fierce λ=1 e=20")
    assert len(set(re.findall("^fierce λ=.*", browser.text(), re.MULTILINE))) == FIERCE_TRIALS
    browser.shoot("trials")


def test_the_description_leads_to_charts_that_compare_criteria(browser: Browser, study_run: str) -> None:
    browser.open(study_run)
    browser.open(browser.link("their trajectories as charts"))
    browser.read("accuracy", "ls σ=0.2", "fierce λ=1 e=20")
    browser.wait(lambda: len(lines_of_first_chart(browser)) >= TRIALS)
    browser.shoot("criteria")


def lines_of_first_chart(browser: Browser) -> list[str]:
    """The paths of the curves in the first chart, some of them drawn twice."""
    chart = "(//*[contains(@class, 'js-plotly-plot')])[1]"
    lines = browser.driver.find_elements("xpath", f"{chart}//*[contains(@class, 'js-line')]")
    return [path for line in lines if (path := line.get_attribute("d"))]


def test_a_seed_has_its_trajectories(browser: Browser, study_run: str) -> None:
    browser.open(study_run)
    browser.open(browser.link("ce"))
    seed = browser.link("seed 5").partition("?")[0]
    browser.open(f"{seed}/model-metrics?{WORKFLOW}")
    browser.read("accuracy", "seed 5 (accuracy/coarse)")
    line = browser.wait(lambda: lines_of_first_chart(browser))[0]
    # its points stand at whole epochs; those on a straight line between others are left out
    across = np.array([float(x) for x in re.findall(r"([\d.]+),", line)])
    epochs = 1 + (EPOCHS - 1) * (across - across[0]) / (across[-1] - across[0])
    assert epochs == pytest.approx(epochs.round(), abs=0.01)
    browser.shoot("trajectories")


def test_the_report_opens_among_the_artifacts(browser: Browser, study_run: str) -> None:
    browser.open(study_run)
    browser.open(browser.link("the report"))
    [frame] = browser.wait(lambda: browser.find("iframe"))
    browser.shoot("report")
    browser.driver.switch_to.frame(frame)
    try:
        [title] = browser.wait(lambda: browser.find("h1"))
        assert title.text == "browsed"
        browser.read("What was run", "How to reproduce")
        figures = browser.find("img")
        assert figures
        browser.wait(lambda: all(figure.get_property("naturalWidth") > 0 for figure in figures))
        assert browser.find("table tbody tr")
        browser.driver.execute_script("arguments[0].scrollIntoView()", figures[0])
        # it is explored there as well, though MLflow lets it run scripts and nothing else
        [panel] = browser.find("[data-panel='trajectories']")
        browser.driver.execute_script("arguments[0].scrollIntoView()", panel)
        browser.wait(lambda: browser.find("[data-panel='trajectories'] .plot[data-drawn] .scatterlayer .js-line"))
    finally:
        browser.driver.switch_to.default_content()
    browser.shoot("report-figure")


def test_the_dashboard_shows_importance_and_slices(browser: Browser, service: Service) -> None:
    browser.log_in(service.dashboard, USER, PASSWORD)
    browser.open(f"{service.dashboard}/dashboard")
    browser.read("browsed")
    browser.shoot("dashboard")
    browser.open(f"{service.dashboard}/dashboard/studies/1")
    browser.read("browsed (id=1)", "entropy/features", "Hyperparameter Importance")
    bars = browser.wait(lambda: [tick.text for tick in browser.find(".js-plotly-plot:has(.barlayer path) .ytick")])
    assert {"lambda", "e"} <= set(bars)
    browser.shoot("importance")
    browser.open(f"{service.dashboard}/dashboard/studies/1/analytics")
    browser.read("Slice", "Param e")
    browser.wait(lambda: browser.find(".js-plotly-plot .scatterlayer .point"))
    slice_points = browser.find(".js-plotly-plot")[0].find_elements("css selector", ".scatterlayer .point")
    assert len(slice_points) == FIERCE_TRIALS
    browser.shoot("slices")


def test_no_page_asks_other_hosts(browser: Browser, service: Service) -> None:
    browser.events("requestWillBeSent")
    for address, pages in (
        (service.mlflow, ("/#/", f"/#/experiments?{WORKFLOW}")),
        (service.dashboard, ("/dashboard", "/dashboard/studies/1")),
    ):
        browser.log_in(address, USER, PASSWORD)
        for page in pages:
            browser.open(f"{address}{page}")
            browser.read("browsed")
    asked = [urlsplit(event["request"]["url"]) for event in browser.events("requestWillBeSent")]
    hosts = {address.netloc.rpartition("@")[2] for address in asked if address.scheme in ("http", "https", "ws", "wss")}
    assert hosts == {urlsplit(service.mlflow).netloc, urlsplit(service.dashboard).netloc}
