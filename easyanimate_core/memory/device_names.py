"""The values of `--device` and `--dtype`, for help texts and error messages."""

DEVICE_NAMES = "auto, cpu, cuda, cuda:N, xpu, xpu:N or mps"
DTYPE_NAMES = "auto, float32, bfloat16 or float16"
