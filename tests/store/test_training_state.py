"""Training states: the last one is kept, a damaged one is refused, and none outlives its training."""

from __future__ import annotations

import pytest
import torch

from harness.errors import DamagedObject
from harness.store import Store
from store.samples import KEY, OTHER, WEIGHTS


def test_last_state_is_kept(store: Store) -> None:
    """Saving removes the states of earlier steps."""
    for step in (3, 7):
        store.save_training_state(KEY, step, {"step": step}, {"weights": WEIGHTS})
    assert store.saved_steps(KEY) == [7]
    meta, parts = store.load_training_state(KEY, 7)
    assert meta["step"] == 7
    assert torch.equal(parts["weights"]["a"], WEIGHTS["a"])


def test_damaged_state_is_refused(store: Store) -> None:
    """It is not loaded, and can be removed."""
    store.save_training_state(KEY, 7, {}, {"weights": WEIGHTS})
    path = next((store.root / "progress").rglob("weights.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedObject):
        store.load_training_state(KEY, 7)
    store.drop_training_states(KEY, 7)
    assert store.saved_steps(KEY) == []


def test_damaged_state_is_quarantined_with_its_step(store: Store) -> None:
    """Its bytes stay, under a name that says which state it was."""
    store.save_training_state(KEY, 7, {}, {"weights": WEIGHTS})
    moved_to = store.quarantine_training_state(KEY, 7)
    assert moved_to.name.startswith(f"{KEY}-step-7-")
    assert (moved_to / "weights.safetensors").exists()
    assert store.saved_steps(KEY) == []


def test_shorter_training_leaves_later_states_alone(store: Store) -> None:
    """A training up to an earlier epoch removes the states up to there; later ones are another's."""
    for step in (3, 9, 5):
        store.save_training_state(KEY, step, {}, {})
    assert store.saved_steps(KEY) == [9, 5]
    store.drop_training_states(KEY, 5)
    assert store.saved_steps(KEY) == [9]


def test_state_of_a_finished_training_is_removed(store: Store) -> None:
    """A run that was killed between putting its object and removing its states is tidied up after."""
    store.save_training_state(OTHER, 4, {"task": KEY}, {})
    store.save_training_state(KEY, 4, {"task": OTHER}, {})
    store.prepare()
    assert store.saved_steps(OTHER) == []
    assert store.saved_steps(KEY) == [4]


def test_state_under_another_steps_number_is_refused(store: Store) -> None:
    """The step is part of what is checked."""
    store.save_training_state(KEY, 3, {}, {})
    folder = store.root / "progress" / KEY[:2] / KEY
    (folder / "3").rename(folder / "5")
    with pytest.raises(DamagedObject, match="the state at step 5 is another step's"):
        store.load_training_state(KEY, 5)
