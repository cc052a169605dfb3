import json

import pytest

from easyanimate_core.models.geometry import bucket_size


def test_nearest_bucket_is_the_originals(parity):
    path = parity.root / "sizes.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    cases = json.loads(path.read_text())
    assert cases
    found = [list(bucket_size(*case["source"], case["base"])) for case in cases]
    assert found == [case["size"] for case in cases]
