"""Two GPUs as NVML numbers them, for the translation of UUIDs."""

UUIDS = ["GPU-aa", "GPU-bb", "GPU-cc"]


def nvmlInit() -> None:  # noqa: N802 - NVML's names
    """Do nothing."""


def nvmlDeviceGetHandleByUUID(uuid: str) -> str:  # noqa: N802
    """Return the UUID."""
    return uuid


def nvmlDeviceGetIndex(handle: str) -> int:  # noqa: N802
    """Return NVML's index."""
    return UUIDS.index(handle)
