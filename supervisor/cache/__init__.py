"""Response caches: answers that are given again without running the model."""
