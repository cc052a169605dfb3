"""The denoiser against the original implementation, for every head and both versions."""

from easyanimate_core.models.specs import TransformerConfig
from easyanimate_core.models.transformer import EasyAnimateTransformer3DModel

TOLERANCE = 2e-5


def test_transformer(parity, transformer_file, assert_close):
    fixture = parity.read(transformer_file)
    config = TransformerConfig.from_dict(fixture.meta["config"])
    model = EasyAnimateTransformer3DModel(config, device="meta")
    model.load_state_dict(fixture.weights(), strict=True, assign=True)
    inputs = fixture.group("inputs")
    sample = model(
        inputs["sample"],
        inputs["timestep"],
        inputs["text"],
        text_t5=inputs.get("text_t5"),
        condition=inputs.get("extra"),
    )
    assert_close(sample, fixture.group("outputs")["sample"], TOLERANCE, transformer_file)
    cos, sin = (part.repeat_interleave(2, dim=1) for part in model.rotary_table(inputs["sample"]))
    assert_close(cos, inputs["rope_cos"], 1e-6, "rotary cosines")
    assert_close(sin, inputs["rope_sin"], 1e-6, "rotary sines")
