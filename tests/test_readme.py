"""The README's commands and snippets run as written, its sentences are sentences."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import train
from model import GPTConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (?!-m pip)\S+\.py.*$", README, re.MULTILINE)
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What would take long is shortened; tests/test_attention_demo.py runs the demo.
QUICK = {"train.py": " --steps 2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the scripts, with the checkpoint of an untrained model."""
    folder = tmp_path_factory.mktemp("a copy")
    for script in ROOT.glob("*.py"):
        (folder / script.name).write_bytes(script.read_bytes())
    model = train.untrained(GPTConfig())
    train.save_checkpoint(folder / "checkpoint.pt", model, train.HeldOut())
    return folder


def run(command, folder):
    return subprocess.run(
        command,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if "DISPLAY" not in k},
        shell=isinstance(command, str),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_commands_run_in_order_as_written(folder):
    commands = [c for c in dict.fromkeys(COMMANDS) if "attention_demo" not in c]
    assert len(commands) >= 2
    for command in commands:
        for script, flags in QUICK.items():
            command += flags if f" {script}" in command else ""
        command = command.replace("python", f'"{sys.executable}"', 1)
        result = run(command, folder)
        assert result.returncode == 0, (command, result.stderr)


def test_the_first_exercise_goes_as_it_says(folder, tmp_path):
    for file in [*folder.glob("*.py"), folder / "checkpoint.pt"]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    source = (tmp_path / "train.py").read_text(encoding="utf-8")
    edited = source.replace('COLOURS = listed("brown', 'COLOURS = listed("brown green')
    assert edited != source
    (tmp_path / "train.py").write_text(edited, encoding="utf-8")
    refused = run(f'"{sys.executable}" example.py "the green fox"', tmp_path)
    assert refused.returncode == 2 and "another language" in refused.stderr


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs_as_written(snippet, folder):
    result = run([sys.executable, "-c", snippet], folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_every_script_in_the_table_is_there():
    for script in re.findall(r"^\| `(\w+\.py)`", README, re.MULTILINE):
        assert (ROOT / script).is_file()


def test_the_pictures_and_the_page_are_there():
    for path in re.findall(r"\]\((assets/[^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_the_sentences_that_are_suggested_are_in_the_language():
    sentences = re.findall(r'example\.py "([^"]+)"', README)
    assert sentences
    for sentence in sentences:
        assert train.in_language(train.read(sentence)), sentence


def test_what_is_quoted_as_the_next_word_may_come_next():
    quoted = re.findall(r"`([^`\n▸…]+) ▸ (\w+)`", README)
    beginnings = [(said, word) for said, word in quoted if " " in said]
    assert len(beginnings) >= len(train.RELATIONS)
    for said, word in beginnings:
        assert word in train.next_words(train.read(said)), said
    sentences = [" ".join(sentence.words) for sentence in train.sample(2000, 0)]
    for row in set(quoted) - set(beginnings):  # of a map, one word read
        assert any(" ".join(row) in sentence for sentence in sentences), row


def test_the_floor_is_that_of_the_language():
    assert f"its floor, {train.entropy():.3f} nats a word" in README.replace("\n", " ")


def test_it_is_short_enough_to_be_read():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) <= 1600
