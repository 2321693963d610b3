"""The part of a report that is explored, in a real browser: pointed at, switched, slid, by keys alone, in the dark."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from scipy import stats

from analysis import rendering, report, schema
from analysis.declarations import Hyperparameter
from analysis.explorer import embedding
from benchmarks import report_scale
from benchmarks.explorable import STUDY_FILE, points
from benchmarks.verdicts import made
from tests.analysis.known_study import EPOCHS, LEVELS, SEEDS, value, write_store
from tests.browsing import Browser, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("FIERCE_TEST_BROWSER") != "1", reason="drives a browser; FIERCE_TEST_BROWSER=1 runs it"
    ),
    pytest.mark.timeout(900),
]

#: a name and a label that would break out of a page that did not hold them as data
NAME = "</script><b>bold</b>"
LABEL = "raw <b>MSE</b> & more"
#: panels that need no search
PANELS = ("trajectories", "sensitivity", "coordinates")


class Explorer(Browser):
    """Someone who explores a report."""

    def open_panel(self, name: str) -> Any:
        """Scroll to a panel, open it, and wait until its plot is drawn."""
        panel = self.panel(name)
        if not panel.get_attribute("open"):
            panel.find_element("css selector", "summary").click()
        self.driver.execute_script("arguments[0].scrollIntoView()", panel)
        self.wait(lambda: self.drawn(name))
        return panel

    def panel(self, name: str) -> Any:
        return self.driver.find_element("css selector", f"[data-panel='{name}']")

    def plot(self, name: str) -> Any:
        return self.panel(name).find_element("css selector", ".plot")

    def drawn(self, name: str) -> int:
        """How often the panel's plot was drawn."""
        return int(self.plot(name).get_attribute("data-drawn") or 0)

    def after(self, name: str, act: Any) -> None:
        """Do something that draws a panel's plot anew, and wait until it is."""
        before = self.drawn(name)
        act()
        self.wait(lambda: self.drawn(name) > before)

    def switch(self, name: str, label: str) -> None:
        """Click the box or button that has this label."""
        path = f".//label[normalize-space()='{label}']"
        self.after(name, self.panel(name).find_element("xpath", path).click)

    def choose(self, name: str, label: str, option: str) -> None:
        from selenium.webdriver.support.ui import Select

        lists = self.panel(name).find_elements("css selector", "label > select")
        [found] = [each for each in lists if each.find_element("xpath", "..").text.startswith(label)]
        chosen = Select(found)
        if chosen.first_selected_option.text != option:
            self.after(name, lambda: chosen.select_by_visible_text(option))

    def traces(self, name: str) -> list[dict[str, Any]]:
        """What the plot draws: x, y, text and looks of each line."""
        script = (
            "return arguments[0].data.map(({x, y, text, mode, line, fill}) => "
            "({x: [...x], y: [...y], text: text ? [...text] : null, mode, line, fill}))"
        )
        return list(self.driver.execute_script(script, self.plot(name)))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The traces that can be read."""
        return [trace for trace in self.traces(name) if trace["text"] and trace["x"]]

    def reading(self, name: str) -> str:
        return str(self.panel(name).find_element("css selector", ".reading").text)

    def caption(self, name: str) -> str:
        return str(self.panel(name).find_element("css selector", ".caption").text)

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def media(self, kind: str = "", **features: str) -> None:
        """Show the page as on paper, or in a scheme of colours."""
        named = [{"name": name.replace("_", "-"), "value": wanted} for name, wanted in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": named})


@pytest.fixture(scope="module")
def browser() -> Iterator[Explorer]:
    with chromium() as driver:
        driver.set_window_size(1200, 1000)
        yield Explorer(driver)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the study with known answers."""
    folder = tmp_path_factory.mktemp("explored")
    store = write_store(folder, NAME)
    client = MlflowClient(store.uri)
    experiment = client.get_experiment_by_name(NAME)
    [run] = client.search_runs([experiment.experiment_id], f"tags.`{schema.LEVEL}` = 'study'")
    declared = [{"name": "mse/raw", "label": LABEL, "better": "lower"}]
    client.log_text(run.info.run_id, json.dumps(declared), schema.METRICS_FILE)
    return report.write(store.uri, NAME, folder / "report")


@pytest.fixture
def opened(browser: Explorer, page: Path) -> Explorer:
    browser.media()
    browser.events("requestWillBeSent")
    browser.open(page.as_uri())
    return browser


def text_of(metric: str, trial: int, epoch: int, seeds: tuple[int, ...] = SEEDS) -> tuple[float, float]:
    """Mean and half-width over ``seeds``, by scipy."""
    values = [value(metric, trial, seed, epoch) for seed in seeds]
    low, high = stats.t.interval(0.95, len(seeds) - 1, np.mean(values), stats.sem(values))
    return float(np.mean(values)), float(high - low) / 2


