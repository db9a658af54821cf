"""Unit files for the service managers, as templates."""
