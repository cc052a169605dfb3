"""A node that fetches published models, when it is allowed to."""

from __future__ import annotations

from comfy_api.latest import io

from ..easyanimate_core.hub import MODELS, SOURCES
from . import inputs
from .bridge import notes
from .bridge.download import fetch_model, is_whole

CATEGORY = "EasyAnimate/load"


class DownloadModel(io.ComfyNode):
    """A published checkpoint folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateDownload",
            display_name="EasyAnimate Download Model",
            category=CATEGORY,
            description="Fetches a published EasyAnimate folder into models/EasyAnimate, or says "
            "what would be fetched. Interrupted downloads are resumed, every file is checked.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(MODELS),
                    tooltip="The published folder. InP makes videos from text, pictures and clips; "
                    "7b needs less memory than 12b.",
                ),
                io.Combo.Input(
                    "source",
                    options=list(SOURCES),
                    tooltip="Where from. modelscope needs the package modelscope; folders in the "
                    "layout of diffusers are on huggingface only.",
                ),
                io.Boolean.Input(
                    "allow_download",
                    default=False,
                    tooltip="Off: only say what would be fetched, how large it is and where it "
                    "would go. On: fetch it.",
                ),
            ],
            outputs=[
                io.Combo.Output(
                    display_name="checkpoint", tooltip="The folder's name, for Load Checkpoint."
                ),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, model: str, source: str, allow_download: bool) -> object:
        """Only a whole folder is left alone; a report without a download is about the moment."""
        whole = allow_download and is_whole(model)
        return (model, source) if whole else float("nan")

    @classmethod
    def execute(cls, model: str, source: str, allow_download: bool) -> io.NodeOutput:
        report = fetch_model(model, source, allowed=allow_download)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(model, report)


NODES = (DownloadModel,)
