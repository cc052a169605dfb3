"""The only modules of this pack that import ComfyUI's internals."""
