"""The examination of this machine."""

from __future__ import annotations

from comfy_api.latest import io

from ..easyanimate_core.doctor import page, summary, told
from . import inputs
from .bridge import doctor, notes


class DoctorNode(io.ComfyNode):
    """Tells what is wrong with this machine, and how to correct it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateDoctor",
            display_name="EasyAnimate Doctor",
            category="EasyAnimate/load",
            description="Examines this machine and shows what is wrong with it and how to correct "
            "it: versions, device, attention, folders, weights, memory, and whether the results of "
            "small networks are those of the original. The report is a page for bug reports, "
            "without names of users and without tokens.",
            inputs=[
                io.Boolean.Input(
                    "quick",
                    default=False,
                    tooltip="On: compute nothing, and import no package to test it.",
                ),
                io.Boolean.Input(
                    "hashes",
                    default=False,
                    tooltip="On: read all weights and compare their published hashes, where known. "
                    "This takes minutes.",
                ),
            ],
            outputs=[inputs.report_output()],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, quick: bool, hashes: bool) -> object:
        """Always run again: the report describes the moment."""
        return (quick, hashes, float("nan"))

    @classmethod
    def execute(cls, quick: bool, hashes: bool) -> io.NodeOutput:
        sections = doctor.examine(quick=quick, hashes=hashes)
        lines = [line for section in sections for line in told(section)]
        notes.show(cls.hidden.unique_id, "\n".join([summary(sections), *lines]))
        return io.NodeOutput(page(sections))


NODES = (DoctorNode,)
