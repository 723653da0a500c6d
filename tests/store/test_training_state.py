"""Training states: the last one is kept, damaged ones are refused, finished trainings keep none."""

from __future__ import annotations

import pytest
import torch

from harness.errors import DamagedObject
from harness.store import Store
from store.samples import KEY, OTHER, WEIGHTS


def test_last_state_is_kept(store: Store) -> None:
    """Saving removes the states of earlier steps."""
    for step in (3, 7):
        store.training_states.save(KEY, step, {"step": step}, {"weights": WEIGHTS})
    assert store.training_states.steps(KEY) == [7]
    meta, parts = store.training_states.load(KEY, 7)
    assert meta["step"] == 7
    assert torch.equal(parts["weights"]["a"], WEIGHTS["a"])


def test_damaged_state_is_refused(store: Store) -> None:
    """Loading it raises an error; it can be removed."""
    store.training_states.save(KEY, 7, {}, {"weights": WEIGHTS})
    path = next((store.root / "progress").rglob("weights.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedObject):
        store.training_states.load(KEY, 7)
    store.training_states.drop(KEY, 7)
    assert store.training_states.steps(KEY) == []


def test_damaged_state_is_quarantined_with_its_step(store: Store) -> None:
    """Its files are kept under a name with the key and the step."""
    store.training_states.save(KEY, 7, {}, {"weights": WEIGHTS})
    moved_to = store.training_states.quarantine(KEY, 7)
    assert moved_to.name.startswith(f"{KEY}-step-7-")
    assert (moved_to / "weights.safetensors").exists()
    assert store.training_states.steps(KEY) == []


def test_states_of_later_steps_are_kept(store: Store) -> None:
    """A training to an earlier epoch removes only the states up to its own step."""
    for step in (3, 9, 5):
        store.training_states.save(KEY, step, {}, {})
    assert store.training_states.steps(KEY) == [9, 5]
    store.training_states.drop(KEY, 5)
    assert store.training_states.steps(KEY) == [9]


def test_state_of_a_finished_training_is_removed(store: Store) -> None:
    """`prepare` removes the states of a training whose final object is stored."""
    store.training_states.save(OTHER, 4, {"task": KEY}, {})
    store.training_states.save(KEY, 4, {"task": OTHER}, {})
    store.prepare()
    assert store.training_states.steps(OTHER) == []
    assert store.training_states.steps(KEY) == [4]


def test_state_in_the_folder_of_another_step(store: Store) -> None:
    """It is refused, since the metadata has the step."""
    store.training_states.save(KEY, 3, {}, {})
    folder = store.root / "progress" / KEY[:2] / KEY
    (folder / "3").rename(folder / "5")
    with pytest.raises(DamagedObject, match="the state at step 5 is another step's"):
        store.training_states.load(KEY, 5)
