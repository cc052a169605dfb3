"""The web page without ComfyUI, and its HTTP API: a form over the public API, a queue, a gallery.

`page` and `server` alone know gradio.
"""
