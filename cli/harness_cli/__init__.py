"""The command `harness`: one file per command group, thin: parse, call, print."""
