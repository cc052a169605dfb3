"""What is trained on: records, buckets of equal token counts, and the caches."""
