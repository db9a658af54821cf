"""Messages about a run and its queries, built from what happened."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from google.protobuf.json_format import MessageToDict
from harness_backends.engines.adapter import EnginePlan, Sampling
from harness_backends.engines.stream_result import StreamResult
from harness_proto.v1 import fleet_pb2, work_pb2

WARMUP_TASK = "warmup/{run_id}/{number}"


@dataclass(frozen=True, slots=True)
class QueryFailure:
    """Why a query has no counted answer."""

    reason: str
    retryable: bool


def sampling_of(settings: work_pb2.SamplingSettings) -> Sampling:
    """Return the job's sampling settings as engines take them; what is unset is left to the engine."""
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        max_output_tokens=settings.max_output_tokens,
        seed=settings.seed if settings.HasField("seed") else None,
        repetition_penalty=settings.repetition_penalty if settings.HasField("repetition_penalty") else None,
        thinking=settings.thinking if settings.HasField("thinking") else None,
    )


def settings_json(settings: work_pb2.RunSettings, plan: EnginePlan | None) -> str:
    """Return the sampling and engine settings in force, as JSON."""
    model = MessageToDict(settings.model, preserving_proto_field_name=True)
    model.pop("engine_args_json", None)
    return json.dumps(
        {
            "model": model,
            "sampling": asdict(sampling_of(settings.sampling)),
            "engine_args": json.loads(settings.model.engine_args_json or "{}"),
            "engine": dict(plan.settings) if plan is not None else {},
            "concurrency": settings.concurrency,
            "arrivals": MessageToDict(settings.arrivals, preserving_proto_field_name=True),
            "energy": settings.energy,
            "baseline_s": settings.baseline_s,
            "device_ids": list(settings.device_ids),
        },
        default=str,
    )


def to_generation(
    run_id: str, task: work_pb2.Task, result: StreamResult, failure: QueryFailure | None
) -> work_pb2.Generation:
    """Return the message of one query's end.

    Args:
        run_id: its run.
        task: its task.
        result: what the stream client saw.
        failure: why it is no counted answer; None: it succeeded.
    """
    generation = work_pb2.Generation(
        task_id=task.task_id,
        attempt=task.attempt,
        run_id=run_id,
        query_id=task.query.query_id,
        start_ns=result.start_ns,
        end_ns=result.end_ns,
        chunk_ns=result.chunk_ns,
        response=result.text,
        reasoning=result.reasoning,
        finish_reason=result.finish_reason,
    )
    for name in (
        "first_token_ns", "prompt_tokens", "output_tokens", "cached_tokens", "engine_prefill_s", "engine_decode_s",
    ):  # fmt: skip
        value = getattr(result, name)
        if value is not None:
            setattr(generation, name, value)
    if failure is not None:
        generation.error, generation.retryable = failure.reason, failure.retryable
    return generation


def warmup_task(run_id: str, number: int, query: work_pb2.Query) -> work_pb2.Task:
    """Return a task for a warm-up query, numbered from 0, which no coordinator has leased."""
    return work_pb2.Task(task_id=WARMUP_TASK.format(run_id=run_id, number=number), attempt=1, query=query)


def task_update(
    run_id: str,
    task: work_pb2.Task,
    state: fleet_pb2.TaskUpdate.State,
    reason: str = "",
    *,
    retryable: bool = False,
) -> fleet_pb2.TaskUpdate:
    """Return the message of a task's change."""
    return fleet_pb2.TaskUpdate(
        task_id=task.task_id,
        attempt=task.attempt,
        run_id=run_id,
        state=state,
        reason=reason,
        retryable=retryable,
    )
