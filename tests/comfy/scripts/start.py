"""What is imported when the pack is: nothing that only training needs."""

import asyncio
import json
import sys

before = set(sys.modules)
pack = load_pack()  # noqa: F821  (given by the bootstrap)
extension = asyncio.run(pack.comfy_entrypoint())
for node in asyncio.run(extension.get_node_list()):
    node.define_schema()
new = set(sys.modules) - before
heavy = {"accelerate", "pydantic", "matplotlib", "tensorboard"}
found = sorted(new & heavy | {name for name in new if ".training." in name})
bridge = f"{pack.__name__}.nodes.bridge.training"
print("\nFOUND " + json.dumps({"imported": [name for name in found if name != bridge]}))
