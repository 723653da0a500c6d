"""What an engine with workers is made of, public as `harness.engines`. `docs/plugins.md` shows an engine of each kind.

An engine is a `PoolEngine` whose `start` returns a `WorkerPool` with a `Launcher` of its own. The pool decides which worker
does which tasks, and what happens when one ends; the launcher starts workers and delivers what they say.
"""

from harness.execution.engines.assignment import PoolPolicy
from harness.execution.engines.launcher import Deliver, Delivery, Exit, ExitCause, Launcher, WorkerHandle
from harness.execution.engines.mailbox_launcher import MailboxLauncher, MailboxWorker
from harness.execution.engines.pool_engine import Backend, PoolEngine
from harness.execution.engines.worker_pool import GRACE_SECONDS, WorkerPool
from harness.execution.engines.worker_process import worker_command, worker_environment
from harness.execution.mailbox import Mailbox

__all__ = [
    "GRACE_SECONDS",
    "Backend",
    "Deliver",
    "Delivery",
    "Exit",
    "ExitCause",
    "Launcher",
    "Mailbox",
    "MailboxLauncher",
    "MailboxWorker",
    "PoolEngine",
    "PoolPolicy",
    "WorkerHandle",
    "WorkerPool",
    "worker_command",
    "worker_environment",
]
