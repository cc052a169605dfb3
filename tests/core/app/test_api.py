"""The page's HTTP API, called as docs/app.md shows it, and as an attacker would."""

import json
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from easyanimate_core.media import read_video, write_mp4, write_png
from easyanimate_core.models.specs import Head
from easyanimate_core.recipe import Recipe
from easyanimate_core.small_model import list_name
from tests.core.app.conftest import ROOT, App
from tests.factories import SMALL_VERSIONS, V5, pixels

gradio_client = pytest.importorskip("gradio_client")
httpx = pytest.importorskip("httpx")
pytestmark = pytest.mark.slow

QUICK = {"steps": 2, "frames": 5, "height": 32, "width": 32}
LONG = {"steps": 200}
SMALL = "small (built in): {}"


@pytest.fixture(scope="module")
def client(app, tmp_path_factory):
    return gradio_client.Client(
        app.url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads"))
    )


def refusal(client, **values):
    with pytest.raises(Exception) as caught:
        client.predict(**{"prompt": "x", **QUICK, **values}, api_name="/generate")
    return str(caught.value)


def until(state, client, number):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        jobs = client.predict(api_name="/queue")
        (job,) = [job for job in jobs if job["number"] == number] or [None]
        if job and job["state"] == state and (state != "running" or job["stage"] == "denoise"):
            return
        time.sleep(0.1)
    raise AssertionError(jobs)


def last_number(client):
    return max((job["number"] for job in client.predict(api_name="/queue")), default=0)


