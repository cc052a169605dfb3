"""Other systems, imitated on Linux, so that what they refuse is shown here."""

import sys

import pytest

#: Of tests under `windows.emulated`.
imitated = pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info < (3, 11),
    reason="Windows is imitated with Linux's /proc and what pathlib calls since Python 3.11",
)
