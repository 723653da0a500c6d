"""What a run and its client of Ray say to each other: lines of JSON on the client's standard input and output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ClientSettings:
    """The first line that a client reads.

    `command` starts a worker on the store of the run; the interpreter is that of each node. `store_id` names the store on nodes
    that do not see it. `defaults` are environment variables for nodes that do not set them; `variables` are always set.
    `demands` are the resources of an actor by Ray's names. `size` is the number of actors for which a local cluster needs
    room; None: what the machine has.
    """

    address: str | None
    demands: dict[str, float]
    size: int | None
    share_store: str
    scratch: str | None
    start_timeout: float | None
    store: str
    store_id: str
    data: str
    logs: str
    command: list[str]
    defaults: dict[str, str]
    variables: dict[str, str]

    def to_json(self) -> str:
        """Return the settings as a line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> ClientSettings:
        """Return the settings in a line."""
        return cls(**json.loads(line))


@dataclass(frozen=True)
class Order:
    """The run → the client, about one worker. `keys` are a group of tasks to `send`."""

    worker: int
    verb: Literal["launch", "send", "finish", "stop", "kill"]
    keys: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the order as a line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Order:
        """Return the order in a line."""
        facts: dict[str, Any] = json.loads(line)
        return cls(facts["worker"], facts["verb"], tuple(facts["keys"]))


@dataclass(frozen=True)
class Report:
    """The client → the run, about one worker, or about all (`worker` 0).

    `connected`: to a cluster, which `text` describes, with room for `room` actors. `refused`: there is no connection, for the
    reason in `text`. `placed`: the worker is on the node `text`. `message`: a line of the worker. `left` and `crashed`: the
    worker has ended, for the reason in `text`. `notice`: a line for the user. `failed`: an error that ends the run.
    """

    worker: int
    kind: Literal["connected", "refused", "placed", "message", "left", "crashed", "notice", "failed"]
    text: str
    room: int = 0

    def to_json(self) -> str:
        """Return the report as a line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: bytes) -> Report:
        """Return the report in a line."""
        return cls(**json.loads(line))
