"""Tests run from anywhere: the five scripts lie one folder up."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest
import torch

torch.set_num_threads(1)  # as the scripts do; the tests run two at a time


@pytest.fixture(scope="session")
def default():
    """The default model, trained once for all tests, and its held-out sentences."""
    import train
    from model import GPTConfig

    return train.train(GPTConfig(), train.TrainConfig())
