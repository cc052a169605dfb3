"""Size, loading, speed and error of quantised denoisers, with and without a LoRA, on the CPU.

    python benchmarks/quantization.py [--json results.json] [--repeats 5] [--threads 1]

A tiny denoiser, and one of 666 MB (bfloat16): twelve blocks of width 1024, eight of them MMDiT,
with random weights. Calls use 512 video and 256 text tokens in float32. The LoRA has rank 16 and
changes every matrix of the blocks. Errors are those of the output compared to the weights as
stored, with the LoRA if there is one. The load peak is anonymous memory in a separate process.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import compare, in_subprocess, parser, save, status_mib
from safetensors.torch import save_file
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.memory.options import QUANTIZATIONS
from easyanimate_core.models.specs import LATENT_CHANNELS, TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.weights.files import read_tensor_files
from easyanimate_core.weights.loading import load_network
from easyanimate_core.weights.lora import Lora, LoraSet, attached, matrix_shapes
from easyanimate_core.weights.stored import Quantizer, may_be_quantized, quantize, stored_bytes

COMMON = {"in_channels": LATENT_CHANNELS, "out_channels": LATENT_CHANNELS, "text_embed_dim": 3584}
COMMON |= {"add_norm_text_encoder": True, "patch_size": 2}
SIZES = {
    "tiny": {"num_attention_heads": 2, "attention_head_dim": 64, "num_layers": 3}
    | {"mmdit_layers": 2, "time_embed_dim": 128},
    "middle": {"num_attention_heads": 16, "attention_head_dim": 64, "num_layers": 12}
    | {"mmdit_layers": 8, "time_embed_dim": 512},
}
LATENTS = (1, LATENT_CHANNELS, 2, 32, 32)  # 2 x 16 x 16 = 512 tokens
RANK = 16


def build(size: str) -> EasyAnimateTransformer3DModel:
    return EasyAnimateTransformer3DModel(TransformerConfig(**COMMON, **SIZES[size]))


def write(size: str, file: Path) -> None:
    """Write weights with a spread that preserves the scale of activations, and a LoRA."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build(size).state_dict().items()}
    tensors, lora = {}, {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            value = torch.ones(shape) if "norm" in name and "weight" in name else torch.zeros(shape)
        else:
            value = torch.randn(shape, generator=generator) / shape[1:].numel() ** 0.5
        tensors[name] = value.bfloat16()
        if may_be_quantized(name, shape):
            layer = name.removesuffix(".weight")
            down = torch.randn(RANK, shape[1], generator=generator) / shape[1] ** 0.5
            up = torch.randn(shape[0], RANK, generator=generator) / RANK**0.5 * 0.3
            lora[f"{layer}.lora_A.weight"], lora[f"{layer}.lora_B.weight"] = down, up
    save_file(tensors, file)
    save_file(lora, _lora_of(file))


def _lora_of(file: Path) -> Path:
    return file.with_name(f"lora-{file.name}")


def load(size: str, file: Path, kind: str) -> EasyAnimateTransformer3DModel:
    quantizer = None if kind == "none" else Quantizer(kind)
    tensors = read_tensor_files(file).map()
    return load_network(lambda: build(size), tensors, what="denoiser", quantizer=quantizer)


def load_peak(size: str, file: Path, kind: str) -> float:
    """Peak anonymous memory of loading in MiB, in addition to that of the process before."""
    if kind != "none":
        quantize(torch.randn(64, 256), kind)  # excludes imports and one-time buffers
    before = peak = status_mib("RssAnon")
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, status_mib("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    network = load(size, file, kind)
    done.set()
    thread.join()
    del network
    return peak - before


def predict(network: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(LATENTS, generator=generator)
    text = torch.randn(1, 256, 3584, generator=generator)
    return network(sample, torch.tensor([700.0]), text)


def errors(found: Tensor, wanted: Tensor) -> dict[str, float]:
    return {
        "cosine": float(F.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)),
        "relative_rms": float((found - wanted).norm() / wanted.norm()),
    }


def measure(size: str, file: Path, repeats: int, threads: int) -> dict[str, dict[str, float]]:
    """Results by kind; the calls of all kinds alternate."""
    loras = LoraSet.read([Lora(_lora_of(file))], matrix_shapes(read_tensor_files(file)))
    networks = {kind: load(size, file, kind) for kind in QUANTIZATIONS}

    def with_lora(kind: str) -> Tensor:
        with attached(networks[kind], loras, device=torch.device("cpu"), dtype=torch.float32):
            return predict(networks[kind])

    calls: dict[str, Callable[[], Tensor]] = {}
    for kind in QUANTIZATIONS:
        calls[kind] = partial(predict, networks[kind])
        calls[f"{kind} with LoRA"] = partial(with_lora, kind)
    seconds = compare(calls, repeats)
    outputs = {name: call() for name, call in calls.items()}
    rows: dict[str, dict[str, float]] = {}
    for kind in QUANTIZATIONS:
        peak = in_subprocess(__file__, size, str(file), kind, threads=threads)
        for name, plain in ((kind, "none"), (f"{kind} with LoRA", "none with LoRA")):
            row = {"mib": stored_bytes(networks[kind]) / 2**20, "load_peak_mib": peak}
            row |= {"seconds": seconds[name], "time_ratio": seconds[name] / seconds["none"]}
            row |= errors(outputs[name], outputs[plain])
            rows[name] = row
            print(
                f"{size:6} {name:17} {row['mib']:6.1f} MiB, load peak {peak:6.1f} MiB, "
                f"{row['seconds']:.3f} s (ratio {row['time_ratio']:.2f}), cosine "
                f"{row['cosine']:.5f}, relative RMS {row['relative_rms']:.4f}",
                flush=True,
            )
    return rows


def main() -> None:
    arguments = parser(__doc__).parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        if arguments.measure:
            size, file, kind = arguments.measure
            print(load_peak(size, Path(file), kind))
            return
        results = {}
        with tempfile.TemporaryDirectory() as folder:
            for size in SIZES:
                file = Path(folder) / f"{size}.safetensors"
                write(size, file)
                results[size] = measure(size, file, arguments.repeats, arguments.threads)
    save(arguments.json, arguments, results)


if __name__ == "__main__":
    main()
