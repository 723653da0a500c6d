"""Absolute paths and names of users are taken out of texts; everything else stays."""

from __future__ import annotations

import pytest

from harness.bundles.scrubbing import scrub, scrub_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/alice/runs/a", "…/a"),
        ("/home/alice/my runs/a b.yaml", "…/a b.yaml"),
        ("--out=/home/alice/a", "--out=…/a"),
        ("data set 'x': /home/alice/x.bin: not there; see /srv/y", "data set 'x': …/x.bin: not there; see …/y"),
        ("/home/alice/run.json: cannot be read", "…/run.json: cannot be read"),
        ("in '/home/alice b/c d' and \"/x/y\"", "in '…/c d' and \"…/y\""),
        ('{"path":"/home/alice/bundle","of":null}', '{"path":"…/bundle","of":null}'),
        ("~/runs/a", "…/a"),
        ("see ~alice/runs", "see …/runs"),
        (r"C:\Users\alice\x.csv", "…/x.csv"),
        (r"\\server\alice\x.csv is gone", "…/x.csv is gone"),
        ("file:///home/alice/x", "…/x"),
        ("/", "…"),
    ],
)
def test_paths(text: str, expected: str) -> None:
    """Only the last part of an absolute path is left; a second pass changes nothing."""
    assert scrub_text(text) == expected
    assert scrub_text(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "timm/resnet18",
        "3 images/s",
        "a / b",
        "β/γ",
        "https://example.org/x",
        "runs/a",
        "../a",
        "loss_plane/0/1",
        "1/2",
        "~5 %",
        "",
    ],
)
def test_texts_without_absolute_paths(text: str) -> None:
    """They stay as they are."""
    assert scrub_text(text) == text


def test_nested_values() -> None:
    """Texts are scrubbed at any depth, other values and names of fields are kept."""
    given = {"/a/b": [1, None, True, {"command": ("run", "/home/alice/x")}]}
    assert scrub(given) == {"/a/b": [1, None, True, {"command": ["run", "…/x"]}]}
