"""Every figure that the README quotes is made here; run one with `python -m benchmarks.NAME`."""
