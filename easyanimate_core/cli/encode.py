"""`encode`: encodes prompts to a file, so that `generate` needs no text encoder."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import printable
from ..memory.options import QUANTIZATIONS, Memory
from . import enhance
from .bars import ProgressBars
from .options import add_device, add_dtype, add_embedding_cache, add_force, checkpoint_of, path_of


def add_parser(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "encode",
        help="save a prompt's embeddings to a file",
        description="Write the prompts' embeddings, for generate --embeddings and the node "
        "EasyAnimate Load Conditioning, which then need no text encoder.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--model", type=checkpoint_of, required=True,
                        help="checkpoint folder, original or diffusers layout, or the name of "
                        "a built-in model")  # fmt: skip
    parser.add_argument("--prompt", action="append", required=True,
                        help="what to show; repeat for a batch")  # fmt: skip
    enhance.add_enhance(parser)
    parser.add_argument("--negative-prompt", help="what to avoid; default: that of generate")
    parser.add_argument("--out", type=path_of, required=True, help="file to write, .safetensors")
    add_force(parser)
    add_device(parser)
    add_dtype(parser)
    group = parser.add_argument_group("memory")
    group.add_argument("--text-quantization", choices=QUANTIZATIONS, default="none",
                       help="for the text encoder's weights, default: none")  # fmt: skip
    group.add_argument("--offload", choices=("module", "block"), default="module",
                       help="block: block after block; default: module")  # fmt: skip
    add_embedding_cache(group)


def run(arguments: argparse.Namespace) -> int:
    """Encode, write the file and print its path."""
    from ..files import Result, check_results
    from ..pipeline import Pipeline
    from ..settings import DEFAULT_NEGATIVE_PROMPT, Settings
    from ..text import write_embeddings
    from ..text.embedding_file import check_embeddings_path, is_embeddings

    out = check_embeddings_path(arguments.out)
    check_results([Result(out, "file of embeddings", is_embeddings)], force=arguments.force)
    negative = arguments.negative_prompt
    pipeline = Pipeline.load(
        arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        memory=Memory(text_quantization=arguments.text_quantization, offload=arguments.offload),
        embedding_cache=arguments.embedding_cache,
    )
    prompts = arguments.prompt
    if arguments.enhance is not None:
        prompts = enhance.written(arguments, pipeline, None, Settings().seed)
    with ProgressBars() as bars:
        embeddings = pipeline.encode(
            prompts,
            DEFAULT_NEGATIVE_PROMPT if negative is None else negative,
            progress=bars,
        )
    write_embeddings(out, embeddings)
    for note in embeddings.notes:
        print(f"note: {printable(note)}")
    print(out)
    return 0
