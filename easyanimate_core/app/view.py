"""The queue as HTML: what runs and how far it is, what waits, and what ended how."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .jobs import Job
from .texts import word

_ENDED_SHOWN = 5
_PROMPT_SHOWN = 90

#: A click on a button of a row is an event with the run's number.
ON_CLICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-cancel]')
  if (!button) return
  button.disabled = true
  trigger('click', {number: Number(button.dataset.cancel)})
})
"""

STYLE = """
.runs { display: flex; flex-direction: column; gap: 8px; }
.runs .run { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg);
  padding: 8px 12px; background: var(--background-fill-primary); }
.runs .head { display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; }
.runs .what { flex: 1; min-width: 12em; overflow-wrap: anywhere; color: var(--body-text-color); }
.runs .state { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
.runs .failed .state { color: var(--error-text-color, #b91c1c); }
.runs .message { color: var(--body-text-color); margin: 6px 0 0; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: var(--text-sm); }
.runs progress { width: 100%; height: 8px; margin-top: 6px; accent-color: var(--color-accent); }
.runs button { border: 1px solid var(--border-color-primary); border-radius: var(--radius-md);
  padding: 1px 10px; background: var(--button-secondary-background-fill);
  color: var(--button-secondary-text-color); cursor: pointer; }
.runs button:disabled { opacity: 0.5; cursor: default; }
.runs .none { color: var(--body-text-color-subdued); }
"""


def queue_html(jobs: Sequence[Job], language: str) -> str:
    """The runs that are not over, in order, then those that ended last."""
    active = [job for job in jobs if not job.is_over]
    ended = [job for job in reversed(jobs) if job.is_over][:_ENDED_SHOWN]
    rows = [_row(job, before, language) for before, job in enumerate(active)]
    rows += [_row(job, 0, language) for job in ended]
    if not rows:
        rows = [f'<div class="none">{escape(word("empty", language))}</div>']
    return f'<div class="runs" role="list">{"".join(rows)}</div>'


def stage_text(job: Job, language: str) -> str:
    """The stage of a run, such as "Denoising 3 / 50"."""
    if not job.stage:
        return word("running", language)
    return f"{word(job.stage, language)} {job.done} / {job.total}"


def _row(job: Job, before: int, language: str) -> str:
    prompt = job.request.prompt
    short = prompt if len(prompt) <= _PROMPT_SHOWN else f"{prompt[:_PROMPT_SHOWN]}…"
    mode = word(job.request.task.mode, language)
    head = (
        f'<span class="what"><b>#{job.number} {escape(mode)}</b> {escape(short)}</span>'
        f'<span class="state">{escape(_state(job, before, language))}</span>'
    )
    if not job.is_over:
        label = word("cancelling" if job.is_stopping else "cancel", language)
        disabled = " disabled" if job.is_stopping else ""
        head += f'<button data-cancel="{job.number}"{disabled}>{escape(label)}</button>'
    lines = [job.message] if job.message else []
    lines += job.outcome.notes if job.outcome is not None else ()
    below = "".join(f'<p class="message">{escape(line)}</p>' for line in lines)
    if job.state == "running":
        share = f' value="{job.done}" max="{max(job.total, 1)}"' if job.stage else ""
        below += f'<progress{share} aria-label="{escape(stage_text(job, language))}"></progress>'
    return (
        f'<div class="run {job.state}" role="listitem"><div class="head">{head}</div>{below}</div>'
    )


def _state(job: Job, before: int, language: str) -> str:
    if job.state == "running":
        return stage_text(job, language)
    return word(job.state, language, before if job.state == "waiting" else f"{job.seconds:.1f}")
