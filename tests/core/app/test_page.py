"""The page in a real browser, as a person uses it."""

import shutil

import pytest

from easyanimate_core.media import write_png
from tests.core.app.conftest import App
from tests.factories import pixels

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium or Chrome on this machine"),
]
SECONDS = 60
PROMPT = "A large red circle moves right on plain teal."


@pytest.fixture(scope="module")
def own_app(tmp_path_factory):
    running = App(tmp_path_factory.mktemp("page"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, own_app):
    """`open_page(locale)`: no request may leave the machine, and no script may fail."""
    contexts, faults = [], []

    def opened(locale="en-US"):
        context = browser.new_context(locale=locale, viewport={"width": 1400, "height": 1000})
        context.set_default_timeout(SECONDS * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda r: None if is_ours(r.url) else faults.append(r.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(own_app.url)
        page.wait_for_selector("#generate")
        page.wait_for_selector("#queue .runs")
        return page

    def is_ours(url):
        return url.startswith((own_app.url, "data:", "blob:"))

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def field(page, name):
    return page.locator(f"#field-{name}")


def text(page, name):
    return field(page, name).locator("textarea, input[type=text]").first


def number(page, name):
    return field(page, name).locator("input[type=number]").first


def set_quick(page, steps=2):
    if not text(page, "frames").is_visible():
        page.get_by_role("button", name="Size and length").click()
        page.get_by_role("button", name="Sampling", exact=False).first.click()
    text(page, "frames").fill("5")
    number(page, "steps").fill(str(steps))
    number(page, "steps").blur()


def test_a_first_video_then_its_settings_again(open_page, own_app):
    page = open_page()
    text(page, "prompt").fill(PROMPT)
    set_quick(page)
    text(page, "seed").fill("77")
    page.click("#generate")
    page.wait_for_selector("#queue .run.done")
    page.wait_for_function("document.querySelector('#result video')?.videoWidth === 96")
    assert len(list(own_app.output.glob("*.mp4"))) == 1
    # Another page, later, has it in its gallery; a click restores what made it.
    later = open_page()
    later.wait_for_selector("#gallery img")
    assert text(later, "prompt").input_value() == ""
    later.locator("#gallery button:has(img)").first.click()
    later.wait_for_function(
        "document.querySelector('#field-prompt textarea').value.includes('red circle')"
    )
    later.get_by_role("button", name="Size and length").click()
    later.get_by_role("button", name="Sampling").first.click()
    assert text(later, "prompt").input_value() == PROMPT
    assert text(later, "seed").input_value() == "77"
    assert text(later, "frames").input_value() == "5"
    assert number(later, "steps").input_value() == "2"
    later.wait_for_function("document.querySelector('#result video')?.videoWidth === 96")


def test_a_picture_becomes_a_video(open_page, own_app, tmp_path):
    write_png(tmp_path / "start.png", pixels(1)[0])
    page = open_page()
    page.get_by_text("Image to video").click()
    field(page, "start").locator("input[type=file]").set_input_files(tmp_path / "start.png")
    field(page, "start").locator("img").wait_for()
    text(page, "prompt").fill(PROMPT)
    set_quick(page)
    before = page.locator("#queue .run.done").count()
    page.click("#generate")
    page.wait_for_function(f"document.querySelectorAll('#queue .run.done').length > {before}")
    assert len(list((own_app.output / "sources").glob("*.png"))) == 1


def test_a_reload_loses_nothing_and_cancelling_stops(open_page):
    page = open_page()
    text(page, "prompt").fill(PROMPT)
    set_quick(page, steps=200)
    page.click("#generate")
    page.wait_for_selector("#queue .run.running progress")
    page.reload()
    page.wait_for_selector("#queue .run.running progress")
    page.locator("#queue .run.running button").click()
    page.wait_for_selector("#queue .run.cancelled")
    assert page.locator("#queue .run.running").count() == 0


def test_a_wrong_value_is_explained(open_page):
    page = open_page()
    text(page, "prompt").fill("<img src=x onerror=window.harmed=1>")
    set_quick(page)
    text(page, "frames").fill("6")
    page.click("#generate")
    page.get_by_text("the length must be 4n + 1").wait_for()
    assert "Traceback" not in page.content()
    text(page, "frames").fill("5")
    page.click("#generate")
    page.wait_for_selector("#queue .run:has-text('<img src=x')")
    page.wait_for_function("!document.querySelector('#queue .run.running, #queue .run.waiting')")
    assert page.evaluate("window.harmed") is None


def test_the_model_decides_which_modes_are_offered(open_page):
    page = open_page("zh-CN")
    assert page.get_by_role("button", name="生成").first.is_visible()
    assert page.get_by_text("文生视频").is_visible()
    assert not page.get_by_text("轨迹", exact=True).first.is_visible()
    field(page, "model").locator("input").click()
    page.get_by_role("option", name="small (built in): Control", exact=True).click()
    page.get_by_text("轨迹", exact=True).first.wait_for()
    page.get_by_text("轨迹", exact=True).first.click()
    field(page, "tracks").locator("textarea").wait_for()
    assert not page.get_by_text("文生视频").is_visible()
