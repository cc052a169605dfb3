"""LoRA strengths by block, and text encoders in int8 and fp8."""

import sys
from pathlib import Path

import comfy.model_management
import torch
from safetensors.torch import load_file, save_file

sys.path.append(str(Path(__file__).parent))
from probing import Probe, empty, encode, gap, ksampler

V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
LORA = "EasyAnimateV5.1-tiny-lora.safetensors"

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
text_bridge = probe.module("nodes.bridge.text")


def block_strengths(model, texts):
    """The node's factors against a LoRA file whose matrices have them already."""
    file = probe.paths.find_file("loras", LORA)
    tensors = load_file(file)
    for key, tensor in tensors.items():
        if key.endswith("lora_up.weight"):
            factor = 0.5 if "transformer_blocks_0_" in key else 0.0
            tensors[key] = tensor * factor
    save_file(tensors, file.parent / "scaled.safetensors")

    def result(lora, blocks=""):
        patched, report = probe.run(
            "EasyAnimateLoadLora", model=model, lora=lora, strength=0.8, block_strengths=blocks
        )
        return ksampler(patched, texts, empty()), report

    plain = ksampler(model, texts, empty())
    by_node, report = result(LORA, "0=0.5, 1-2=0")
    found["blocks"] = [gap(by_node, result("scaled.safetensors")[0]), gap(by_node, plain)]
    found["report"] = report
    found["off"] = gap(result(LORA, "0-2=0")[0], plain)
    found["whole"] = gap(result(LORA, "0-2=1")[0], result(LORA)[0])
    for case, blocks in (("grammar", "0-1"), ("missing", "0-3=1")):
        found[f"error {case}"] = probe.error(lambda blocks=blocks: result(LORA, blocks))


def kinds(model, texts):
    """What ComfyUI makes of a LoRA, against the core's reader and what it merges."""
    core = probe.module("easyanimate_core.weights.lora")
    folder = probe.paths.find_checkpoint(V51)
    files = (
        probe.module("easyanimate_core.weights.files").inspect_checkpoint(folder).transformer_files
    )
    plain = ksampler(model, texts, empty())
    loras = probe.paths.find_file("loras", LORA).parent
    for name, (tensors, metadata) in lora_kinds().items():
        save_file(tensors, loras / f"{name}.safetensors", metadata)
        file = {"lora": f"{name}.safetensors", "strength": 1.0, "allow_partial": False}
        error = probe.error(lambda file=file: probe.run("EasyAnimateLoadLora", model=model, **file))
        if error is not None:
            found[f"kind {name}"] = {"error": error}
            continue
        patched, report = probe.run("EasyAnimateLoadLora", model=model, **file)
        merged = Path(loras.parent) / "diffusion_models" / f"{name}.safetensors"
        merged.unlink(missing_ok=True)
        core.merge_loras(files, [core.Lora(loras / f"{name}.safetensors")], merged)
        by_core = probe.run("EasyAnimateLoadDiffusionModel", diffusion_model=merged.name)[0]
        by_node, by_core = (ksampler(m, texts, empty()) for m in (patched, by_core))
        found[f"kind {name}"] = {
            "report": report,
            "patches": len(patched.patches),
            "to core": relative(by_node, by_core),
            "to plain": relative(by_node, plain),
        }


def lora_kinds():
    """Files of several kinds for one layer of 32 features: tensors and metadata."""
    layer = "transformer_blocks.0.attn1.to_q."
    flat = "lora_unet_transformer_blocks_0_attn1_to_q."

    def random(*shape, seed=0):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 2

    down, up = random(4, 32), random(32, 4, seed=1)
    peft = {f"transformer.{layer}lora_A.weight": down, f"transformer.{layer}lora_B.weight": up}
    broken = {name: tensor.clone() for name, tensor in peft.items()}
    broken[f"transformer.{layer}lora_B.weight"][3, 1] = float("nan")
    old = {f"{layer[:-5]}processor.to_q_lora.down.weight": down,
           f"{layer[:-5]}processor.to_q_lora.up.weight": up}  # fmt: skip
    dora = peft | {f"transformer.{layer}lora_magnitude_vector": random(32, seed=2).abs() + 1}
    loha = {f"{flat}hada_w{n}_{p}": random(*((32, 4) if p == "a" else (4, 32)), seed=n)
            for n in (1, 2) for p in "ab"}  # fmt: skip
    lokr = {f"{flat}lokr_w1": random(4, 8), f"{flat}lokr_w2": random(8, 4, seed=1)}
    bias = peft | {f"transformer.{layer}diff_b": random(32, seed=3)}
    odd = peft | {f"transformer.{layer}oft_blocks": random(4, 4, 4)}
    return {
        "alpha": (peft, {"transformer.lora_alpha": "16", "transformer.r": "4"}),
        "old": (old, None), "dora": (dora, None), "loha": (loha, None), "lokr": (lokr, None),
        "bias": (bias, None), "broken": (broken, None), "odd": (odd, None),
    }  # fmt: skip


def states_of(clip, text):
    ((states, extra),) = encode(clip, text)[0]
    t5 = extra.get(probe.module("nodes.bridge.shown").TEXT_T5)
    return [states] if t5 is None else [states, t5]


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


def text_dtypes():
    """Errors against the core's plain states, sizes, and the same bits from a streamed encoder."""
    core = probe.module("easyanimate_core.text")
    for name in (V51, V5):
        plain = probe.load(name).clip
        folder = probe.paths.find_checkpoint(name)
        info = probe.module("easyanimate_core.weights.files").inspect_checkpoint(folder)
        masked = info.transformer.enable_text_attention_mask
        for dtype, kind in probe.loaders.TEXT_DTYPES.items():
            clip = probe.run("EasyAnimateLoadTextEncoder", text_encoder=name, text_dtype=dtype)[0]
            states = states_of(clip, "a red fox runs")
            mine = core.build_text_encoder(
                folder,
                info.version,
                use_attention_mask=masked,
                dtype=torch.float32,
                quantization=kind,
            ).encode(["a red fox runs"])
            wanted = [mine.text] if mine.text_t5 is None else [mine.text, mine.text_t5]
            network = clip.cond_stage_model
            layers = [m for m in network.modules() if isinstance(m, text_bridge._ScaledLinear)]
            found[f"text {name} {dtype}"] = {
                "error": max(map(relative, states, states_of(plain, "a red fox runs"))),
                "to core": max(map(relative, states, wanted)),
                "layers": len(layers),
                "bytes": sorted({m.weight.dtype.itemsize for m in layers}),
            }
            if layers:
                half = comfy.model_management.module_size(network) // 2
                clip.patcher.load(torch.device("cpu"), lowvram_model_memory=half)
                streamed = network.encode_token_weights({text_bridge.PROMPTS: ["a red fox runs"]})
                found[f"streamed {name} {dtype}"] = bool(torch.equal(streamed[0], states[0]))
                clip.patcher.detach()


with torch.inference_mode():
    loaded = probe.load(V51)
    texts = encode(loaded.clip, "a red fox runs", "blurred")
    block_strengths(loaded.model, texts)
    kinds(loaded.model, texts)
    text_dtypes()
    whole = probe.run("EasyAnimateLoadCheckpoint", checkpoint=V51, text_dtype="scaled int8")
    found["checkpoint"] = type(whole[1].cond_stage_model).__name__
probe.done()
