"""The memory plan of a run."""

from __future__ import annotations

from comfy_api.latest import io

from ..easyanimate_core.errors import InputError
from ..easyanimate_core.memory.plan import Job
from . import inputs
from .bridge import notes, paths, planning


class MemoryPlanNode(io.ComfyNode):
    """Plans whether and how a run fits into memory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EasyAnimateMemoryPlan",
            display_name="EasyAnimate Memory Plan",
            category="EasyAnimate/load",
            description="Estimates the memory of every stage of a run before anything is loaded, "
            "and chooses dtypes, the text encoder's device, tiles and guidance so that it fits.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=paths.choices(paths.list_checkpoints()),
                    tooltip="The checkpoint folder to run.",
                ),
                *inputs.size_widgets(),
                inputs.batch_widget(),
                io.Float.Input(
                    "card_gb",
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    step=0.5,
                    round=0.01,
                    tooltip="GPU memory in GB. 0: that of this machine.",
                ),
                io.Float.Input(
                    "memory_gb",
                    default=0.0,
                    min=0.0,
                    max=4096.0,
                    step=1.0,
                    round=0.01,
                    tooltip="RAM in GB. 0: what is free on this machine.",
                ),
                io.Boolean.Input(
                    "refuse",
                    default=True,
                    tooltip="Stop with an error if the run would not fit. Off: only report it.",
                ),
                io.Boolean.Input(
                    "enhance",
                    default=False,
                    tooltip="On: also count the language model that EasyAnimate Enhance Prompt "
                    "loads from the checkpoint.",
                ),
            ],
            outputs=[
                inputs.PLAN.Output(
                    display_name="plan", tooltip="For the loader, the sampler and the decoder."
                ),
                inputs.report_output(),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        """Say where checkpoints belong, instead of ComfyUI's "value not in list"."""
        return paths.check_checkpoint(checkpoint)

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        width: int,
        height: int,
        length: int,
        batch_size: int,
        card_gb: float,
        memory_gb: float,
        refuse: bool,
        enhance: bool = False,
    ) -> io.NodeOutput:
        job = Job(height, width, length, batch=batch_size, writes=enhance)
        plan = planning.plan_run(paths.find_checkpoint(checkpoint), job, card_gb, memory_gb)
        if refuse and not plan.fits:
            raise InputError(" ".join(plan.reasons) + " Turn refuse off to try anyway.")
        report = planning.describe(plan)
        notes.show(cls.hidden.unique_id, report)
        return io.NodeOutput(plan, report)


NODES = (MemoryPlanNode,)
