"""Rotary tables of real video sizes against the original's."""

from easyanimate_core.models.transformer import rotary_table

TOLERANCE = 1e-6


def test_rope(parity, assert_close):
    fixture = parity.read("rope.safetensors")
    outputs = fixture.group("outputs")
    assert fixture.meta["sizes"]
    for height, width, frames in fixture.meta["sizes"]:
        name = f"{height}x{width}x{frames}"
        tables = rotary_table(fixture.meta["head_dim"], (frames, height // 16, width // 16))
        rows = outputs[f"{name}.rows"]
        for part, table in zip(("cos", "sin"), tables, strict=True):
            doubled = table.repeat_interleave(2, dim=1)
            assert list(doubled.shape) == outputs[f"{name}.shape"].tolist()
            assert_close(doubled[rows], outputs[f"{name}.{part}"], TOLERANCE, f"{name} {part}")
