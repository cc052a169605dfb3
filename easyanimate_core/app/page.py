"""The page and its HTTP API: what happens on a click."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import EasyAnimateError
from .checkpoints import Checkpoints
from .components import FORM, add_settings, build_form, guard_files, mode_choices
from .gallery import restored
from .jobs import Job, Jobs
from .request import default_of, fields_of, of_mode, request_of, sources
from .results import Results
from .texts import language_of, word
from .view import ON_CLICK, STYLE, queue_html, stage_text

_TICK_SECONDS = 1.0
_WAIT_SECONDS = 0.2
_CACHE_SECONDS = (3600, 24 * 3600)
CSS = """
footer { display: none !important; }
.gradio-container > .main { max-width: 1500px; margin: 0 auto; }
#head h1 { margin: 0; }
"""


def theme() -> gr.Theme:
    """Fonts of the system, so that none is fetched, and hints that are dark enough to read."""
    plain = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return plain.set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
    )


@dataclass(frozen=True)
class Session:
    """What all pages share."""

    checkpoints: Checkpoints
    results: Results
    jobs: Jobs
    i18n: gr.I18n


def build_page(session: Session) -> gr.Blocks:
    """The page with its API."""
    i18n = session.i18n
    with gr.Blocks(
        title="EasyAnimate", analytics_enabled=False, delete_cache=_CACHE_SECONDS, fill_width=True
    ) as page:
        gr.Markdown("# EasyAnimate", elem_id="head")
        with gr.Row():
            with gr.Column(scale=5, min_width=340):
                form = build_form(i18n, session.checkpoints)
                generate = gr.Button(i18n("generate"), variant="primary", elem_id="generate")
                queue = gr.HTML(elem_id="queue", js_on_load=ON_CLICK, css_template=STYLE,
                                max_height=320)  # fmt: skip
                dice = add_settings(i18n, form)
            with gr.Column(scale=6, min_width=340):
                video = gr.Video(label=i18n("result"), interactive=False, autoplay=True,
                                 loop=True, height=420, elem_id="result")  # fmt: skip
                image = gr.Image(label=i18n("result"), interactive=False, visible=False,
                                 elem_id="result-image")  # fmt: skip
                gallery = gr.Gallery(label=i18n("gallery"), columns=4, height="auto",
                                     allow_preview=False, interactive=False,
                                     elem_id="gallery")  # fmt: skip
        guard_files(form)
        outputs = _Outputs(queue, video, image, gallery, gr.State(None), gr.State([]), page)
        _connect_form(session, form, page, generate, dice)
        _connect_runs(session, form, outputs)
        _connect_gallery(session, form, outputs)
        _add_api(session, form)
    return page


@dataclass(frozen=True)
class _Outputs:
    """`shown` is the number of the run whose result the page shows, `names` the gallery's files."""

    queue: Any
    video: Any
    image: Any
    gallery: Any
    shown: Any
    names: Any
    page: Any


def _private(**more: Any) -> dict[str, Any]:
    """An event of the page alone, without gradio's queue and progress."""
    return {"api_visibility": "private", "queue": False, "show_progress": "hidden", **more}


def _connect_form(
    session: Session, form: Mapping[str, Any], page: Any, generate: Any, dice: Any
) -> None:
    """Submitting, and what the choice of a model and a mode shows."""
    inputs = [form[name] for name in FORM]

    def submit(*values: Any) -> None:
        with _told():
            given = of_mode(dict(zip(FORM, values, strict=True)))
            session.jobs.add(request_of(given, session.checkpoints, session.results))

    generate.click(submit, inputs, None, api_visibility="private", concurrency_limit=4)
    dice.click(lambda: str(secrets.randbelow(2**32)), None, form["seed"], **_private())
    chosen = [form["model"], form["mode"]]
    for changed in (form["model"].change, page.load):
        switched = [form[name] for name in (*_ABLE, *_SHOWN)]
        changed(lambda *now: _switched(session, *now), chosen, switched, **_private())
    # It leaves the mode alone: on its way back to the page, the user may have chosen another.
    form["mode"].change(
        lambda *now: _switched(session, *now)[len(_ABLE) :],
        chosen,
        [form[name] for name in _SHOWN],
        **_private(),
    )


#: What depends on the model.
_ABLE = ("mode", "scheduler")
#: What depends on the mode too.
_SHOWN = (*sources(), "preprocessor")


def _switched(session: Session, model: str, mode: str) -> list[Any]:
    """Updates of `_ABLE` and `_SHOWN`: what the model can do, and the sources of the mode."""
    with _told():
        able = session.checkpoints.abilities(model)
    mode = mode if mode in able.modes else able.modes[0]
    shown = fields_of(mode)
    updates: dict[str, Any] = {
        name: gr.update(visible=name in shown and (name != "reference" or able.reference))
        for name in sources()
    }
    if "strength" in shown:
        updates["strength"] = gr.update(visible=True, value=str(default_of(mode, "strength")))
    updates["preprocessor"] = gr.update(visible=mode == "control")
    updates["mode"] = gr.update(choices=mode_choices(session.i18n, able.modes), value=mode)
    updates["scheduler"] = gr.update(choices=[("auto", ""), *able.schedulers], value="")
    return [updates[name] for name in (*_ABLE, *_SHOWN)]