def numbers(text: str) -> tuple[float, float]:
    """Mean and half-width that are read."""
    mean, half = re.search(r": (\S+) ± (\S+) \(n = ", text).groups()  # type: ignore[union-attr]
    return float(mean.replace("−", "-")), float(half)


def test_nothing_is_drawn_before_it_is_seen_and_nothing_is_fetched(opened: Explorer) -> None:
    assert opened.drawn("trajectories") == 0
    assert not opened.driver.execute_script("return 'Plotly' in window")
    opened.open_panel("trajectories")
    asked = {event["request"]["url"].partition(":")[0] for event in opened.events("requestWillBeSent")}
    assert asked <= {"file", "data", "blob", "about"}
    # what would send a plot to others is not offered
    titles = {button.get_attribute("data-title") for button in opened.find(".modebar-btn")}
    assert titles and not any(word in title.lower() for title in titles for word in ("share", "cloud", "edit"))
    assert [entry for entry in opened.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_names_are_shown_as_they_are(opened: Explorer) -> None:
    assert opened.find("h1")[0].text == NAME
    opened.open_panel("trajectories")
    opened.choose("trajectories", "Metric", LABEL)
    titles = opened.plot("trajectories").find_elements("css selector", ".ytitle")
    assert [title.text for title in titles] == [LABEL]
    assert opened.caption("trajectories").startswith("Means over the 4 seeds")


def test_a_point_is_read_where_one_points_at_it(opened: Explorer) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    opened.open_panel("trajectories")
    opened.choose("trajectories", "Metric", LABEL)
    plot = opened.plot("trajectories")
    script = (
        "const {xaxis, yaxis, _size} = arguments[0]._fullLayout; const box = arguments[0].getBoundingClientRect();"
        "return [xaxis.d2p(arguments[1]) + _size.l - box.width / 2, yaxis.d2p(arguments[2]) + _size.t - box.height / 2]"
    )
    mean, half = text_of("mse/raw", 1, 3)
    x, y = opened.driver.execute_script(script, plot, 3, mean)
    ActionChains(opened.driver).move_to_element_with_offset(plot, round(x), round(y)).perform()
    opened.wait(lambda: "epoch 3" in opened.reading("trajectories"))
    reading = opened.reading("trajectories")
    assert reading.startswith("LS σ=0.4, epoch 3: ") and reading.endswith("(n = 4)")
    # rounded to a two-thousandth of the metric's range, here .1
    assert numbers(reading) == pytest.approx((mean, half), abs=1e-4)
    assert opened.plot("trajectories").find_elements("css selector", ".hoverlayer .hovertext")
    opened.shoot("explorer-hover")


def test_criteria_and_seeds_are_switched(opened: Explorer) -> None:
    opened.open_panel("trajectories")
    opened.choose("trajectories", "Metric", LABEL)
    assert len(opened.lines("trajectories")) == 4
    opened.switch("trajectories", "LS")
    drawn = {line["text"][0].partition(",")[0] for line in opened.lines("trajectories")}
    assert drawn == {"CE", "FIERCE λ=1 e=100", "confidence penalty β=0.1"}
    # three criteria with bands, but for the one that lacks a seed
    assert sum(trace["fill"] == "toself" and len(trace["x"]) > 0 for trace in opened.traces("trajectories")) == 2
    assert "(n = 3 of 4)" in opened.lines("trajectories")[-1]["text"][-1]
    opened.switch("trajectories", "3")
    reading = opened.lines("trajectories")[0]["text"][-1]
    assert reading.startswith(f"CE, epoch {EPOCHS}: ") and reading.endswith("(n = 3)")
    assert numbers(reading) == pytest.approx(text_of("mse/raw", 0, EPOCHS, SEEDS[:3]), abs=1e-4)
    opened.switch("trajectories", "single seeds")
    ce = opened.lines("trajectories")[0]
    named = [text for text in ce["text"] if text]
    assert len(named) == 3 * EPOCHS and named[0].startswith("CE, seed 0, epoch 1: ")
    values = [y for y in ce["y"] if y is not None]
    expected = [value("mse/raw", 0, seed, epoch) for seed in SEEDS[:3] for epoch in range(1, EPOCHS + 1)]
    np.testing.assert_allclose(values, expected, atol=1e-4)
    assert not any(trace["fill"] == "toself" for trace in opened.traces("trajectories"))
    opened.shoot("explorer-seeds")


def test_all_settings_of_a_criterion_are_shown(opened: Explorer) -> None:
    from selenium.webdriver.support.ui import Select

    opened.open_panel("trajectories")
    [setting] = opened.panel("trajectories").find_elements("css selector", "select[aria-label='setting of FIERCE']")
    opened.after("trajectories", lambda: Select(setting).select_by_visible_text("all 5 settings"))
    labels = {text.partition(",")[0] for line in opened.lines("trajectories") for text in line["text"] if text}
    assert len([label for label in labels if label.startswith("FIERCE")]) == 5


def test_the_epoch_is_slid(opened: Explorer) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.open_panel("sensitivity")
    opened.choose("sensitivity", "Metric", LABEL)
    opened.choose("sensitivity", "Along", "FIERCE λ (e = 100)")
    for epoch in (EPOCHS, EPOCHS - 1):
        if epoch < EPOCHS:
            slider = opened.panel("sensitivity").find_element("css selector", "input[type='range']")
            opened.after("sensitivity", lambda slider=slider: slider.send_keys(Keys.ARROW_LEFT))
            assert slider.get_attribute("aria-valuetext") == str(epoch)
        level, points_along = opened.lines("sensitivity")
        assert f"Means over seeds at epoch {epoch}," in opened.caption("sensitivity")
        np.testing.assert_allclose(10.0 ** np.array(points_along["x"]), [0.1, 1, 4])
        expected = [text_of("mse/raw", trial, epoch) for trial in (3, 2, 4)]
        assert points_along["y"] == pytest.approx([mean for mean, _ in expected], abs=1e-4)
        assert [numbers(text) for text in points_along["text"]] == [pytest.approx(each, abs=1e-4) for each in expected]
        assert level["y"] == pytest.approx([text_of("mse/raw", 0, epoch)[0]] * 2, abs=1e-4)
    opened.shoot("explorer-slide")


def test_settings_outside_a_range_fall_back(opened: Explorer) -> None:
    from selenium.webdriver.common.keys import Keys

    panel = opened.open_panel("coordinates")
    assert opened.caption("coordinates").startswith("5 of 5 settings of FIERCE lie within the ranges")
    ticks = panel.find_elements("css selector", ".xtick")
    assert len(ticks) == 6 and "mse/transfer-least-squares" in "".join(tick.text for tick in ticks).replace("\n", "")
    assert "4 of them, dotted and crossed, break the constraint." in opened.caption("coordinates")
    assert "the search’s choice, FIERCE λ=0.1 e=100." in opened.caption("coordinates")
    lowest = panel.find_element("css selector", ".ranges fieldset:first-child input")
    opened.after("coordinates", lambda: lowest.send_keys(Keys.ARROW_RIGHT))
    # λ = .1 is left out, and with it the choice
    assert opened.caption("coordinates").startswith("4 of 5 settings")
    opened.after("coordinates", lambda: lowest.send_keys(Keys.HOME))
    opened.switch("coordinates", "within the constraint only")
    assert opened.caption("coordinates").startswith("1 of 5 settings")
    [line] = [line for line in opened.lines("coordinates") if line["line"]["width"] == 3.2]
    assert line["text"][:2] == ["FIERCE λ=0.1 e=100; λ: 0.1", "FIERCE λ=0.1 e=100; e: 100"]
    assert line["text"][2] == f"FIERCE λ=0.1 e=100; mse/transfer: {LEVELS['mse/transfer'][3]}"
    opened.shoot("explorer-coordinates")


def test_keys_alone_reach_and_read_everything(opened: Explorer) -> None:
    from selenium.webdriver.common.keys import Keys

    opened.open_panel("trajectories")
    opened.choose("trajectories", "Metric", LABEL)
    active = "return document.activeElement"
    opened.driver.execute_script(
        "arguments[0].focus()", opened.panel("trajectories").find_element("css selector", "summary")
    )
    reached = []
    for _ in range(40):
        opened.press(Keys.TAB)
        element = opened.driver.execute_script(active)
        reached.append(element.get_attribute("class") or element.get_attribute("type") or element.tag_name)
        if reached[-1].startswith("plot"):
            break
    assert reached[-1].startswith("plot") and {"checkbox", "radio", "select-one"} <= set(reached)
    opened.press(Keys.ARROW_RIGHT)
    assert opened.reading("trajectories").startswith(f"CE, epoch {EPOCHS}: ")
    opened.press(Keys.ARROW_LEFT, Keys.ARROW_DOWN)
    assert opened.reading("trajectories").startswith(f"LS σ=0.4, epoch {EPOCHS - 1}: ")
    opened.press(Keys.HOME)
    assert opened.reading("trajectories").startswith("LS σ=0.4, epoch 1: ")
    assert opened.panel("trajectories").find_element("css selector", ".reading").get_attribute("aria-live") == "polite"
    # the panel below is opened by its summary
    summary = opened.panel("sensitivity").find_element("css selector", "summary")
    opened.driver.execute_script("arguments[0].focus()", summary)
    opened.press(Keys.ENTER)
    opened.wait(lambda: opened.drawn("sensitivity"))


def test_it_is_dark_where_the_reader_s_machine_is(opened: Explorer) -> None:
    def ground() -> str:
        return str(opened.driver.execute_script("return getComputedStyle(document.body).backgroundColor"))

    opened.open_panel("trajectories")
    light = opened.lines("trajectories")[0]["line"]["color"]
    assert ground() == "rgb(255, 255, 255)" and light == "#CC3311"
    opened.shoot("explorer-light")
    opened.after("trajectories", lambda: opened.media(prefers_color_scheme="dark"))
    assert ground() == "rgb(20, 24, 28)"
    ink = opened.driver.execute_script("return arguments[0].layout.font.color", opened.plot("trajectories"))
    assert ink == "#e4e8ec"
    opened.shoot("explorer-dark")


def test_on_paper_and_without_scripts_the_figures_remain(opened: Explorer) -> None:
    opened.open_panel("trajectories")
    section = opened.find("#explore")[0]
    figures = len(opened.find("figure img"))
    assert section.is_displayed() and figures
    opened.media("print")
    assert not section.is_displayed() and all(figure.is_displayed() for figure in opened.find("figure img"))
    opened.media()
    opened.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.driver.refresh()
        assert not opened.find("#explore")[0].is_displayed()
        assert [each.text for each in opened.find("nav a") if each.is_displayed()].count("Explore") == 0
        assert len([each for each in opened.find("figure img") if each.is_displayed()]) == figures
    finally:
        opened.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_search_shows_what_matters(browser: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_scale, "EPOCHS", 3)
    uri = report_scale.generate(tmp_path / "store", True, points(14), seed_points=1, study_file=STUDY_FILE)
    browser.open(report.write(uri, report_scale.STUDY, tmp_path / "report").as_uri())
    browser.open_panel("importance")
    shares = re.findall(r"([λe]) (\d+)%", browser.caption("importance"))
    assert {name for name, _ in shares} == {"λ", "e"} and 99 <= sum(int(share) for _, share in shares) <= 101
    [bars] = browser.lines("importance")
    assert [round(100 * share) for share in bars["x"]] == [int(share) for _, share in shares]
    browser.shoot("explorer-importance")


def test_words_gaps_and_level_metrics_are_drawn(browser: Explorer, tmp_path: Path) -> None:
    hidden = ("[8]", "[64, 32]", "a <b> & c")
    trials: list[Any] = [("ce", {"benchmark.hidden": words}, "grid") for words in hidden]
    weights = (0.0, 0.1, 1.0)
    trials += [("fierce", {"lambda": weight, "e": 100.0, "benchmark.hidden": hidden[0]}, "grid") for weight in weights]
    values = np.random.default_rng(0).normal(size=(6, 3, 5))
    # a seed that ended early, one without a finite value, and a metric that is measured at the end alone
    values[1, 2, 3:] = values[4, 0] = np.nan
    late = np.full((6, 3, 5), np.nan)
    late[:, :, -1] = 0.5
    varied = [Hyperparameter("benchmark.hidden", "hidden")]
    study = made("own", trials, {"below/zero": values, "level": np.ones((6, 3, 5)), "late": late}, varied=varied)
    explorer = embedding.of(study, 3_000_000)
    assert explorer is not None and [panel.name for panel in explorer.panels][:3] == [*PANELS]
    rest = {"warning": "", "provenance": "real", "data": "", "answer": None, "sections": [], "command": ""}
    page = rendering.write(
        tmp_path / "page.html", "report.html.j2", study=study, benchmark="own", explorer=explorer, **rest
    )
    browser.driver.get_log("browser")
    browser.open(page.as_uri())
    for name in PANELS:
        browser.open_panel(name)
    for metric in ("level", "late", "below/zero"):
        browser.choose("sensitivity", "Metric", metric)
        assert browser.lines("sensitivity"), metric
    browser.choose("sensitivity", "Along", "CE hidden")
    browser.shoot("explorer-words")
    ticks = [tick.text for tick in browser.panel("sensitivity").find_elements("css selector", ".xtick text")]
    assert set(ticks) == set(hidden)
    browser.choose("sensitivity", "Along", "FIERCE λ (e = 100, hidden = [8])")
    # 0 stands below the smallest on a scale of logarithms
    assert browser.lines("sensitivity")[-1]["x"] == pytest.approx([-1.5, -1, 0])
    browser.choose("coordinates", "Criterion", "FIERCE")
    assert browser.caption("coordinates").startswith("3 of 3 settings of FIERCE")
    assert [entry["message"] for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
