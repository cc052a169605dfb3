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
        info = probe.module("easyanimate_core.checkpoint").inspect_checkpoint(folder)
        masked = info.transformer.enable_text_attention_mask
        for dtype, kind in probe.files.TEXT_DTYPES.items():
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
    text_dtypes()
    whole = probe.run("EasyAnimateLoadCheckpoint", checkpoint=V51, text_dtype="scaled int8")
    found["checkpoint"] = type(whole[1].cond_stage_model).__name__
probe.done()
