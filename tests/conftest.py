"""What the tests share. They run from anywhere: the five scripts lie one folder up."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest
import torch
from filelock import FileLock  # torch needs it, so it is there

import train

torch.set_num_threads(1)  # as the scripts do; the tests run two at a time

BROWSER, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
BROWSER_FLAGS = (
    "headless=new no-sandbox disable-gpu disable-background-networking "
    "disable-component-update disable-sync no-first-run"
)


def open_browser():
    """A headless Chromium that keeps a record of its console and its requests."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in BROWSER_FLAGS.split():
        options.add_argument(f"--{flag}")
    record = {"browser": "ALL", "performance": "ALL"}
    options.set_capability("goog:loggingPrefs", record)
    return webdriver.Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="session")
def browser():
    if not all(map(os.path.exists, (BROWSER, DRIVER))):
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    driver = open_browser()
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def default_checkpoint(tmp_path_factory):
    """A checkpoint of the default model, trained once for all tests that run together."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folder that the workers share
        folder = folder.parent
    path = folder / "default.pt"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            trained = train.train(train.default_config(), train.TrainConfig())
            train.save_checkpoint(path, *trained)
    return path


@pytest.fixture(scope="session")
def default(default_checkpoint):
    """The default model, and its held-out sentences."""
    return train.load_checkpoint(default_checkpoint)


@pytest.fixture
def edited(monkeypatch):
    """Replace a rule of the language, and forget what was worked out from the old."""

    def forget():
        train.options.cache_clear()
        train.to_come.cache_clear()

    def edit(name, rule):
        rule.__name__ = name
        monkeypatch.setattr(train, name, rule)
        forget()

    yield edit
    monkeypatch.undo()
    forget()
