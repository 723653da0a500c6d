"""What an engine with workers is made of, public as `harness.engines`. `docs/plugins.md` shows an engine of each kind.

An engine is a `PoolEngine` whose `start` returns a `WorkerPool` with a `Launcher` of its own. The pool decides which worker
does which tasks, and what happens when one ends; the launcher starts workers and delivers what they say.
"""

from harness.errors import DamagedObject, StoreError
from harness.execution.engines.assignment import PoolPolicy
from harness.execution.engines.launcher import Deliver, Delivery, Exit, ExitCause, Launcher, WorkerHandle
from harness.execution.engines.mailbox_launcher import Channel, MailboxLauncher, MailboxWorker
from harness.execution.engines.pool_engine import Backend, PoolEngine
from harness.execution.engines.worker_log import describe_log
from harness.execution.engines.worker_pool import GRACE_SECONDS, WorkerPool
from harness.execution.engines.worker_process import worker_command, worker_environment, worker_variables
from harness.execution.mailbox import Mailbox
from harness.execution.node_store import NodeStore
from harness.execution.transfers import Transfers
from harness.execution.worker_messages import Message, Refusal, message_json, parse_message
from harness.store import Store
from harness.store.packing import EntryName, PackedEntry

__all__ = [
    "GRACE_SECONDS",
    "Backend",
    "Channel",
    "DamagedObject",
    "Deliver",
    "Delivery",
    "EntryName",
    "Exit",
    "ExitCause",
    "Launcher",
    "Mailbox",
    "MailboxLauncher",
    "MailboxWorker",
    "Message",
    "NodeStore",
    "PackedEntry",
    "PoolEngine",
    "PoolPolicy",
    "Refusal",
    "Store",
    "StoreError",
    "Transfers",
    "WorkerHandle",
    "WorkerPool",
    "describe_log",
    "message_json",
    "parse_message",
    "worker_command",
    "worker_environment",
    "worker_variables",
]
