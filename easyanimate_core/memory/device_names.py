"""What `--device` and `--dtype` take; help pages and refusals say the same."""

DEVICE_NAMES = "auto, cpu, cuda, cuda:N, xpu, xpu:N or mps"
DTYPE_NAMES = "auto, float32, bfloat16 or float16"
