"""Devices and their abilities, memory plans, and offloading of weights."""
