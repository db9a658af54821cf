"""A package that stands in for vLLM: same command line, same HTTP, no model."""
