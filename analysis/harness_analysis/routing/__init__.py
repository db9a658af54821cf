"""Which model should answer a query: routers behind one protocol, and what choosing by them would have cost."""

from harness_analysis.routing.router import Queries, Router

__all__ = ["Queries", "Router"]
