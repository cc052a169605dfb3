"""`describe`: prints what a checkpoint folder is and what it can do."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..errors import counted
from .options import checkpoint_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "describe",
        help="print what a checkpoint is and can do",
        description="Print a checkpoint's version, head, size, tensors and modes, or the content "
        "and origin of a single file. Only reads configs and file headers; a checkpoint that a "
        "run would reject is an error.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "path",
        type=checkpoint_of,
        help="checkpoint folder, built-in model, .safetensors or .gguf",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print the description."""
    from ..text import check_text_encoder
    from ..weights.files import inspect_checkpoint
    from ..weights.files.folder import is_file
    from ..weights.loading import check_weights

    if is_file(arguments.path):
        return _run_file(arguments)
    info = inspect_checkpoint(arguments.path)
    check_weights(info)
    masks = info.transformer.enable_text_attention_mask
    check_text_encoder(info.path, info.version, use_attention_mask=masks)
    facts = describe(info)
    if arguments.json:
        print(json.dumps(facts, indent=2))  # plain ASCII, for every console
        return 0
    print(f"{facts['path']}")
    print(f"  EasyAnimate {facts['version']}, {facts['size']}, {facts['head']} head, ", end="")
    print(f"{facts['layout']} layout")
    print(f"  scheduler     {facts['scheduler']} (predicts {facts['prediction_type']})")
    print(f"  can do        {', '.join(facts['modes'])}")
    print(f"  reference     {'yes' if facts['reference_image'] else 'no'}")
    print(f"  {'part':<15}{'tensors':>8}{'parameters':>17}{'on disk':>12}  dtypes")
    for name, part in facts["parts"].items():
        print(
            f"  {name:<15}{part['tensors']:>8}{part['parameters']:>17,}"
            f"{_bytes(part['bytes']):>12}  {', '.join(part['dtypes'])}"
        )
    return 0


def _run_file(arguments: argparse.Namespace) -> int:
    from ..convert import describe_file
    from ..weights.lora.card import shown_of

    facts = describe_file(arguments.path)
    if arguments.json:
        print(json.dumps(facts, indent=2))  # plain ASCII, for every console
        return 0
    known = [f"EasyAnimate {facts['version']}"] if facts["version"] else []
    known += [facts["size"]] + ([f"{facts['head']} head"] if facts["head"] else [])
    shares = (
        f"{dtype} {_share(count, facts['parameters'])}" for dtype, count in facts["dtypes"].items()
    )
    print(f"{facts['path']}")
    print(f"  {facts['part']}: {', '.join(known)}")
    print(f"  {counted(facts['tensors'], 'tensor')}, {facts['parameters']:,} parameters, ", end="")
    print(f"{_bytes(facts['bytes'])}, {', '.join(shares)}")
    told = facts["metadata"] if facts["lora"] is None else _told_of_lora(facts["lora"])
    for key, text in told.items():
        print(f"  {shown_of(key):<28}{shown_of(text)}")
    return 0


def _told_of_lora(lora: dict[str, Any]) -> dict[str, str]:
    known = {**lora, "words": ", ".join(lora["words"])}
    return {key: text for key, text in known.items() if text}


def describe(info: Any) -> dict[str, Any]:
    """The facts of a `CheckpointInfo` as JSON values."""
    from ..sampling import DEFAULT_SCHEDULER
    from ..tasks import TASKS

    names = ["text_encoder", "text_encoder_2"][: len(info.text_encoders)]
    parts = {"transformer": info.transformer_files, "vae": info.vae_files}
    parts |= dict(zip(names, info.text_encoders, strict=True))
    return {
        "path": str(info.path),
        "version": info.version.value,
        "size": info.size,
        "head": info.head.value,
        "layout": info.layout.value,
        "scheduler": DEFAULT_SCHEDULER[info.version],
        "prediction_type": info.version.prediction_type,
        "reference_image": info.transformer.has_reference,
        "modes": [
            mode.replace("_", " ") for mode, task in TASKS.items() if info.head in task.heads
        ],
        "parts": {
            name: {
                "tensors": len(files.weights),
                "parameters": files.num_parameters,
                "bytes": sum(file.stat().st_size for file in files.files),
                "files": [file.name for file in files.files],
                "dtypes": [
                    f"{dtype} {_share(count, files.num_parameters)}"
                    for dtype, count in files.dtypes.most_common()
                ],
            }
            for name, files in parts.items()
        },
    }


def _share(count: int, total: int) -> str:
    return f"{count / max(total, 1):.0%}"


def _bytes(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
