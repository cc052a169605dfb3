"""EasyCache inside context windows: each window has a memory of its own.

EasyCache compares each call of the denoiser with the one before it. With context windows, that was
another part of the video, of another length with `causal_window_fix`: comparing them fails, and a
skipped window would repeat the change of its neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

KEY = "easycache"


class WindowCaches:
    """The EasyCaches of a denoiser's context windows: one per run and window."""

    def __init__(self) -> None:
        #: By the EasyCache of a run, which ends with it, and by the window's frames.
        self._of_runs: WeakKeyDictionary[Any, dict[tuple[int, ...], Any]] = WeakKeyDictionary()

    @contextmanager
    def of_window(self, options: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Options for one call of the denoiser, with the EasyCache of its context window."""
        cache, window = options.get(KEY), options.get("context_window")
        if window is None or not hasattr(cache, "uuid_cache_diffs"):  # LazyCache sees whole videos
            yield options
            return
        caches = self._of_runs.setdefault(cache, {})
        frames = tuple(window.index_list)
        own = caches.get(frames)
        if own is None:
            own = caches[frames] = cache.clone()
            own.start_t, own.end_t = cache.start_t, cache.end_t
            own.output_change_rates = cache.output_change_rates  # of all windows, for the log
            own.approx_output_change_rates = cache.approx_output_change_rates
        # ComfyUI clears this before the prompts of each window.
        own.skip_current_step = cache.skip_current_step
        yield {**options, KEY: own}
        cache.skip_current_step = own.skip_current_step
        skipped = [each.total_steps_skipped for each in caches.values()]
        cache.total_steps_skipped = sum(skipped) // len(skipped)
