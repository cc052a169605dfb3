"""EasyAnimate V5 and V5.1 in plain PyTorch: a checkpoint folder and a prompt in, a video out."""

__version__ = "0.1.0"
