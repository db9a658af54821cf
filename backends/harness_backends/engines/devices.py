"""Environment that limits an engine to the devices it was given."""

from __future__ import annotations

from collections.abc import Sequence

from harness_backends.engines.adapter import EngineDevice


def device_environment(devices: Sequence[EngineDevice]) -> dict[str, str]:
    """Return the variables that make only these devices visible; without devices, hide every GPU.

    NVIDIA takes UUIDs in CUDA_VISIBLE_DEVICES, ROCm takes them in ROCR_VISIBLE_DEVICES. Apple has one GPU.
    """
    nvidia = [device.device_id for device in devices if device.vendor == "nvidia"]
    amd = [device.device_id for device in devices if device.vendor == "amd"]
    environment = {
        # CUDA's own order differs from NVML's; by UUID the devices measured are the devices used.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(nvidia),
        "ROCR_VISIBLE_DEVICES": ",".join(amd),
    }
    if amd:
        del environment["CUDA_VISIBLE_DEVICES"]  # ROCm builds read it as HIP's own list
    return environment
