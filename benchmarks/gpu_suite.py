"""What is to be known of a card, in one run: parity, seconds per step, memory, streaming.

    python benchmarks/gpu_suite.py [--json results.json] [--minutes 7.5] [--repeats 3]

On a card: the 7B and the 12B with random weights made there, 384 x 672 x 49 with guidance, in
bfloat16, within nine minutes. On a CPU, a tiny model goes the same ways. What fails, is not
installed or would start too late is noted, and the rest is measured; the file is written after
every part.

`bound` is the time of the step's products and attention alone, at the speeds measured in the same
run. `hidden` is the share of the transfer's time that a streamed step does not wait for.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measure import compare, parser, save
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from easyanimate_core.doctor import runs
from easyanimate_core.doctor.parity import relative_error, tolerance
from easyanimate_core.doctor.recordings import RECORDINGS, read_recording
from easyanimate_core.errors import InputError
from easyanimate_core.memory.devices import card_of
from easyanimate_core.memory.offload import placed, streamed
from easyanimate_core.memory.options import ATTENTIONS, Memory
from easyanimate_core.memory.plan import Job, ModelFacts, facts_of, published_facts
from easyanimate_core.memory.plan.activations import TEXT_TOKENS
from easyanimate_core.memory.plan.estimate import CONTEXT_BYTES, estimate
from easyanimate_core.memory.plan.work import step_work
from easyanimate_core.models.specs import Head, TransformerConfig, Version
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel
from easyanimate_core.models.transformer.choice import attention_of
from easyanimate_core.models.transformer.compiled import check_compiles, compiled
from easyanimate_core.models.transformer.kernel import scaled_dot_product
from easyanimate_core.models.vae import AutoencoderKLMagvit
from easyanimate_core.tiny.checkpoint import make_tiny
from easyanimate_core.weights.files import inspect_checkpoint
from easyanimate_core.weights.files.key_maps_transformer import to_diffusers
from easyanimate_core.weights.loading import load_network
from easyanimate_core.weights.stored import Quantizer

ROOT = Path(__file__).parents[1]
GUIDED, DTYPE = 2, torch.bfloat16
KINDS = ("qfloat8", "qint8")
#: Blocks of the streamed denoiser: as many as show the overlap.
STREAMED = 8
ON_CARD, ON_CPU = Job(384, 672, 49, encodes=False), Job(32, 32, 5, encodes=False)
Row = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """Where and what to measure."""

    device: torch.device
    models: Mapping[str, ModelFacts]
    job: Job
    repeats: int

    def parts(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Every part by name, in the order of their worth."""
        for name, facts in self.models.items():
            yield f"bound {name}", lambda facts=facts: bound(self, facts)
            yield f"step {name}", lambda facts=facts: steps(self, facts)
        last = list(self.models.values())[-1]
        yield "parity", lambda: parity(self)
        yield "streaming", lambda: streaming(self, last)
        yield "vae", lambda: vae(self, last)
        for name, facts in self.models.items():
            yield f"compiled {name}", lambda facts=facts: compiled_steps(self, facts)

    def seconds(self, calls: dict[str, Callable[[], Any]]) -> dict[str, Row]:
        """Seconds of each call, alternating, and its peak memory in bytes on the card."""
        peaks: dict[str, int | None] = {}

        def finished(name: str, call: Callable[[], Any]) -> Callable[[], None]:
            def run() -> None:
                if self.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                call()
                peaks[name] = self.wait()

            return run

        found = compare({name: finished(name, call) for name, call in calls.items()}, self.repeats)
        return {name: {"seconds": found[name], "peak_bytes": peaks[name]} for name in calls}

    def wait(self) -> int | None:
        """Wait for the card; its peak memory, None on a CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()


def suite_of(device: torch.device, repeats: int, folder: Path) -> Suite:
    """The published models on a card, a tiny one (made in `folder`) elsewhere."""
    if device.type == "cuda":
        models = {size: published_facts(Version.V5_1, size, Head.T2V) for size in ("7B", "12B")}
        return Suite(device, models, ON_CARD, repeats)
    tiny = make_tiny(folder / "tiny", version=Version.V5_1, head=Head.T2V)
    return Suite(device, {"tiny": facts_of(inspect_checkpoint(tiny))}, ON_CPU, repeats)


def random_weights(build: Callable[[], nn.Module], device: torch.device) -> dict[str, torch.Tensor]:
    """Weights of a network, made on the device: norms are ones, biases zeros."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    generator = torch.Generator(device).manual_seed(0)
    made = {}
    for name, shape in shapes.items():
        made[name] = torch.zeros(shape, dtype=DTYPE, device=device)
        if len(shape) > 1:
            made[name].normal_(0, 0.02, generator=generator)
        elif name.endswith(".weight"):
            made[name].fill_(1)
    return made


def denoiser_of(config: TransformerConfig, device: torch.device, **given: Any) -> Any:
    """The denoiser with random weights; `given` is for `load_network`."""

    def build() -> EasyAnimateTransformer3DModel:
        return EasyAnimateTransformer3DModel(config)

    weights = random_weights(build, device)
    return load_network(build, weights, what="denoiser", device=device, **given)


