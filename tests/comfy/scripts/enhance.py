"""Long prompts from EasyAnimate Enhance Prompt: `enhance.py`."""

import sys
from pathlib import Path

import comfy.model_management
import folder_paths
import torch
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parent))
from probing import Probe

V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
NODE = "EasyAnimateEnhancePrompt"
SHORT = {"prompt": "A dog runs.", "language": "English", "seed": 7, "max_tokens": 16}

probe = Probe(load_pack())  # noqa: F821  (given by the bootstrap)
found = probe.found
image = torch.rand(3, 60, 90, 3, generator=torch.Generator().manual_seed(0))


def core():
    """The text that the core writes with the same files."""
    text = "easyanimate_core.text"
    enhance, writer = probe.module(f"{text}.enhance"), probe.module(f"{text}.writer")
    weights = probe.module(f"{text}.weights")
    folder = probe.paths.find_checkpoint(V51)
    placement = weights.Placement(torch.float32)
    made = writer.read_writer(folder, sees=False, placement=placement)
    request = enhance.Request(SHORT["prompt"], "en", SHORT["seed"], SHORT["max_tokens"])
    return enhance.enhance_prompt(made, request).text


def write(clip, **changed):
    return probe.run(NODE, clip=clip, **(SHORT | changed))


def several(**changed):
    return [write(clip, seed=seed, **changed)[0] for seed in range(2)]


def whole_file(name, form, without="nothing"):
    """Write a single file with ComfyUI's vocabulary; matrices in `form`, if there is one."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    storage = probe.module("easyanimate_core.weights.stored.storage")
    rounding = probe.module("easyanimate_core.weights.stored.rounding")
    vision = {"depth": 1, "embed_dim": 80, "hidden_size": 128, "num_heads": 1}
    sizes = {
        "hidden_size": 128, "intermediate_size": 64, "num_attention_heads": 1,
        "num_key_value_heads": 1, "num_hidden_layers": 2, "vocab_size": 151936,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, "vision_config": vision,
    }  # fmt: skip
    torch.manual_seed(0)
    network = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict(sizes))
    tensors = {}
    for key, tensor in network.state_dict().items():
        matrix = tensor.ndim == 2 and "layers" in key
        if matrix and form:
            tensors |= storage.as_tensors(key, rounding.to_storage(tensor, form))
        elif without not in key:
            tensors[key] = tensor.bfloat16().clone()
    file = Path(folder_paths.get_folder_paths("text_encoders")[0]) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)


def single_file(name, dtype="default"):
    return probe.run("EasyAnimateLoadTextEncoder", text_encoder=name, text_encoder_2="none",
                     text_device="default", text_dtype=dtype)[0]  # fmt: skip


clips = {
    name: probe.run("EasyAnimateLoadTextEncoder", text_encoder=name, text_encoder_2="none",
                    text_device="default", **more)[0]
    for name, more in ((V51, {}), (V5, {}))
}  # fmt: skip
clip = clips[V51]
before = len(comfy.model_management.current_loaded_models)
found["text"] = write(clip)[0]
found["core"] = core()
found["again"] = write(clip)[0]
found["left loaded"] = len(comfy.model_management.current_loaded_models) - before
found["other seed"] = write(clip, seed=8)[0]
found["no picture"] = several()
found["picture"] = several(image=image)
found["picture again"] = several(image=image)
found["other picture"] = several(image=torch.zeros_like(image))
found["only a picture"] = write(clip, prompt="", image=image)[0]
found["edited"] = write(clip, edited="My own words.")
int8 = probe.run(
    "EasyAnimateLoadTextEncoder", text_encoder=V51, text_encoder_2="none",
    text_device="default", text_dtype="scaled int8",
)[0]  # fmt: skip
found["int8"] = write(int8, image=image)[0]

found["error V5"] = probe.error(lambda: write(clips[V5]))
found["error empty"] = probe.error(lambda: write(clip, prompt=" "))
found["error marks"] = probe.error(lambda: write(clip, prompt="a<|im_end|>b"))
found["error long"] = probe.error(lambda: write(clip, prompt="x y " * 2500))
for size in ((1, 1), (10, 8000)):
    found[f"picture {size[0]} x {size[1]}"] = write(clip, image=torch.zeros(1, *size, 3))[0]

for form in ("fp8", "int8"):
    whole_file(f"{form}.safetensors", form)
    for dtype in ("default", "scaled int8"):
        made = single_file(f"{form}.safetensors", dtype)
        found[f"file {form} {dtype}"] = write(made, image=image)[0]
whole_file("headless.safetensors", None, without="lm_head")
found["error headless"] = probe.error(lambda: write(single_file("headless.safetensors")))

before = len(comfy.model_management.current_loaded_models)
comfy.model_management.interrupt_current_processing()
found["interrupted"] = probe.error(lambda: write(clip))
comfy.model_management.interrupt_current_processing(False)
found["left after interruption"] = len(comfy.model_management.current_loaded_models) - before
probe.done()
