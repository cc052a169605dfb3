"""Python imports this as it starts: what the tests start sees the same system as they do."""

import importlib.util
from pathlib import Path

file = Path(__file__).parents[1] / "windows.py"
spec = importlib.util.spec_from_file_location("emulated_windows", file)
windows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(windows)
windows.install_from_environment()
