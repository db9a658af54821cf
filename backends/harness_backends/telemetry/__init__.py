"""Telemetry: reads power, energy, memory and temperature, one module per vendor."""
