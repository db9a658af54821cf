"""Judging answers: judges behind an endpoint or on the fleet, tests in a sandbox, agreement, blind samples."""
