"""Where this pack meets ComfyUI's internals; no other folder imports them."""
