"""What a run does not import: libraries that take longer than all else before its first step."""

import subprocess
import sys
from pathlib import Path

import pytest

from easyanimate_core.models.specs import Head
from easyanimate_core.pipeline import Pipeline
from easyanimate_core.small_model import EXAMPLE_PROMPT, small_checkpoint
from tests.factories import V5, V5_1

ROOT = Path(__file__).parents[2]
#: Of text encoders and tokenizers, of the compiler, and of other parts.
UNUSED = {"transformers", "tokenizers", "sentencepiece", "torchvision", "diffusers", "accelerate",
          "scipy", "torch._dynamo", "torch._inductor", "triton", "matplotlib", "pydantic", "av",
          "cv2", "gguf", "huggingface_hub", "requests"}  # fmt: skip
_FIRST_STEP = """
import sys
from easyanimate_core.cli import bars, main

class Stop(bars.ProgressBars):
    def __call__(self, stage, done, total):
        if stage == "denoise" and done == 1:
            print(*["found:", *sorted(set(sys.modules) & set({unused!r}))])
            sys.stdout.flush()
            raise SystemExit

from easyanimate_core.cli import generate
generate.ProgressBars = Stop
main.main({arguments!r})
"""


@pytest.mark.parametrize("version", [None, V5])
def test_a_prompt_in_the_cache_needs_no_library_of_text(version, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("EASYANIMATE_CACHE", str(tmp_path))
    model = checkpoint(V5, Head.T2V) if version else small_checkpoint(Head.INPAINT, V5_1)
    Pipeline.load(model, device="cpu").encode(EXAMPLE_PROMPT)
    given = ["--model", str(model)] if version else []
    arguments = ["generate", "--prompt", EXAMPLE_PROMPT, *given, "--size", "96x96",
                 "--frames", "5", "--steps", "2", "--device", "cpu",
                 "--output", str(tmp_path / "x.mp4")]  # fmt: skip
    code = _FIRST_STEP.format(unused=UNUSED, arguments=arguments)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("found:")]
    assert found == ["found:"], done.stderr
