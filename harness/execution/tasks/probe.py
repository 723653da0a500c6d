"""Tell what a worker sees: its machine, device, data root and the locks of the store. Stores nothing."""

from __future__ import annotations

import socket
import time

import torch

from harness import files
from harness.api.specs import ProbeSpec
from harness.errors import Interrupted
from harness.execution.data_root import NO_DATA_ROOT
from harness.execution.engines.cpu_count import count_cpus
from harness.execution.tasks.resources import TaskResources
from harness.telemetry.events import WorkerDescribed
from harness.telemetry.provenance import provenance

_POLL_SECONDS = 0.05


def probe(key: str, spec: ProbeSpec, resources: TaskResources) -> None:
    """Report what this worker sees, then wait for the probe's seconds. Raise `Interrupted` if the worker must stop."""
    context = resources.context
    with resources.store.lease(spec.lease) as acquired:
        pass
    context.emit(
        WorkerDescribed(
            task=key,
            host=socket.gethostname(),
            device=_device(resources.device),
            cpus=count_cpus().describe(),
            data_root=str(context.data),
            data=_names(resources),
            lease_acquired=acquired,
        )
    )
    deadline = time.monotonic() + spec.seconds
    while time.monotonic() < deadline:
        if context.stopping():
            raise Interrupted
        time.sleep(_POLL_SECONDS)


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB"
    return str(provenance()["processor"])


def _names(resources: TaskResources) -> tuple[str, ...]:
    """Return the names in the data root; none if it cannot be read."""
    root = resources.context.data
    if root == NO_DATA_ROOT:
        return ()
    try:
        return tuple(path.name for path in files.list_folder(root))
    except OSError:
        return ()
