"""CPU seconds of the parts of a step in their plain form and in ours; same inputs, one thread.

    python benchmarks/pieces.py [--json results.json] [--repeats 5] [--threads 1]

The rotary embedding of queries with 256 text and 4,032 video tokens (48 heads of 64, batch of 2),
joined; the dequantised weight of a 3072x3072 layer; the same layer with a LoRA of rank 128. The
plain forms are those of diffusers and peft: real arithmetic, float32 copies, a sum of two products.
`different` is the share of the result that is not bit-equal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from measure import parser, save
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.models.transformer import rotary_table
from easyanimate_core.models.transformer.rope import text_and_rotated
from easyanimate_core.weights.lora.changes import LowRank
from easyanimate_core.weights.stored import dequantized, plain_tensors, quantize

HALVES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WIDTH, TOKENS, RANK = 3072, 1024, 128
Form = Callable[[], Tensor]


def rotary(dtype: torch.dtype) -> tuple[Form, Form]:
    table = rotary_table(64, (4, 24, 42))
    text, video = torch.randn(2, 256, 48, 64).to(dtype), torch.randn(2, 4032, 48, 64).to(dtype)

    def plain() -> Tensor:
        cos, sin = (part.contiguous()[:, None] for part in table)
        even, odd = video.float().unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
        return torch.cat([text, turned.flatten(-2).to(dtype)], dim=1)

    return plain, lambda: text_and_rotated(text, video, table)


def weight(dtype: torch.dtype, kind: str) -> tuple[Form, Form]:
    stored = quantize(torch.randn(WIDTH, WIDTH), kind)
    values, scale, *shift = plain_tensors(stored)
    if not shift:
        return lambda: (values.float() * scale).to(dtype), lambda: dequantized(stored, dtype)

    def plain() -> Tensor:
        unpacked = torch.cat([values & 15, values >> 4]).float()
        return unpacked.mul_(scale).sub_(shift[0]).reshape(stored.shape).to(dtype)

    return plain, lambda: dequantized(stored, dtype)


def lora(dtype: torch.dtype) -> tuple[Form, Form]:
    x, output = (torch.randn(TOKENS, WIDTH).to(dtype) for _ in range(2))
    down, up = (torch.randn(RANK, WIDTH) / 55).to(dtype), (torch.randn(WIDTH, RANK) / 11).to(dtype)
    product = LowRank(down, up)

    def plain() -> Tensor:
        return output.clone().add_(F.linear(F.linear(x, down), up))

    def ours() -> Tensor:
        added = output.clone()
        product.add_to(added, x)
        return added

    return plain, ours


def measured(forms: tuple[Form, Form], repeats: int) -> dict[str, float]:
    plain, ours = (form() for form in forms)
    different = float((plain != ours).float().mean())
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for form, taken in zip(forms, seconds, strict=True):
            start = time.process_time()
            form()
            taken.append(time.process_time() - start)
    before, after = map(median, seconds)
    return {"plain": before, "ours": after, "ratio": after / before, "different": different}


def main() -> None:
    arguments = parser(__doc__ or "").parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    results = {}
    with torch.inference_mode():
        for name, dtype in HALVES.items():
            pieces = {"rotary": rotary(dtype), "LoRA": lora(dtype)}
            pieces |= {kind: weight(dtype, kind) for kind in ("qfloat8", "qint8", "qint4")}
            for piece, forms in pieces.items():
                row = results[f"{piece}, {name}"] = measured(forms, arguments.repeats)
                print(f"{piece:8}{name:10}{row['plain'] * 1e3:8.1f} ms to {row['ours'] * 1e3:6.1f} "
                      f"({row['ratio']:.2f}), {row['different']:.1%} not bit-equal")  # fmt: skip
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
