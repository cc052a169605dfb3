import json

from easyanimate_core.paths.trajectory import heatmap_frames, tracks_from_json

# One level of a byte: the original resizes bytes with OpenCV, which rounds in fixed point.
TOLERANCE = 1 / 255


def test_heatmap_frames(parity, assert_close):
    fixture = parity.read("trajectory.safetensors")
    tracks = tracks_from_json(json.dumps(fixture.meta["coordinates"]))
    images = heatmap_frames(tracks, height=fixture.meta["height"], width=fixture.meta["width"])
    assert_close(images, fixture.group("outputs")["images"], TOLERANCE, "heat map")
