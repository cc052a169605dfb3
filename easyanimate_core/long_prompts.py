"""Long prompts for a run, written by the checkpoint's text encoder before its other stages."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .media import load_clip, load_image
from .networks import Networks
from .pipeline import Pipeline
from .progress import Progress, silent
from .tasks import ImageToVideo, RegionEdit, Task, VideoToVideo
from .text import load_qwen_tokenizer
from .text.enhance import LongPrompt, Request, check_request, enhance_prompt

_SECONDS = 1.0  # of a clip, of which the first frame is used


def enhance_prompts(
    pipeline: Pipeline,
    prompts: Sequence[str],
    task: Task | None = None,
    *,
    language: str = "auto",
    seed: int = 43,
    progress: Progress = silent,
) -> list[LongPrompt]:
    """A long prompt for each prompt, for `Pipeline.generate`. The language model is then freed.

    Args:
        pipeline: Its checkpoint, device and memory options are used.
        prompts: Short prompts; "" if the task has a first frame.
        task: The mode; its start image, or the first frame of its clip, is shown to the model.
        language: auto (the prompt's own), en or zh.
        seed: The same seed writes the same prompt.
        progress: Reports the stages "load" and "write"; may raise to cancel.

    Raises:
        CheckpointError: The checkpoint is V5, or lacks the language head or the vision tower.
        InputError: A prompt cannot be extended, which is checked before weights are loaded, or the
            answer is not a prompt.
    """
    picture = None if task is None else first_picture(task)
    requests = [Request(prompt, language, seed) for prompt in prompts]
    networks = Networks(pipeline.info, pipeline.device, pipeline.dtype, pipeline.memory)
    networks.check_writes()
    tokenizer = load_qwen_tokenizer(pipeline.info.path / "tokenizer")
    for request in requests:
        check_request(request, tokenizer, seen=picture is not None)
    with networks.prompt_writer(progress, sees=picture is not None) as writer:
        return [
            enhance_prompt(writer, request, picture, device=networks.text_device, progress=progress)
            for request in requests
        ]


def first_picture(task: Task) -> Tensor | None:
    """The known first frame [H, W, 3] of a task in [0, 1], or None."""
    if isinstance(task, VideoToVideo | RegionEdit):
        return load_clip("video", task.video, _SECONDS, None).frames[0]
    if isinstance(task, ImageToVideo):
        start = task.keyframes.get(0) if task.start is None else task.start
        return None if start is None else load_image("start image", start).frames[0]
    return None
