"""The workflows in ComfyUI's App mode: the settings that they show, and a run."""

import json

import pytest

from easyanimate_core import small_model
from tools.workflows.canvas import FOLDER

RUN_SECONDS = 300
APPS = {
    file.stem: workflow
    for file in sorted(FOLDER.glob("*.json"))
    for workflow in [json.loads(file.read_text(encoding="utf-8"))]
    if workflow["extra"].get("linearData")
}
TOAST = ".p-toast-message, [data-testid=toast]"
#: In App mode at once, as if its author had wanted that.
OPEN = """async (workflow) => {
  workflow.extra.linearMode = true
  await app.loadGraphData(workflow)
}"""


#: Those with the small model: the first is run by continuous integration.
TRIALS = [
    pytest.param(name, marks=[pytest.mark.campaign] * (number > 0), id=name)
    for number, name in enumerate(
        name
        for name, workflow in APPS.items()
        if any(f'"{small}"' in json.dumps(workflow) for small in small_model.NAMES)
    )
]


@pytest.mark.newest_frontend
@pytest.mark.skipif(not small_model.is_installed(), reason="the small model is not there")
@pytest.mark.parametrize("trial", TRIALS)
def test_run_shows_the_video(app_page, tmp_path, trial):
    tab = app_page.page
    app_page.open_workflow(APPS[trial])
    tab.get_by_label("Enter app mode").first.click()
    prompt = tab.get_by_test_id("app-mode-widget-item").locator("textarea")
    prompt.first.fill("A small blue square moves right on plain grey.")
    tab.get_by_test_id("linear-run-button").get_by_role("button", name="Run").click()
    video = tab.locator("video").first
    video.wait_for(timeout=RUN_SECONDS * 1000)
    tab.wait_for_function(
        "() => [...document.querySelectorAll('video')].some((v) => v.videoWidth === 96)",
        timeout=RUN_SECONDS * 1000,
    )
    tab.screenshot(path=tmp_path / "app.png")


@pytest.mark.newest_frontend
def test_each_app_has_its_settings(app_page):
    """In the order of the file, each with its own label where names are the same."""
    tab = app_page.page
    for name, workflow in APPS.items():
        tab.evaluate(OPEN, workflow)
        items = tab.get_by_test_id("app-mode-widget-item")
        settings = workflow["extra"]["linearData"]["inputs"]
        items.nth(len(settings) - 1).wait_for()
        labels = tab.get_by_test_id("builder-widget-label").all_inner_texts()
        assert len(labels) == len(settings), (name, labels)
        assert len(set(labels)) == len(labels), (name, labels)


@pytest.mark.newest_frontend
def test_a_refusal_says_why(app_page, tmp_path):
    """No node is to be seen whose note could say it; the message goes with the next run."""
    tab = app_page.page
    workflow = json.loads((FOLDER / "2 Text to video.json").read_text(encoding="utf-8"))
    (loader,) = (node for node in workflow["nodes"] if node["type"] == "EasyAnimateLoadCheckpoint")
    loader["widgets_values"][0] = "no such folder"
    app_page.open_workflow(workflow)
    tab.get_by_label("Enter app mode").first.click()
    run = tab.get_by_test_id("linear-run-button").get_by_role("button", name="Run")
    reason = tab.locator(TOAST).filter(has_text="There is no checkpoint folder 'no such folder'")
    for _ in range(2):
        run.click()
        tab.wait_for_timeout(2500)  # the old one leaves while the new one comes
        assert reason.count() == 1
    tab.screenshot(path=tmp_path / "refused.png")
    assert reason.is_visible()
