"""The engine `ray`: `harness worker` in long-lived actors, which take groups of tasks as long as there are some."""

from __future__ import annotations

from harness import EngineContext, engines, events
from harness_ray.launcher import RayLauncher
from harness_ray.options import RayOptions
from harness_ray.room import describe_demands

_START_ATTEMPTS = 3  # workers in a row that end before they are ready: a broken node is survived, a broken environment is not

_MOST_ACTORS = 64  # unless an option says otherwise


class RayEngine(engines.PoolEngine):
    """Runs tasks in actors of a Ray cluster. `docs/clusters.md` says what to set."""

    name, version = "ray", 1
    Options = RayOptions

    def device_for(self, requested: str) -> str:
        """Return the device of the actors: `auto` is CUDA if they have GPUs, else the CPU."""
        if requested != "auto":
            return requested
        return "cuda" if self.options.num_gpus else "cpu"

    def start(self, context: EngineContext) -> engines.Backend:
        """Connect to a cluster and return a pool of actors. An actor is created when there are tasks for it."""
        options: RayOptions = self.options
        device = self.device_for(context.device)
        launcher = RayLauncher(context, options, device)
        actors = options.actors or min(max(1, launcher.room), _MOST_ACTORS)
        each = f"{'s' if actors > 1 else ''} with {describe_demands(options.demands(context.threads))} each"
        where = f"up to {actors} actor{each} on {launcher.cluster}, logs in {launcher.folder}"
        context.emit(
            events.EngineOpened(engine=self.name, workers=actors, device=device, threads=context.threads, message=where)
        )
        on_gpus = device.startswith("cuda")
        policy = engines.PoolPolicy(
            limit=actors,
            whole_groups=options.place_siblings == "together" or (options.place_siblings == "auto" and on_gpus),
            isolated=True,
            start_attempts=_START_ATTEMPTS,
            task_timeout=options.task_timeout,
            idle_timeout=options.idle_timeout,
        )
        return engines.WorkerPool(context, launcher, policy)
