"""How good a router is: the metrics of the routing papers, each with its source in its docstring."""
