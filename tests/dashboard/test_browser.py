"""The pages in a real Chromium. What is asserted is what a person would see."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.dashboard.conftest import Dashboard, Node, RealPrometheus, wait_for
from tests.dashboard.fake_gateway import FakeGateway, rollout
from tests.rig.processes import free_port

pytestmark = pytest.mark.browser


def text(browser: Any) -> str:
    return str(browser.execute_script("return document.body.innerText"))


def sees(browser: Any, *wanted: str) -> None:
    def there() -> bool:
        return all(w in text(browser) for w in wanted)

    wait_for(there, f"{wanted} on the page, which says:\n{text(browser)}")


def press(browser: Any, label: str) -> None:
    """A button, once it is drawn; what moves on the page meanwhile is drawn anew, so it is looked for again."""

    def pressed() -> bool:
        try:
            browser.find_element(By.XPATH, f"//button[.//p[normalize-space()='{label}']]").click()
        except WebDriverException:
            return False
        return True

    wait_for(pressed, f"the button {label}")


def is_clean(browser: Any) -> None:
    """No exception box, and nothing in the console that the browser calls an error."""
    assert not browser.find_elements(By.CSS_SELECTOR, '[data-testid="stException"]')
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_every_page_draws_what_prometheus_and_the_gateway_say(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, prometheus: RealPrometheus
) -> None:
    shots.sign_in(browser, dashboard(gateway.url, prometheus.url), None)
    sees(browser, "test-cluster", "2 of 3", "gpu-worker-02 (connection refused)", "Data ")
    is_clean(browser)
    for page in ("workers", "models"):
        shots.go(browser, page)
        wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, '[data-testid="stDataFrame"] canvas'), "a table")
        charts = '[data-testid="stVegaLiteChart"]'
        wait_for(lambda charts=charts: len(browser.find_elements(By.CSS_SELECTOR, charts)) >= 2, "charts")  # type: ignore[misc]
        is_clean(browser)


def test_the_overview_has_its_name_as_an_address_as_the_other_pages_have(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, prometheus: RealPrometheus
) -> None:
    url = dashboard(gateway.url, prometheus.url)
    shots.sign_in(browser, f"{url}/overview", None)
    sees(browser, "test-cluster", "2 of 3")
    assert "Page not found" not in text(browser)
    wait_for(lambda: browser.current_url.rstrip("/") == url.rstrip("/"), "the overview's own address")


def test_on_a_phone_no_table_covers_the_choice_of_time(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, prometheus: RealPrometheus
) -> None:
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    shots.resize(browser, 390, 844)
    shots.sign_in(browser, dashboard(gateway.url, prometheus.url), None)
    browser.get(f"{browser.current_url.rstrip('/')}/workers")
    wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, '[data-testid="stDataFrame"] canvas'), "a table")
    press(browser, "24 h")
    # The table is drawn anew meanwhile, so both are asked of the page at one moment each.
    toolbars = "[...document.querySelectorAll('[data-testid=\"stElementToolbar\"]')]"
    seen = "it => it.checkVisibility({opacityProperty: true, visibilityProperty: true})"
    wait_for(lambda: browser.execute_script(f"return {toolbars}.length"), "the table's toolbar")
    assert browser.execute_script(f"return {toolbars}.filter({seen}).length") == 0


def test_drift_is_told_on_the_overview_and_beside_its_host_and_gone_with_it(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, prometheus: RealPrometheus, node: Node
) -> None:
    node.checked.set_to_current_time()
    shots.sign_in(browser, dashboard(gateway.url, prometheus.url), None)
    sees(browser, "2 of 3")
    assert "near-host" not in text(browser)
    node.drift.labels("files").set(2)
    try:
        sees(browser, "near-host (2 files) differs from what was released there", "cluster-ai apply")
        shots.go(browser, "workers")
        sees(browser, "cluster-ai verify names each thing that differs")  # beside the table, which is a canvas
        is_clean(browser)
    finally:
        node.drift.labels("files").set(0)
    wait_for(lambda: "cluster-ai verify names each" not in text(browser), "the hint's end")


def test_a_prompt_is_answered_on_the_page_with_the_worker_and_its_speed(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, prometheus: RealPrometheus
) -> None:
    shots.sign_in(browser, dashboard(gateway.url, prometheus.url), None)
    shots.go(browser, "playground")
    box = shots.element(browser, "textarea")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(Keys.DELETE)
    box.send_keys("Why is the sky blue?")
    shots.element(browser, shots.SEND).click()
    sees(browser, "Blue light is scattered most.", "cpu-worker-01", "123 ms", "98.7 /s", "Answers so far")
    assert gateway.prompts[-1] == "Why is the sky blue?"
    is_clean(browser)


def test_an_answer_that_breaks_off_says_so_and_the_page_stays(
    browser: Any, shots: ModuleType, dashboard: Dashboard
) -> None:
    with FakeGateway(breaks_after=1) as fake:
        shots.sign_in(browser, dashboard(fake.url, f"http://127.0.0.1:{free_port()}"), None)
        shots.go(browser, "playground")
        shots.element(browser, shots.SEND).click()
        sees(browser, "The answer broke off: the worker was lost")
        fake.breaks_after = None
        shots.element(browser, shots.SEND).click()
        sees(browser, "Blue light is scattered most.")
        is_clean(browser)


def test_a_chart_is_not_drawn_anew_when_new_values_come(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, prometheus: RealPrometheus
) -> None:
    shots.sign_in(browser, dashboard(gateway.url, prometheus.url), None)
    sees(browser, "2 of 3")
    mark = 'document.querySelectorAll(\'[data-testid="stVegaLiteChart"] canvas, [data-testid="stVegaLiteChart"] svg\')'
    wait_for(lambda: browser.execute_script(f"return {mark}.length") >= 4, "the charts")
    marked = browser.execute_script(f"const all = {mark}; all.forEach(c => c.dataset.seen = 1); return all.length")
    gateway.metric["worker_up"].labels("gpu-worker-02").set(1)
    try:
        sees(browser, "3 of 3")
        assert browser.execute_script(f"return [...{mark}].filter(c => c.dataset.seen).length") == marked
    finally:
        gateway.metric["worker_up"].labels("gpu-worker-02").set(0)


def test_a_page_opened_before_anything_was_measured_fills_by_itself(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, tmp_path: Path
) -> None:
    new = RealPrometheus(tmp_path, gateway, begun=False)
    try:
        shots.sign_in(browser, dashboard(gateway.url, new.url), None)
        sees(browser, "Overview")
        assert "Data " not in text(browser)
        new.scrape()
        sees(browser, "Data ", "2 of 3")
        is_clean(browser)
    finally:
        new.stop()


def test_without_prometheus_each_page_says_so_and_the_playground_answers(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    shots.sign_in(browser, dashboard(gateway.url, nowhere), None)
    for page in ("overview", "workers", "models", "performance"):
        shots.go(browser, page)
        sees(browser, "Prometheus doesn't answer", nowhere, "systemctl start cluster-ai-prometheus")
        is_clean(browser)
    shots.ask(browser)
    sees(browser, "Blue light is scattered most.")


def test_when_prometheus_goes_away_the_last_values_stay_with_their_age(
    browser: Any, shots: ModuleType, dashboard: Dashboard, gateway: FakeGateway, prometheus: RealPrometheus
) -> None:
    shots.sign_in(browser, dashboard(gateway.url, prometheus.url), None)
    sees(browser, "2 of 3")
    prometheus.stop()
    try:
        sees(browser, "Prometheus doesn't answer", "What follows is", "2 of 3")
    finally:
        prometheus.start()
    wait_for(lambda: "Prometheus doesn't answer" not in text(browser), "the message's end")
    is_clean(browser)


def test_when_the_gateway_goes_away_each_page_says_so_and_shows_the_rest(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway() as fake:
        shots.sign_in(browser, dashboard(fake.url, prometheus.url), None)
        sees(browser, "2 of 3")
    for page in shots.PAGES:
        shots.go(browser, page)
        sees(browser, "The gateway doesn't answer", fake.url, "systemctl start cluster-ai.target")
        is_clean(browser)
    shots.go(browser, "overview")
    sees(browser, "2 of 3")


def test_nobody_is_let_in_while_a_gateway_that_never_answered_is_away(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    port = free_port()
    browser.get(dashboard(f"http://127.0.0.1:{port}", prometheus.url))
    sees(browser, "Waiting for test-cluster", "The gateway doesn't answer")
    assert "2 of 3" not in text(browser)
    with FakeGateway(port=port):
        sees(browser, "Overview", "2 of 3")


def test_a_token_is_asked_for_refused_when_wrong_and_forgotten_on_signing_out(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway(token="right") as fake:
        url = dashboard(fake.url, prometheus.url)
        browser.get(url)
        sees(browser, "Sign in to test-cluster")
        assert "Overview" not in text(browser)
        shots.element(browser, 'input[type="password"]').send_keys("wrong", Keys.ENTER)
        sees(browser, "does not know this token")
        shots.sign_in(browser, url, "right")
        sees(browser, "2 of 3")
        shots.ask(browser)
        sees(browser, "Blue light is scattered most.")
        press(browser, "Sign out")
        sees(browser, "Sign in to test-cluster")
        assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_a_user_signs_in_with_a_password_stays_so_and_signs_out_at_the_gateway_too(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway(token="short-lived", password="four words are good") as fake:
        url = dashboard(fake.url, prometheus.url)
        browser.get(url)
        sees(browser, "Sign in to test-cluster")
        shots.element(browser, 'input[type="text"]').send_keys("anna")
        shots.element(browser, 'input[type="password"]').send_keys("wrong", Keys.ENTER)
        sees(browser, "don't belong together")
        browser.get(url)
        sees(browser, "Sign in to test-cluster")
        shots.element(browser, 'input[type="text"]').send_keys("anna")
        shots.element(browser, 'input[type="password"]').send_keys("four words are good", Keys.ENTER)
        sees(browser, "2 of 3")
        assert fake.token == "renewed"
        press(browser, "Sign out")
        sees(browser, "Sign in to test-cluster")
        assert fake.token == "gone"


def test_a_token_that_is_withdrawn_is_asked_for_again(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway(token="first") as fake:
        shots.sign_in(browser, dashboard(fake.url, prometheus.url), "first")
        sees(browser, "2 of 3")
        fake.token = "second"
        sees(browser, "Sign in to test-cluster")


def test_a_worker_is_drained_and_resumed_by_buttons(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway() as fake:
        shots.sign_in(browser, dashboard(fake.url, prometheus.url), None)
        shots.go(browser, "workers")
        press(browser, "Drain a worker")
        shots.settled(browser)
        shots.element(browser, 'input[placeholder="new fans"]').send_keys("dust", Keys.ENTER)
        press(browser, "Drain")
        shots.settled(browser)
        sees(browser, "cpu-worker-01 gets nothing new (dust): it is empty.")
        assert fake.workers[0]["state"] == "draining"
        press(browser, "Resume")
        shots.settled(browser)
        wait_for(lambda: "gets nothing new (dust)" not in text(browser), "the end of the drain")
        assert fake.workers[0]["state"] == "active"
        is_clean(browser)


def test_a_rollout_is_followed_as_it_goes_on(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway() as fake:
        fake.rollouts = [rollout("running", ("switch", "gpu-worker-01", "start"))]
        shots.sign_in(browser, dashboard(fake.url, prometheus.url), None)
        shots.go(browser, "rollouts")
        sees(browser, "Running.", "gpu-worker-01 goes on", "then judged for 60 s")
        fake.rollouts = [rollout("paused", ("switch", "gpu-worker-01", "changed"), ("analysis", "", "inconclusive"))]
        sees(browser, "Paused.", "gpu-worker-01 done", "cluster-ai rollouts resume 20261124-093000-a1b2")
        is_clean(browser)


def test_a_draft_is_told_which_model_finds_no_place_and_what_is_free(
    browser: Any, shots: ModuleType, dashboard: Dashboard
) -> None:
    workers = "workers: [{name: one, resources: {cpu: 4, memory: 16GB}}]"
    form = "version: '1.0'\ncluster: {name: x, scheduler: {host: h}, %s, models: [{name: 'm:%s'}]}\n"
    with FakeGateway() as fake:
        shots.sign_in(browser, dashboard(fake.url, f"http://127.0.0.1:{free_port()}"), None)
        shots.go(browser, "configuration")
        field = shots.element(browser, ".st-key-draft textarea")
        field.send_keys(form % (workers, "70b"), Keys.CONTROL, Keys.ENTER)
        sees(browser, "1 problem", "line 2: model 'm:70b' needs 46.5 GB", "one: free 12.8 GB in RAM", "smaller model")
        field.send_keys(Keys.CONTROL, "a", Keys.NULL, form % (workers, "7b"), Keys.CONTROL, Keys.ENTER)
        sees(browser, "every model fits")
        is_clean(browser)


def test_two_models_answer_the_same_prompt_side_by_side(browser: Any, shots: ModuleType, dashboard: Dashboard) -> None:
    with FakeGateway() as fake:
        shots.sign_in(browser, dashboard(fake.url, f"http://127.0.0.1:{free_port()}"), None)
        shots.go(browser, "playground")
        other = browser.find_element(By.CSS_SELECTOR, '[data-testid="stSelectbox"] input[aria-label*="Beside it"]')
        other.click()
        other.send_keys("llama2", Keys.ENTER)
        shots.element(browser, shots.SEND).click()
        sees(browser, "Answers so far")
        answers = "//*[text()='Blue light is scattered most.']"
        wait_for(lambda: len(browser.find_elements(By.XPATH, answers)) == 2, "both answers")
        assert len(fake.prompts) == 2
        is_clean(browser)


def test_a_viewer_is_told_on_each_page_what_their_role_may_not(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway(role="viewer") as fake:
        shots.sign_in(browser, dashboard(fake.url, prometheus.url), None)
        may_not = {
            "workers": "may not drain a worker",
            "models": "may not load or unload a model",
            "playground": "may not send prompts",
            "tasks": "may not see tasks and batches",
            "configuration": "may not see cluster.yaml",
            "audit": "may not see the audit log",
        }
        for page, what in may_not.items():
            shots.go(browser, page)
            sees(browser, f"Your role, viewer, {what}")
            is_clean(browser)


def test_an_empty_cluster_says_on_each_page_what_to_do(
    browser: Any, shots: ModuleType, dashboard: Dashboard, prometheus: RealPrometheus
) -> None:
    with FakeGateway(models=[], workers=[]) as fake:
        shots.sign_in(browser, dashboard(fake.url, prometheus.url), None)
        told = {
            "playground": "No model is ready to answer",
            "tasks": "cluster-ai tasks submit",
            "rollouts": "This cluster has had no rollout",
            "configuration": "No configuration has been rolled out",
            "audit": "Nothing has been written yet",
        }
        for page, what in told.items():
            shots.go(browser, page)
            sees(browser, what)
            is_clean(browser)
