"""The tables, one file per subject."""

from harness_store.models.base import Base
from harness_store.models.energy import Evaluation, Judgement, Measurement, RunEnergy, TaskHost
from harness_store.models.fleet import Agent, AgentBoot, ClockOffset, Device, Source
from harness_store.models.jobs import Dataset, Embedding, Job, JobModel, Model, Query, Task
from harness_store.models.journal import Event, Meta
from harness_store.models.runs import Baseline, Generation, Run
from harness_store.models.samples import (
    ARROW_ZSTD,
    PACKED,
    SAMPLES_1HZ,
    SampleSecond,
    SampleSegment,
    SampleSeries,
)
from harness_store.models.security import Certificate, JoinToken

__all__ = [
    "ARROW_ZSTD",
    "PACKED",
    "SAMPLES_1HZ",
    "Agent",
    "AgentBoot",
    "Base",
    "Baseline",
    "Certificate",
    "ClockOffset",
    "Dataset",
    "Device",
    "Embedding",
    "Evaluation",
    "Event",
    "Generation",
    "Job",
    "JobModel",
    "JoinToken",
    "Judgement",
    "Measurement",
    "Meta",
    "Model",
    "Query",
    "Run",
    "RunEnergy",
    "SampleSecond",
    "SampleSegment",
    "SampleSeries",
    "Source",
    "Task",
    "TaskHost",
]