def inputs_of(suite: Suite, config: TransformerConfig) -> tuple[torch.Tensor, ...]:
    """Latents, timesteps and text of a step with guidance."""
    shape = (GUIDED, config.out_channels, *suite.job.latents)
    latents = torch.randn(shape, device=suite.device).to(DTYPE)
    text = torch.randn(GUIDED, TEXT_TOKENS, config.text_embed_dim, device=suite.device)
    return latents, torch.full((GUIDED,), 700.0, device=suite.device), text.to(DTYPE)


def tokens_of(suite: Suite, config: TransformerConfig) -> int:
    frames, height, width = suite.job.latents
    return frames * (height // config.patch_size) * (width // config.patch_size) + TEXT_TOKENS


def bound(suite: Suite, facts: ModelFacts) -> Row:
    """The measured speeds of products and of attention, and what a step takes at them."""
    config = facts.transformer
    tokens, dim = tokens_of(suite, config), config.inner_dim
    heads = (GUIDED, config.num_attention_heads, tokens, config.attention_head_dim)
    q, k, v = torch.randn(3, *heads, device=suite.device).to(DTYPE)
    left = torch.randn(GUIDED * tokens, dim, device=suite.device).to(DTYPE)
    right = torch.randn(dim, 4 * dim, device=suite.device).to(DTYPE)
    kernels, notes = attentions(suite)
    calls: dict[str, Callable[[], Any]] = {"product": lambda: left @ right}
    calls |= {name: lambda kernel=kernel: kernel(q, k, v) for name, kernel in kernels.items()}
    found = suite.seconds(calls)
    seconds = {name: row["seconds"] for name, row in found.items()}
    product_flop, attention_flop = 2 * left.numel() * 4 * dim, 4 * q.numel() * tokens
    quickest = min(kernels, key=lambda name: seconds[name])
    attending = config.num_layers * attention_flop
    whole = step_work(config, suite.job.latents, GUIDED, DTYPE).flop
    speed = product_flop / seconds["product"]
    return {
        "product_tflops": speed / 1e12,
        "attention_tflops": {n: attention_flop / seconds[n] / 1e12 for n in kernels},
        "step_tflop": {"products": (whole - attending) / 1e12, "attention": attending / 1e12},
        "bound_seconds": (whole - attending) / speed + config.num_layers * seconds[quickest],
        "notes": notes,
    }


def attentions(suite: Suite) -> tuple[dict[str, Any], Row]:
    """The kernels that run here by name, and why the others do not."""
    kernels: dict[str, Any] = {"pytorch": scaled_dot_product}
    notes = {}
    for name in ATTENTIONS:
        try:
            kernel = attention_of(name, suite.device, DTYPE, card_of(suite.device).capability)
        except InputError as error:
            notes[name] = str(error)
            continue
        if kernel is scaled_dot_product:
            notes[name] = "PyTorch's choice"
        else:
            kernels[name] = kernel
    return kernels, notes


def steps(suite: Suite, facts: ModelFacts) -> Row:
    """Every attention and quantisation, and diffusers' class on the same weights."""
    config = facts.transformer
    network, given = denoiser_of(config, suite.device), inputs_of(suite, config)
    kernels, notes = attentions(suite)
    calls: dict[str, Callable[[], Any]] = {
        f"attention {name}": lambda kernel=kernel: network(*given, attention=kernel)
        for name, kernel in kernels.items()
    }
    try:
        peer = peer_of(config, network)
    except ImportError as error:
        notes["diffusers"] = f"not installed ({error})"
    else:
        latents, times, text = given
        calls["diffusers"] = lambda: peer(latents, times, encoder_hidden_states=text).sample
    rows = suite.seconds(calls)
    if "diffusers" in calls:
        rows["diffusers"]["difference"] = relative_error(
            calls["attention pytorch"]().float(), calls["diffusers"]().float().cpu()
        )
        del peer
    calls.clear()
    for kind in KINDS:
        eight = load_network(
            lambda: EasyAnimateTransformer3DModel(config), network.state_dict(), what="denoiser",
            device=suite.device, quantizer=Quantizer(kind),
        )  # fmt: skip
        rows |= suite.seconds({kind: lambda eight=eight: eight(*given)})
    return {**rows, "planned_bytes": planned(suite, facts), "notes": notes}


def peer_of(config: TransformerConfig, network: nn.Module) -> Any:
    """Diffusers' class with the tensors of `network`; `ImportError` if it is not installed."""
    from diffusers import EasyAnimateTransformer3DModel as Peer

    known = inspect.signature(Peer).parameters
    own = {name: value for name, value in vars(config).items() if name in known}
    with torch.device("meta"):
        peer = Peer(**own)
    weights = {to_diffusers(name): tensor for name, tensor in network.state_dict().items()}
    peer.load_state_dict(weights, assign=True)
    return peer.eval()


def planned(suite: Suite, facts: ModelFacts) -> dict[str, int]:
    """What the plan counts on for each stage, without the context that PyTorch does not count."""
    found = estimate(facts, suite.job, Memory(), compute=DTYPE, on_card=True)
    return {stage.name: found.card_bytes(stage) - CONTEXT_BYTES for stage in found.stages}


def compiled_steps(suite: Suite, facts: ModelFacts) -> Row:
    """Blocks compiled (on a CPU without the slow compiler), and as they are."""
    on_cpu = suite.device.type == "cpu"
    if not on_cpu:
        check_compiles(suite.device)
    config = facts.transformer
    network, given = denoiser_of(config, suite.device), inputs_of(suite, config)
    with compiled(network.transformer_blocks, backend="eager" if on_cpu else "inductor"):
        began = time.perf_counter()
        network(*given)
        suite.wait()
        first = time.perf_counter() - began
        rows = suite.seconds({"compiled": lambda: network(*given)})
    rows |= suite.seconds({"eager": lambda: network(*given)})
    return {**rows, "first_call_seconds": first}


def parity(suite: Suite) -> Row:
    """The largest relative error of every recording of the original, and what is allowed."""
    rows: Row = {}
    for root in (RECORDINGS, ROOT / "tests" / "parity" / "data"):
        for kind, compute in (("transformer", runs.denoiser), ("vae", runs.vae)):
            for file in sorted((root / kind).glob("*.safetensors")):
                for dtype in (torch.float32, DTYPE):
                    way = runs.Compute(suite.device, dtype, dtype)
                    pairs = compute(read_recording(file), way)
                    worst = max(relative_error(pair.found, pair.recorded) for pair in pairs)
                    limit = tolerance(dtype, suite.device)
                    row = {"error": worst, "allowed": limit, "holds": worst <= limit}
                    rows[f"{kind}/{file.stem} {dtype}"] = row
    return rows


def streaming(suite: Suite, facts: ModelFacts) -> Row:
    """Some blocks, on the card and streamed."""
    layers = min(STREAMED, facts.transformer.num_layers)
    config = replace(facts.transformer, num_layers=layers)
    network, given = denoiser_of(config, torch.device("cpu")), inputs_of(suite, config)
    rows = {}
    for name, how, lockable, staying in (
        ("on the card", "module", 0, 0),
        ("streamed", "block", 2**40, 0),
        ("streamed, packed anew", "block", 0, 0),
        ("half streamed", "block", 2**40, layers // 2),
    ):
        with placed(network, suite.device, how, resident_blocks=staying, lockable=lockable):
            rows |= suite.seconds({name: lambda: network(*given)})
    blocks = list(network.transformer_blocks)
    for block in blocks:
        block.forward = lambda: None
    with streamed(blocks, suite.device, lockable=2**40):
        rows |= suite.seconds({"transfer alone": lambda: [block() for block in blocks]})
    transfer = rows["transfer alone"]["seconds"]
    waited = rows["streamed"]["seconds"] - rows["on the card"]["seconds"]
    return {**rows, "hidden": 1 - min(max(waited / transfer, 0.0), 1.0)}


def vae(suite: Suite, facts: ModelFacts) -> Row:
    def build() -> AutoencoderKLMagvit:
        return AutoencoderKLMagvit(facts.vae)

    weights = random_weights(build, suite.device)
    network = load_network(build, weights, what="VAE", device=suite.device)
    job = suite.job
    video = torch.rand(1, 3, job.frames, job.height, job.width, device=suite.device)
    latents = torch.randn(1, facts.transformer.out_channels, *job.latents, device=suite.device)
    calls = {
        "encode": lambda: network.encode(video.to(DTYPE) * 2 - 1).mean,
        "decode": lambda: network.decode(latents.to(DTYPE)),
    }
    encoding = replace(suite, job=replace(job, encodes=True))
    return {**suite.seconds(calls), "planned_bytes": planned(encoding, facts)}


def measured(suite: Suite, arguments: Namespace, began: float) -> Row:
    """Every part that fits into the minutes; saves after each."""
    results: Row = {"device": described(suite.device)}
    for name, run in suite.parts():
        passed = time.monotonic() - began
        if passed > 60 * arguments.minutes:
            results[name] = {"skipped": f"{passed:.0f} s have passed"}
            continue
        try:
            with torch.inference_mode():
                results[name] = run()
        except Exception as error:  # of kernels, compilers and other packages
            results[name] = {"failed": f"{type(error).__name__}: {error}"}
        if suite.device.type == "cuda":
            torch.cuda.empty_cache()
        spent = time.monotonic() - began - passed
        print(f"{name} ({spent:.0f} s): {results[name]}", flush=True)
        save(arguments.json, arguments, results)
    return results


def described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def main() -> None:
    began = time.monotonic()
    options = parser(__doc__)
    options.set_defaults(repeats=3)
    options.add_argument("--minutes", type=float, default=7.5, help="no part starts later")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        suite = suite_of(torch.device(arguments.device), arguments.repeats, Path(folder))
        measured(suite, arguments, began)


if __name__ == "__main__":
    main()
