"""The engine `slurm`: `harness worker` in long-lived jobs, which take groups of tasks as long as there are some."""

from __future__ import annotations

from harness import EngineContext, engines, events
from harness_slurm.commands import require_commands
from harness_slurm.launcher import SlurmLauncher
from harness_slurm.options import SlurmOptions

_START_ATTEMPTS = 3  # jobs in a row that end before they are ready: a broken node is survived, a broken environment is not


class SlurmEngine(engines.PoolEngine):
    """Runs tasks in jobs of a Slurm cluster. `docs/clusters.md` says what to set."""

    name, version = "slurm", 1
    Options = SlurmOptions

    def device_for(self, requested: str) -> str:
        """Return the device of the jobs: `auto` is CUDA if they have GPUs, else the CPU."""
        if requested != "auto":
            return requested
        return "cuda" if self.options.gpus is not None else "cpu"

    def start(self, context: EngineContext) -> engines.Backend:
        """Return a pool of jobs. A job is submitted when there are tasks for it."""
        require_commands()
        device = self.device_for(context.device)
        launcher = SlurmLauncher(context, self.options, device)
        jobs = self.options.jobs
        where = f"up to {jobs} Slurm job{'s' if jobs > 1 else ''}, logs in {launcher.folder}"
        context.emit(events.EngineOpened(engine=self.name, workers=jobs, device=device, threads=context.threads, message=where))
        policy = engines.PoolPolicy(
            limit=jobs,
            whole_groups=device.startswith("cuda"),
            isolated=True,
            start_attempts=_START_ATTEMPTS,
            task_timeout=self.options.task_timeout,
            idle_timeout=self.options.idle_timeout,
        )
        return engines.WorkerPool(context, launcher, policy)