def _connect_runs(session: Session, form: Mapping[str, Any], outputs: _Outputs) -> None:
    """The queue and the newest result, once a second; a reloaded page shows the same."""
    shown = [outputs.queue, outputs.video, outputs.image, outputs.gallery, outputs.shown,
             outputs.names]  # fmt: skip

    def look(number: int | None, request: gr.Request) -> list[Any]:
        jobs = session.jobs.all()
        language = language_of(request.headers.get("accept-language", ""))
        newest = _newest(jobs)
        updates: list[Any] = [queue_html(jobs, language), *[gr.skip()] * 5]
        if number is None or (newest is not None and newest.number != number):
            updates[1:] = _result_updates(session, newest)
        return updates

    def stop(event: gr.EventData) -> None:
        with _told():
            session.jobs.cancel(int(event.number))

    gr.Timer(_TICK_SECONDS).tick(look, outputs.shown, shown, **_private())
    outputs.page.load(look, outputs.shown, shown, **_private())
    outputs.page.load(
        lambda: gr.update(choices=session.checkpoints.names()), None, form["model"], **_private()
    )
    outputs.queue.click(stop, None, None, **_private())


def _newest(jobs: Sequence[Job]) -> Job | None:
    done = [job for job in jobs if job.outcome is not None]
    return done[-1] if done else None


def _result_updates(session: Session, job: Job | None) -> list[Any]:
    """Updates of video, image, gallery, and of what they show."""
    results = session.results.newest()
    gallery = gr.update(value=[(result.first, result.prompt) for result in results])
    names = [result.file.name for result in results]
    file = job.outcome.files[0] if job is not None and job.outcome is not None else None
    if file is None or not file.is_file():
        return [gr.skip(), gr.skip(), gallery, job.number if job else 0, names]
    return [*_show(file), gallery, job.number if job else 0, names]


def _show(file: Path) -> list[Any]:
    """Updates of the video and the image that show a result."""
    is_video = file.suffix.lower() == ".mp4"
    return [
        gr.update(value=file if is_video else None, visible=is_video),
        gr.update(value=None if is_video else file, visible=not is_video),
    ]


def _connect_gallery(session: Session, form: Mapping[str, Any], outputs: _Outputs) -> None:
    """A click shows the video and puts its settings into the form."""

    def choose(names: list[str], request: gr.Request, event: gr.SelectData) -> list[Any]:
        with _told():
            result = session.results.read(names[event.index])
            values, notes = restored(result, session.checkpoints, session.results)
        language = language_of(request.headers.get("accept-language", ""))
        for key, text in notes:
            gr.Info(escape(word(key, language, text)))
        return [*_show(result.file), *(values.get(name, gr.skip()) for name in FORM)]

    shown = [outputs.video, outputs.image, *(form[name] for name in FORM)]
    outputs.gallery.select(choose, outputs.names, shown, **_private())


def _add_api(session: Session, form: Mapping[str, Any]) -> None:
    """The endpoints of the HTTP API: /generate waits for the files, /queue and /cancel."""

    async def generate(*values: Any) -> list[str]:
        *given, progress = values
        named = dict(zip(FORM, given, strict=True))
        with _told(plain=True):
            request = await asyncio.to_thread(
                request_of, named, session.checkpoints, session.results
            )
            number = session.jobs.add(request)
        try:
            job = await _ended(session.jobs, number, progress)
        except asyncio.CancelledError:
            session.jobs.cancel(number)
            raise
        if job.outcome is None:
            raise gr.Error(job.message or f"Run {number} was {job.state}.", print_exception=False)
        return [str(file) for file in job.outcome.files]

    _name_parameters(generate)
    files = gr.File(visible=False, file_count="multiple")
    gr.Button(visible=False).click(
        generate, [form[name] for name in FORM], files, api_name="generate",
        concurrency_limit=None, api_description="Make a video: returns its files and its recipe.",
    )  # fmt: skip

    def queue() -> list[dict[str, Any]]:
        """The runs: number, state, stage and how far it is, and why it failed."""
        return [_as_json(job) for job in session.jobs.all()]

    def cancel(number: int) -> dict[str, Any]:
        """Cancel a run."""
        with _told(plain=True):
            session.jobs.cancel(number)
            return _as_json(session.jobs.get(number))

    gr.api(queue, api_name="queue", queue=False)
    gr.api(cancel, api_name="cancel", queue=False)


def _name_parameters(function: Callable[..., Any]) -> None:
    """Give the API the form's names; all of them may be left out."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [inspect.Parameter(name, kind, default=None) for name in FORM]
    progress = inspect.Parameter("progress", kind, default=gr.Progress())
    function.__signature__ = inspect.Signature([*named, progress])  # type: ignore[attr-defined]


async def _ended(jobs: Jobs, number: int, progress: Any) -> Job:
    """Wait for the end of a run, and tell the client how far it is."""
    while not (job := jobs.get(number)).is_over:
        done = (job.done, max(job.total, 1)) if job.stage else (0, None)
        progress(done, desc=stage_text(job, "en") if job.state == "running" else "waiting")
        await asyncio.sleep(_WAIT_SECONDS)
    return job


def _as_json(job: Job) -> dict[str, Any]:
    names = ("number", "state", "stage", "done", "total", "message")
    files = job.outcome.files if job.outcome is not None else ()
    return {**{name: getattr(job, name) for name in names}, "files": [f.name for f in files]}


@contextmanager
def _told(*, plain: bool = False) -> Iterator[None]:
    """Show a deliberate error as a message; the page takes it for HTML, the API (`plain`) not."""
    try:
        yield
    except EasyAnimateError as error:
        text = str(error) if plain else escape(str(error))
        raise gr.Error(text, duration=None, print_exception=False) from error
