"""The prompt node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..easyanimate_core.settings import DEFAULT_NEGATIVE_PROMPT
from . import inputs
from .bridge import notes
from .bridge.text import TRUNCATED


class TextEncode(io.ComfyNode):
    """Positive and negative prompt together."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        text = {"multiline": True, "dynamic_prompts": True}
        return io.Schema(
            node_id="EasyAnimateTextEncode",
            display_name="EasyAnimate Text Encode",
            category="EasyAnimate/text",
            description="Encodes what the video shall show and shall not show, in English or "
            "Chinese, and says which words did not fit.",
            inputs=[
                io.Clip.Input("clip", tooltip="EasyAnimate's text encoder."),
                io.String.Input(
                    "positive",
                    default="",
                    placeholder="What the video shall show",
                    tooltip="What the video shall show. Whole sentences work best. 256 tokens are "
                    "read (V5: also the first 77 by its first encoder). Weights such as (word:1.2) "
                    "are read as plain text.",
                    **text,
                ),
                io.String.Input(
                    "negative",
                    default=DEFAULT_NEGATIVE_PROMPT,
                    tooltip="What the video shall not show. The default is the original's: twisted "
                    "body, missing limbs, captions, comic, static, ugly, error, gibberish.",
                    **text,
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="What shall be shown."),
                io.Conditioning.Output(display_name="negative", tooltip="What shall not be shown."),
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
            f"The {name} prompt is too long; not read: {entry[1][TRUNCATED]}"
            for name, entries in encoded.items()
            for entry in entries
            if entry[1].get(TRUNCATED)
        ]
        report = "\n".join(cut) or "Both prompts are read to the end."
        notes.show(cls.hidden.unique_id, report if cut else "")
        return io.NodeOutput(encoded["positive"], encoded["negative"], report)


NODES = (TextEncode,)
