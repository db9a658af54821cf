"""Real queries made into datasets: read, mapped, cleaned, split and described, without any server."""
