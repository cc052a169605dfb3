import json

from easyanimate_core.models.geometry import bucket_size


def test_nearest_bucket_is_the_originals(parity):
    cases = json.loads(parity.find("sizes.json").read_text())
    assert cases
    found = [list(bucket_size(*case["source"], case["base"])) for case in cases]
    assert found == [case["size"] for case in cases]
