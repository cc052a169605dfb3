"""A node that downloads published models, if allowed."""

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
            description="Downloads a published EasyAnimate model to models/EasyAnimate, or reports "
            "what would be downloaded. Interrupted downloads resume; every file is verified.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=list(MODELS),
                    tooltip="The published model. InP generates videos from text, images and "
                    "clips; 7b needs less memory than 12b.",
                ),
                io.Combo.Input(
                    "source",
                    options=list(SOURCES),
                    tooltip="The site to download from. modelscope needs the package modelscope; "
                    "models in diffusers layout are only on huggingface.",
                ),
                io.Boolean.Input(
                    "allow_download",
                    default=False,
                    tooltip="Off: only report what would be downloaded, its size and destination. "
                    "On: download it.",
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
        """Always run again unless the folder is complete: the report describes the moment."""
        whole = allow_download and is_whole(model)
        return (model, source) if whole else float("nan")

    @classmethod
    def execute(cls, model: str, source: str, allow_download: bool) -> io.NodeOutput:
        report = fetch_model(model, source, allowed=allow_download)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(model, report)


NODES = (DownloadModel,)