@pytest.mark.parametrize("page", ["docs/app.md", "docs/zh/app.md"])
def test_the_client_of_the_documentation(page, app, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```py\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 10
    quick = code.replace("http://127.0.0.1:7860", app.url).replace("steps=50", "steps=2")
    assert quick.count(app.url) == 1 and "steps=2" in quick
    exec(compile(quick, page, "exec"), {})
    video = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert video.suffix == ".mp4"
    assert len(read_video(video).frames) == 17


@pytest.mark.parametrize("version", SMALL_VERSIONS)
def test_every_mode(client, files, tmp_path, version):
    picture, clip, mask = (tmp_path / name for name in ("p.png", "c.mp4", "m.png"))
    write_png(picture, pixels(1)[0])
    write_mp4(clip, pixels(3, frames=9), fps=8)
    shutil.copy(files / "mask.png", mask)
    handle = gradio_client.handle_file
    modes = {
        "text_to_video": ("InP", {}),
        "image_to_video": ("InP", {"start": handle(picture)}),
        "video_to_video": ("InP", {"video": handle(clip), "strength": 1.0}),
        "region_edit": ("InP", {"video": handle(clip), "mask": handle(mask)}),
        "control": ("Control", {"video": handle(clip), "reference": handle(picture)}),
        "camera": ("Control-Camera", {"moves": ["Zoom In"]}),
        "trajectory": ("Control", {"tracks": '[{"x": 4, "y": 4}, {"x": 28, "y": 28}]'}),
    }
    if version is V5:
        del modes["camera"], modes["control"][1]["reference"]
    for mode, (head, sources) in modes.items():
        video, recipe = client.predict(
            prompt="x", mode=mode, model=list_name(Head(head), version), **sources, **QUICK,
            api_name="/generate",
        )  # fmt: skip
        assert len(read_video(video).frames) == 5, mode
        made = json.loads(Path(recipe).read_text("utf-8"))
        assert made["mode"] == mode
        # The upload is gone with the page, its copy is not: the recipe can be repeated.
        assert Recipe.from_json(made).task.mode == mode


def test_a_preprocessor_makes_the_control_video(client, tmp_path):
    pytest.importorskip("cv2")
    clip = write_mp4(tmp_path / "c.mp4", pixels(3, frames=9), fps=8)
    _, recipe = client.predict(
        prompt="x", mode="control", model=SMALL.format("Control"), preprocessor="canny",
        video=gradio_client.handle_file(clip), **QUICK, api_name="/generate",
    )  # fmt: skip
    control = read_video(json.loads(Path(recipe).read_text("utf-8"))["sources"]["video"]["file"])
    assert len(control.frames) >= 5


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": " "}, "The prompt has 0 characters"),
        ({"frames": 6}, "Use 5 or 9"),
        ({"seed": "many"}, "seed is 'many'; it must be a whole number"),
        ({"model": "../../etc"}, "There is no model '../../etc'"),
        ({"mode": "image_to_video"}, "give a start image"),
        ({"mode": "video_to_video"}, "needs video"),
        ({"mode": "camera"}, "needs the Control-Camera head"),
        ({"scheduler": "DDIM"}, "Use Flow"),
        ({"scheduler": "<b>"}, "not in the list of choices"),
        ({"steps": -3}, "less than minimum"),
        (
            {"model": SMALL.format("V5 InP"), "scheduler": "Flow"},
            "Use Euler, Euler A, DPM++, PNDM, DDIM",
        ),
        ({"tracks": "/etc/passwd"}, "tracks has no effect on text_to_video"),
        ({"preprocessor": "canny"}, "preprocessor has no effect on text_to_video"),
        (
            {"mode": "trajectory", "model": SMALL.format("Control"), "tracks": "/etc/passwd"},
            "they must be a list",
        ),
    ],
)
def test_refusals_say_what_to_do(values, said, client):
    assert said in refusal(client, **values)


def test_uploads_that_are_not_what_they_seem(client, app, tmp_path):
    kept = sorted((app.output / "sources").glob("*"))
    cases = {"text.mp4": b"hello " * 99, "empty.png": b"", "page.svg": b"<svg onload=alert(1)>"}
    said = {"text.mp4": "is not a video", "empty.png": "is empty", "page.svg": "must end in .png"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        source = {"video" if name.endswith("mp4") else "start": gradio_client.handle_file(
            tmp_path / name)}  # fmt: skip
        mode = "video_to_video" if "video" in source else "image_to_video"
        assert said[name] in refusal(client, mode=mode, **source)
    assert sorted((app.output / "sources").glob("*")) == kept


def test_only_what_is_needed_is_read_of_a_long_clip(client, tmp_path):
    clip = write_mp4(tmp_path / "long.mp4", pixels(3, frames=9).repeat(600, 1, 1, 1), fps=24)
    started = time.monotonic()
    client.predict(
        prompt="x", mode="video_to_video", video=gradio_client.handle_file(clip), strength=1.0,
        **QUICK, api_name="/generate",
    )  # fmt: skip
    assert time.monotonic() - started < 60


def test_no_other_file_of_the_machine_is_read(app, tmp_path):
    secret = tmp_path / "secret.png"
    write_png(secret, pixels(1)[0])
    with httpx.Client(base_url=app.url, timeout=60) as http:
        for path in (secret, app.log, app.output / ".." / "log.txt", "/etc/passwd"):
            assert http.get(f"/gradio_api/file={path}").status_code == 403, path
        assert http.get("/gradio_api/file=http://example.com/x").status_code == 403
        info = http.get("/gradio_api/info").json()["named_endpoints"]["/generate"]["parameters"]
        for path in (str(secret), "../../etc/passwd", f"{app.url}/config"):
            given = {"prompt": "x", "mode": "image_to_video",
                     "start": {"path": path, "meta": {"_type": "gradio.FileData"}}}  # fmt: skip
            data = [given.get(p["parameter_name"], p["parameter_default"]) for p in info]
            event = http.post("/gradio_api/call/generate", json={"data": data}).json()["event_id"]
            said = http.get(f"/gradio_api/call/generate/{event}").text
            assert "not uploaded by a user" in said or "is an address" in said


def test_other_sites_are_not_answered(app):
    upload = {"files": ("a.png", b"x")}
    with httpx.Client(base_url=app.url) as http:
        assert http.post("/gradio_api/upload", files=upload).status_code == 200
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.example"},
        ):
            done = http.post("/gradio_api/upload", files=upload, headers=headers)
            assert done.status_code == 403, headers


def test_a_queue_of_two_and_cancelling_both(client):
    before = last_number(client)
    first = client.submit(prompt="first", **LONG, api_name="/generate")
    until("running", client, before + 1)
    second = client.submit(prompt="second", **LONG, api_name="/generate")
    until("waiting", client, before + 2)
    assert client.predict(before + 2, api_name="/cancel")["state"] == "cancelled"
    client.predict(before + 1, api_name="/cancel")
    for job in (first, second):
        with pytest.raises(Exception, match="was cancelled"):
            job.result(timeout=60)
    # Cancelling keeps the model and the queue.
    files = client.predict(prompt="third", **QUICK, api_name="/generate")
    assert len(files) == 2
    with pytest.raises(Exception, match="There is no run 999"):
        client.predict(999, api_name="/cancel")


def test_two_clients_at_once(app, tmp_path):
    found = {}

    def ask(name):
        own = gradio_client.Client(app.url, verbose=False, download_files=str(tmp_path / name))
        _, recipe = own.predict(prompt=name, **QUICK, api_name="/generate")
        found[name] = json.loads(Path(recipe).read_text("utf-8"))["prompts"]

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == {"one": ["one"], "two": ["two"]}


def test_a_kill_leaves_no_half_file(tmp_path):
    cache = tmp_path / "cache"
    running = App(tmp_path, EASYANIMATE_CACHE=str(cache))
    try:
        client = gradio_client.Client(running.url, verbose=False)
        with httpx.Client(base_url=running.url, timeout=60) as http:  # it waits for no end
            info = http.get("/gradio_api/info").json()["named_endpoints"]["/generate"]["parameters"]
            given = {"prompt": "x", "steps": 200}
            data = [given.get(p["parameter_name"], p["parameter_default"]) for p in info]
            http.post("/gradio_api/call/generate", json={"data": data}).raise_for_status()
        until("running", client, 1)
    finally:
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(30)
    assert [path for path in running.output.rglob("*") if path.is_file()] == []
    again = App(tmp_path, EASYANIMATE_CACHE=str(cache))
    assert len(list((cache / "app").iterdir())) == 1, "uploads of the killed page are removed"
    again.stop()
    assert list((cache / "app").iterdir()) == []
    assert "Traceback" not in again.said()


def test_a_proxy_and_a_password(tmp_path):
    options = ("--host", "0.0.0.0", "--user", "me")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    running = App(tmp_path, *options, EASYANIMATE_PASSWORD="secret", **proxies)
    try:
        assert "anybody who knows the password" in running.said()
        with httpx.Client(base_url=running.url, trust_env=False) as http:
            assert http.get("/config").status_code == 401
            assert http.post("/login", data={"username": "me", "password": "no"}).is_error
        client = gradio_client.Client(running.url, auth=("me", "secret"), verbose=False)
        assert client.predict(api_name="/queue") == []
    finally:
        running.stop()
