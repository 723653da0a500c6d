"""Objects on disk; the only room that knows file names.

ROOT/objects/ab/<key>/     meta.json and one .safetensors file per part: written aside, fsynced, renamed
ROOT/progress/ab/<key>/    states within a training, a folder per step; gone when the training has arrived
ROOT/trajectories/ab/<key> which epochs of a trajectory are stored, a line each
ROOT/tasks/ab/<key>.json   what `harness worker` needs to make an object
ROOT/failures/ab/<key>.json  the last failed attempt, beside the object, never as the object
ROOT/leases/<key>.lock     there while a task is worked on; the operating system frees it when its holder dies
ROOT/set_aside/            objects and states whose bytes no longer matched their digests
ROOT/aside/                being written: a place for each process at work
"""

from __future__ import annotations

from harness.store.census import Damage, Holding, Needless, damages, holdings, needless
from harness.store.store import Store

__all__ = ["Damage", "Holding", "Needless", "Store", "damages", "holdings", "needless"]
