"""Records what the small model's text encoder gives: `python -m tools.record_small_text`.

The doctor compares it with what the installed transformers gives. V5.1's own recording of the
original needs a tokenizer that is not in this repository; the tests compare with that one.
"""

from __future__ import annotations

import json

import torch

from easyanimate_core import small_model
from easyanimate_core.doctor.recordings import RECORDINGS
from easyanimate_core.files import save_tensors
from easyanimate_core.models.specs import Version
from easyanimate_core.text import build_text_encoder

FILE = RECORDINGS / "text" / "small.safetensors"
PROMPTS = (small_model.EXAMPLE_PROMPT, "一个红色的大圆形在灰色条纹上向左移动。", "")


def main() -> None:
    """Write the recording."""
    encoder = build_text_encoder(
        small_model.FOLDER, Version.V5_1, use_attention_mask=True, dtype=torch.float32
    )
    read = [encoder.encode([prompt]) for prompt in PROMPTS]
    outputs = {f"outputs.{i}": states.text for i, states in enumerate(read)}
    note = "the small model's text encoder, float32 on a CPU, by this project and transformers"
    save_tensors(FILE, outputs, {"meta": json.dumps({"prompts": PROMPTS, "note": note})})
    print(f"{FILE}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
