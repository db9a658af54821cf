"""Environment that limits an engine to the devices it was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness_backends.engines.adapter import EngineDevice

PCI_ROOT = Path("/sys/bus/pci/devices")


def device_environment(devices: Sequence[EngineDevice], pci_root: Path = PCI_ROOT) -> dict[str, str]:
    """Return the variables that make only these devices visible; without devices, hide every GPU.

    NVIDIA takes UUIDs in CUDA_VISIBLE_DEVICES, ROCm takes them in ROCR_VISIBLE_DEVICES. HIP then numbers the GPUs that
    are left from 0; HIP_VISIBLE_DEVICES takes no UUIDs (ROCm documentation, "GPU isolation techniques"). Apple has one
    GPU.
    """
    nvidia = [device.device_id for device in devices if device.vendor == "nvidia"]
    amd = [_rocr_name(device, pci_root) for device in devices if device.vendor == "amd"]
    environment = {
        # CUDA's own order differs from NVML's; by UUID the devices measured are the devices used.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(nvidia),
        "ROCR_VISIBLE_DEVICES": ",".join(amd),
    }
    if amd:
        # ROCm builds read both as HIP's own list; what the agent's environment says would hide GPUs a second time.
        every = ",".join(str(number) for number in range(len(amd)))
        environment["CUDA_VISIBLE_DEVICES"] = environment["HIP_VISIBLE_DEVICES"] = every
    return environment


def _rocr_name(device: EngineDevice, pci_root: Path) -> str:
    """Return a GPU's name in ROCm's runtime: `GPU-` and the kernel's unique id, not the UUID that AMD SMI makes.

    Source: ROCR-Runtime, amd_gpu_agent.cpp, HSA_AMD_AGENT_INFO_UUID.
    """
    try:
        unique = (
            (pci_root / device.pci / "unique_id").read_text(encoding="ascii").strip() if device.pci else ""
        )
    except (OSError, UnicodeDecodeError):
        unique = ""
    return f"GPU-{int(unique, 16):016x}" if unique and int(unique, 16) else device.device_id
