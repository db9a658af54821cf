"""The stand-in engine: no model, made-up answers at a set pace, faults on demand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness_backends.engines.adapter import (
    KEY_VARIABLE,
    EngineAvailability,
    EnginePlan,
    EngineRequest,
    request_body,
)
from harness_backends.engines.arguments import Argument, check_arguments

SERVER = Path(__file__).with_name("standin_server.py")
REQUEST_FAULTS = (
    "429", "500", "slow", "stall", "cut", "error-event", "no-usage", "wrong-usage", "crash",
)  # fmt: skip
START_FAULTS = ("exit", "never-ready")

ARGUMENTS = (
    Argument("load_s", float, 0.0, "seconds before it is ready", minimum=0),
    Argument("first_token_s", float, 0.01, "seconds from request to first token", minimum=0),
    Argument("token_s", float, 0.002, "seconds between tokens", minimum=0),
    Argument("tokens", int, 8, "tokens of an answer, limited by max_output_tokens", minimum=1),
    Argument("reasoning_tokens", int, 0, "tokens of reasoning before the answer", minimum=0),
    Argument("reply", str, "", "the answer; default: `word1 word2 ...`"),
    Argument("slots", int, 0, "answers at a time; 0: no limit", minimum=0),
    Argument("burn", bool, False, "keep a core busy while a token is due, so that there is energy to see"),
    Argument("fault", str, "", "what goes wrong with a request", choices=REQUEST_FAULTS),
    Argument("fault_every", int, 1, "every how many requests it goes wrong", minimum=1),
    Argument("fault_s", float, 1.0, "seconds of the fault `slow`, Retry-After of 429", minimum=0),
    Argument("start_fault", str, "", "what goes wrong at the start", choices=START_FAULTS),
    Argument("retries", int, 0, "how often a query is asked again after 429 or 5xx", minimum=0, maximum=20),
)


class StubAdapter:
    """Starts the stand-in server as an engine process: for tests, benchmarks and dry runs."""

    name = "stub"

    def availability(self) -> EngineAvailability:
        """Tell that it is always there."""
        return EngineAvailability(self.name, available=True, version="stand-in")

    def prepare(self, request: EngineRequest) -> EnginePlan:
        """Check the arguments and say how to start the stand-in.

        Raises:
            EngineArgumentError: an engine argument is unknown or wrong.
        """
        arguments = check_arguments(self.name, ARGUMENTS, request.engine_args)
        settings = dict(arguments.values)
        base_url = f"http://127.0.0.1:{request.port}"
        return EnginePlan(
            base_url=f"{base_url}/v1",
            ready_url=f"{base_url}/health",
            metrics_url=f"{base_url}/metrics",
            gauges={"stub:num_requests_running": "running_requests"},
            body=request_body(request.model_id, request.sampling, repetition_field="repetition_penalty"),
            argv=(sys.executable, str(SERVER), json.dumps({"port": request.port, **settings})),
            environment={KEY_VARIABLE: request.key},
            headers={"Authorization": f"Bearer {request.key}"} if request.key else {},
            engine_version="stand-in",
            facts={"stand_in": "true", "note": "a stand-in engine without a model: its answers are made up"},
            settings=settings,
            retries=arguments.integer("retries"),
        )
