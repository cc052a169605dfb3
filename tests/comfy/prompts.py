"""Prompts in ComfyUI's API format."""

V51, V5 = "EasyAnimateV5.1-7b-zh", "EasyAnimateV5-7b-zh"
LORA = "EasyAnimateV5.1-tiny-lora.safetensors"


def text_to_video(
    checkpoint=V51, *, seed=43, steps=4, frames=9, side=64, lora=None, ksampler=False
):
    """Text to saved latents and PNG frames; `lora` is a strength."""
    model = ["load", 0]
    prompt = {
        "load": node(
            "EasyAnimateLoadCheckpoint",
            checkpoint=checkpoint,
            weight_dtype="default",
            text_device="default",
        ),
        "text": node(
            "EasyAnimateTextEncode", clip=["load", 1], positive="a red fox", negative="bad"
        ),
        "latent": node(
            "EasyAnimateEmptyLatentVideo", width=side, height=side, length=frames, batch_size=1
        ),
        "decode": node("EasyAnimateDecode", vae=["load", 2], samples=["sample", 0], tiles="auto"),
        "frames": node("SaveImage", images=["decode", 0], filename_prefix="frames"),
        "latents": node("SaveLatent", samples=["sample", 0], filename_prefix="latents"),
    }
    if lora is not None:
        prompt["lora"] = node(
            "EasyAnimateLoadLora", model=model, lora=LORA, strength=lora, allow_partial=False
        )
        model = ["lora", 0]
    common = {
        "model": model,
        "positive": ["text", 0],
        "negative": ["text", 1],
        "latent_image": ["latent", 0],
        "seed": seed,
        "steps": steps,
        "cfg": 6.0,
        "denoise": 1.0,
    }
    if ksampler:
        prompt["sample"] = node("KSampler", sampler_name="euler", scheduler="normal", **common)
    else:
        own = {"scheduler": "auto", "guidance_rescale": 0.0, "step_cache": 0.0}
        prompt["sample"] = node("EasyAnimateSampler", **common, **own)
    return prompt


def node(class_type, **inputs):
    """One node of a prompt."""
    return {"class_type": class_type, "inputs": inputs}
