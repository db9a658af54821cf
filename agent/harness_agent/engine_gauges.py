"""Samples an engine's own gauges while its queries are on: KV-cache use, requests running and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
from harness_backends.engines.adapter import EnginePlan
from harness_backends.engines.prometheus import parse_gauges

EVERY_S = 1.0
"""An answer of vLLM's /metrics takes it about 3 ms: 0.3 % of one core, seldom enough not to be measured along."""
TIMEOUT_S = 2.0


class EngineGauges:
    """Keeps mean and maximum of each gauge; they become facts of the run, NAME_avg and NAME_max."""

    def __init__(self, plan: EnginePlan) -> None:
        self._url = plan.metrics_url
        self._names: Mapping[str, str] = plan.gauges
        # llama.cpp asks for the run's key here too.
        self._headers = dict(plan.headers)
        self._values: dict[str, list[float]] = {}

    async def sample(self) -> None:
        """Sample until cancelled; returns at once where the engine has no gauges."""
        if not self._url or not self._names:
            return
        # Loopback without TLS: reading the system's certificates would hold up the first queries by 50 ms.
        async with httpx.AsyncClient(
            trust_env=False,
            timeout=TIMEOUT_S,
            headers=self._headers,
            verify=False,  # noqa: S501
        ) as client:
            while True:
                await asyncio.sleep(EVERY_S)
                try:
                    self._take((await client.get(self._url)).text)
                except httpx.HTTPError:
                    continue  # a busy engine answers next time

    def facts(self) -> dict[str, str]:
        """Return what was seen; a gauge that was never seen is absent."""
        found: dict[str, str] = {}
        for name, values in self._values.items():
            found[f"{name}_avg"] = f"{sum(values) / len(values):.6g}"
            found[f"{name}_max"] = f"{max(values):.6g}"
        return found

    def _take(self, text: str) -> None:
        for metric, value in parse_gauges(text, self._names).items():
            self._values.setdefault(self._names[metric], []).append(value)
