"""Creates the tasks of joint trainings from their handles."""

from __future__ import annotations

from harness.api.joint_trajectory import JointCheckpoint, JointTrajectory
from harness.api.specs import CoupledMemberSpec, CoupledSpec, TrainingStart, TrainSpec
from harness.api.task import Task, key_of
from harness.api.trajectory import Checkpoint
from harness.plan.tasks import objects_with, teacher_spec, training_start


def joint_train_task(checkpoint: JointCheckpoint, before: Checkpoint | JointCheckpoint | None) -> Task:
    """Return the task that trains all members up to a checkpoint of theirs.

    It starts from an earlier checkpoint of the same joint trajectory, or from where the members start. It has a group of its
    own, since its members are trained at once.
    """
    joint, epoch = checkpoint.trajectory, checkpoint.epoch
    begin = TrainingStart(epoch=joint.start_epoch)
    sources = joint.starts
    if before is not None:
        where = before.location
        begin = TrainingStart(epoch=before.epoch, object=where.object, part=where.part, own=True)
        sources = (before,)
    first = joint.members[0]
    spec = TrainSpec(
        setting=joint.setting.spec,
        trajectory=first.spec,
        trajectory_key=joint.key,
        epoch=epoch,
        start=begin,
        teacher=teacher_spec(first),
        coupled=_coupled(joint),
    )
    group = key_of(["train", joint.key, epoch])
    cost = (epoch - begin.epoch) * joint.epoch_cost
    return Task(checkpoint.task_key, spec, objects_with([*sources, *joint.teachers]), group, cost)


def _coupled(joint: JointTrajectory) -> CoupledSpec:
    members = []
    for member, weights in zip(joint.members, joint.begins, strict=True):
        start = training_start(member, weights)
        spec = CoupledMemberSpec(
            recipe=member.setting.spec.recipe,
            trajectory=member.spec,
            start=start,
            teacher=teacher_spec(member),
        )
        members.append(spec)
    return CoupledSpec(
        coupling=joint.coupling.identity,
        stream=joint.stream,
        epoch_cost=joint.coupling.epoch_cost(len(members)),
        members=tuple(members),
    )
