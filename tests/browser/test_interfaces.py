"""MLflow's and Optuna's interfaces in a real browser, behind their logins, showing a study that was just run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from optuna.storages import RDBStorage
from servers import PASSWORD, USER, locked_dashboard, mlflow_server, wsgi_server

selenium = pytest.importorskip("selenium.webdriver", reason="no selenium: install the extra `test`")

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
#: seconds within which a page shows what it has to; a busy machine needs many
PATIENCE = 180
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


class Browser:
    """Someone who looks at pages."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def log_in(self, address: str) -> None:
        """Give the login, which the browser then keeps for this address."""
        self.driver.get(address.replace("://", f"://{USER}:{PASSWORD}@"))

    def open(self, address: str) -> None:
        # another fragment of the same page is no page of its own to `get`
        self.driver.get("about:blank")
        self.driver.get(address)

    def text(self) -> str:
        return str(self.driver.find_element("css selector", "body").text)

    def find(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def wait(self, seen: Callable[[], Any]) -> Any:
        """What ``seen`` gives once that is true; elements that the page has just replaced are looked for again."""
        from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        try:
            return waiting.until(lambda _: seen())
        except TimeoutException:
            self.shoot("timeout")
            raise AssertionError(f"not within {PATIENCE} s at {self.driver.current_url}:\n{self.text()}") from None

    def read(self, *texts: str) -> None:
        """Wait until the page holds all ``texts``."""
        self.wait(lambda: all(text in self.text() for text in texts))

    def link(self, text: str) -> str:
        """Where the link of this text leads to, once it is there; commas of a list do not count."""
        path = f"//a[translate(normalize-space(.), ',', '') = '{text}']"
        return str(self.wait(lambda: self.driver.find_elements("xpath", path))[0].get_attribute("href"))

    def shoot(self, name: str) -> None:
        """Keep a picture of the page in the folder that ``FIERCE_SCREENSHOTS`` names."""
        if folder := os.environ.get("FIERCE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))

    def events(self, kind: str) -> list[Any]:
        """What the browser noted of its network since the last call, of one kind of its developer tools' protocol."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [message["params"] for message in messages if message["method"] == f"Network.{kind}"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program, control = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (program and control):
        pytest.skip("no chromium with chromedriver here")
    options = selenium.ChromeOptions()
    options.binary_location = program
    # root has no sandbox, and containers little shared memory
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=2200,1400"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(control))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def study_run(browser: Browser, service: Service) -> str:
    """The address of the study's run, as one finds it after the login."""
    browser.log_in(service.mlflow)
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
    finally:
        browser.driver.switch_to.default_content()
    browser.shoot("report-figure")


def test_the_dashboard_shows_importance_and_slices(browser: Browser, service: Service) -> None:
    browser.log_in(service.dashboard)
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
        browser.log_in(address)
        for page in pages:
            browser.open(f"{address}{page}")
            browser.read("browsed")
    asked = [urlsplit(event["request"]["url"]) for event in browser.events("requestWillBeSent")]
    hosts = {address.netloc.rpartition("@")[2] for address in asked if address.scheme in ("http", "https", "ws", "wss")}
    assert hosts == {urlsplit(service.mlflow).netloc, urlsplit(service.dashboard).netloc}
