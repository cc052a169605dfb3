"""Encodes prompts, and saves and loads them encoded."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..easyanimate_core.settings import DEFAULT_NEGATIVE_PROMPT
from ..easyanimate_core.text.enhance import MIN_TOKENS, LongPrompt, Request
from ..easyanimate_core.text.tokenize import MAX_TOKENS
from . import inputs
from .bridge import notes, paths
from .bridge.embeddings import check_prefix, load_conditioning, save_conditioning
from .bridge.enhance import write_prompt
from .bridge.text import TRUNCATED

CATEGORY = "EasyAnimate/text"
_LANGUAGES = {"as the prompt": "auto", "English": "en", "Chinese": "zh"}


class TextEncode(io.ComfyNode):
    """Encodes the positive and the negative prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        text = {"multiline": True, "dynamic_prompts": True}
        return io.Schema(
            node_id="EasyAnimateTextEncode",
            display_name="EasyAnimate Text Encode",
            category=CATEGORY,
            description="Encodes the positive and the negative prompt, in English or Chinese, and "
            "reports which words did not fit.",
            inputs=[
                io.Clip.Input("clip", tooltip="EasyAnimate's text encoder."),
                io.String.Input(
                    "positive",
                    default="",
                    placeholder="What the video should show",
                    tooltip="What the video should show. Full sentences work best. Up to 256 "
                    "tokens are used (V5: its first encoder also uses the first 77). Weights such "
                    "as (word:1.2) are read as plain text.",
                    **text,
                ),
                io.String.Input(
                    "negative",
                    default=DEFAULT_NEGATIVE_PROMPT,
                    tooltip="What the video should not show. The default is the original's: "
                    "twisted body, missing limbs, captions, comic, static, ugly, error, gibberish.",
                    **text,
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The positive prompt."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt."),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, clip: Any, positive: str, negative: str) -> io.NodeOutput:
        encoded = {
            name: clip.encode_from_tokens_scheduled(clip.tokenize(text))
            for name, text in (("positive", positive), ("negative", negative))
        }
        cut = [
            f"The {name} prompt is too long; cut off: {entry[1][TRUNCATED]}"
            for name, entries in encoded.items()
            for entry in entries
            if entry[1].get(TRUNCATED)
        ]
        report = "\n".join(cut) or "Both prompts fit completely."
        notes.show(cls.hidden.unique_id, report if cut else "")
        return io.NodeOutput(encoded["positive"], encoded["negative"], report)


class SaveConditioning(io.ComfyNode):
    """Saves encoded prompts to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateSaveConditioning",
            display_name="EasyAnimate Save Conditioning",
            category=CATEGORY,
            description="Saves both encoded prompts to a file in output/EasyAnimate_embeddings. "
            "EasyAnimate Load Conditioning, or generate on the command line, then needs no text "
            "encoder.",
            inputs=[
                io.Conditioning.Input(
                    "positive", tooltip="From EasyAnimate Text Encode or CLIP Text Encode."
                ),
                io.Conditioning.Input(
                    "negative", tooltip="From EasyAnimate Text Encode or CLIP Text Encode."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="prompt",
                    tooltip="Prefix of the file's name, followed by a number. May name folders in "
                    "output/EasyAnimate_embeddings.",
                ),
            ],
            outputs=[inputs.report_output()],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """Reject a bad name before the prompts are encoded; None if another node provides it."""
        return True if filename_prefix is None else check_prefix(filename_prefix)

    @classmethod
    def execute(cls, positive: Any, negative: Any, filename_prefix: str) -> io.NodeOutput:
        report = f"Saved as {save_conditioning(positive, negative, filename_prefix)}"
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(report)


class LoadConditioning(io.ComfyNode):
    """Loads encoded prompts from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateLoadConditioning",
            display_name="EasyAnimate Load Conditioning",
            category=CATEGORY,
            description="Loads both prompts, as saved by EasyAnimate Save Conditioning or the "
            "command encode, instead of running a text encoder.",
            inputs=[
                io.Combo.Input(
                    "embeddings",
                    options=paths.choices(paths.list_files(paths.EMBEDDINGS)),
                    tooltip="A file in models/EasyAnimate_embeddings or "
                    "output/EasyAnimate_embeddings.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The positive prompt."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt."),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, embeddings: str | None = None) -> bool | str:
        """Say where the files belong, instead of ComfyUI's "value not in list"."""
        return paths.check_file(paths.EMBEDDINGS, embeddings)

    @classmethod
    def fingerprint_inputs(cls, embeddings: str) -> int:
        """Reload if the file was replaced by another of the same name."""
        return paths.find_file(paths.EMBEDDINGS, embeddings).stat().st_mtime_ns

    @classmethod
    def execute(cls, embeddings: str) -> io.NodeOutput:
        file = paths.find_file(paths.EMBEDDINGS, embeddings)
        positive, negative, report = load_conditioning(file)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(positive, negative, report)


def _drawing_widgets() -> list[io.Input]:
    """Seed and limit of a long prompt."""
    return [
        io.Int.Input(
            "seed",
            default=43,
            min=0,
            max=inputs.SEED_MAX,
            control_after_generate=False,
            tooltip="The same seed writes the same prompt; another seed, another one.",
        ),
        io.Int.Input(
            "max_tokens",
            default=200,
            min=MIN_TOKENS,
            max=MAX_TOKENS,
            tooltip="Where to stop if it does not end before. The text encoder reads 256 "
            "tokens, about 20 of which are not the prompt's.",
        ),
    ]


class EnhancePrompt(io.ComfyNode):
    """Writes a long prompt from a short one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateEnhancePrompt",
            display_name="EasyAnimate Enhance Prompt",
            category=CATEGORY,
            description="Lets the text encoder of a V5.1 checkpoint write a long prompt from a few "
            "words, in English or Chinese. It can see the video's first frame.",
            inputs=[
                io.Clip.Input("clip", tooltip="EasyAnimate V5.1's text encoder."),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    dynamic_prompts=True,
                    placeholder="What the video should show, in a few words",
                    tooltip="A few words. May be empty if an image is connected.",
                ),
                io.Combo.Input(
                    "language",
                    options=list(_LANGUAGES),
                    default=next(iter(_LANGUAGES)),
                    tooltip="The language of the long prompt.",
                ),
                *_drawing_widgets(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The video's first frame, which the text encoder then sees: the start "
                    "image, or the clip, whose first frame is used.",
                ),
                io.String.Input(
                    "edited",
                    default="",
                    multiline=True,
                    optional=True,
                    placeholder="Empty: write a new prompt. Otherwise this text is used.",
                    tooltip="If not empty, this text is the result and nothing is written. Copy "
                    "the long prompt here to change it.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="prompt",
                    tooltip="The long prompt, for the text of EasyAnimate Text Encode.",
                ),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        prompt: str,
        language: str,
        seed: int,
        max_tokens: int,
        image: Any | None = None,
        edited: str = "",
    ) -> io.NodeOutput:
        if edited.strip():
            long = LongPrompt(edited, ("The edited text is used; nothing was written.",))
        else:
            request = Request(prompt, _LANGUAGES[language], seed, max_tokens)
            long = write_prompt(clip, request, image)
        notes.show(cls.hidden.unique_id, "\n\n".join((long.text, *long.notes)))
        report = "\n".join(long.notes) or "The long prompt is complete."
        return io.NodeOutput(long.text, report, ui=ui.PreviewText(long.text))


NODES = (TextEncode, EnhancePrompt, SaveConditioning, LoadConditioning)
