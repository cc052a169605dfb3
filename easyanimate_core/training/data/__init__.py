"""Training data: records, buckets of equal token counts, and caches."""
