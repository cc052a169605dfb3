"""Converts checkpoints and their components between formats, layouts and dtypes."""

from .fidelity import Fidelity, LayerError, ProbeResult
from .options import DTYPES, PARTS, Conversion
from .probe import PROBES, probe
from .report import summary, write_report
from .run import convert
from .source import Source, describe_file, open_source

__all__ = [
    "DTYPES",
    "PARTS",
    "PROBES",
    "Conversion",
    "Fidelity",
    "LayerError",
    "ProbeResult",
    "Source",
    "convert",
    "describe_file",
    "open_source",
    "probe",
    "summary",
    "write_report",
]
