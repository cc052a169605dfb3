"""Captioned clips of coloured shapes in which everything is known exactly, made without files."""
