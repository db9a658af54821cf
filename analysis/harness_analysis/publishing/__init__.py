"""A benchmark as a folder that others can check and read: queries, verdicts and telemetry."""
