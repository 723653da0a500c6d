"""Options of the engine `ray`."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

import harness

_ADDRESS = re.compile(r"local|auto|[\w.-]+:\d{1,5}|\[[\da-fA-F:]+\]:\d{1,5}")


def _check_address(address: str) -> str:
    if address.startswith("ray://"):
        raise ValueError(f"{address!r} is for Ray Client; start `harness run` on a machine of the cluster, with address=auto")
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{address!r} is no address of a Ray cluster; local, auto, or HOST:PORT")
    return address


class RayOptions(harness.Options):
    """Options of the engine `ray`. Without options it starts a cluster on this machine, unless RAY_ADDRESS names one."""

    address: Annotated[str, AfterValidator(_check_address)] | None = Field(
        None,
        description="auto: the cluster of this machine; HOST:PORT: that of another one; local: start one on this machine; "
        "null: RAY_ADDRESS, or local",
    )
    actors: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="the largest number of actors at a time; null: as many as fit when the run begins, at most 64",
    )
    num_cpus: float | None = Field(None, ge=0, le=1024, description="CPUs that each actor reserves; null: as many as --threads")
    num_gpus: float = Field(0.0, ge=0, le=1, description="1, or a part of 1 (0.5: two actors share a GPU); 0: the CPU")
    resources: dict[str, float] = Field(default_factory=dict, description="custom resources of Ray that each actor reserves")
    place_siblings: Literal["auto", "together", "apart"] = Field(
        "auto",
        description="together: a group of siblings goes to one actor; apart: each to the next idle one; "
        "auto: together on GPUs, where they are trained side by side",
    )
    share_store: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="yes: all nodes see the store under its path; no: objects are copied to and from each node; "
        "auto: each node is tested",
    )
    scratch: str | None = Field(
        None,
        description="folder on the nodes for copies, if the store is not shared; null: the node's temporary folder",
    )
    start_timeout: float | None = Field(
        600.0, gt=0, description="seconds that actors may wait for room while none runs, before the run ends; null: for ever"
    )
    task_timeout: float | None = Field(
        None,
        gt=0,
        description="seconds without a sign of life (an epoch, an end) after which a task is ended and fails; null: never",
    )
    idle_timeout: float | None = Field(
        300.0, gt=0, description="seconds without a task after which an actor ends, while others work on; null: never"
    )

    @model_validator(mode="after")
    def _check_amounts(self) -> Self:
        for name, amount in self.resources.items():
            if amount <= 0:
                raise ValueError(f"resources: {name} is {amount:g}; more than 0")
            if name in ("CPU", "GPU", "memory", "object_store_memory"):
                raise ValueError(f"resources: {name} is no custom resource; use num_cpus and num_gpus")
        if self.scratch is not None and not self.scratch.startswith("/"):
            raise ValueError(f"scratch is {self.scratch!r}; an absolute path, since nodes have no common working folder")
        return self

    def demands(self, threads: int) -> dict[str, float]:
        """Return the resources that each actor reserves, by Ray's names, for a number of threads."""
        cpus = float(threads) if self.num_cpus is None else self.num_cpus
        demands = {"CPU": cpus, "GPU": self.num_gpus, **self.resources}
        return {name: amount for name, amount in demands.items() if amount}
