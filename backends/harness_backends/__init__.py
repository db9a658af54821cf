"""What a machine can measure (`telemetry`) and what it can run (`engines`), one module per vendor or engine."""
