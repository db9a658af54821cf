"""What this host is, for the coordinator's records."""

from __future__ import annotations

import platform
import socket
import sys

from harness_backends.telemetry.host import cpu_facts
from harness_proto.v1 import telemetry_pb2


def host_info() -> telemetry_pb2.HostInfo:
    """Return names, versions and sizes of this host."""
    facts = cpu_facts()
    return telemetry_pb2.HostInfo(
        hostname=socket.gethostname(),
        os_name="macOS" if sys.platform == "darwin" else platform.system(),
        os_version=_os_version(),
        kernel_version=platform.release(),
        cpu_brand=facts.model_name,
        cpu_count=facts.logical_cpus,
        memory_total_bytes=facts.memory_total_bytes,
        python_version=platform.python_version(),
    )


def _os_version() -> str:
    if sys.platform == "darwin":
        return platform.mac_ver()[0]
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""
