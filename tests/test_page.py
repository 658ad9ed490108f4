"""assets/explorer.html in a real browser: the model is PyTorch's, the truth is the
language's, and what a reader does with mouse and keys works."""

import array
import base64
import json
import math
import random
import re
import statistics
import time
from pathlib import Path
from urllib.parse import parse_qs, urlparse
from urllib.request import url2pathname

import benchmark
import pytest
import torch

import attention_demo
import example
import train
from model import GPT, GPTConfig

pytest.importorskip("selenium", reason="the page is tested with selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

ASSET = Path(__file__).parent.parent / "assets" / "explorer.html"


@pytest.fixture(scope="module")
def file(default, tmp_path_factory):
    """The page of the default model, as the address of a file."""
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    roles = train.measure(default[0], train.HeldOut(count=1500))
    attention_demo.write_page(*default, roles, path)
    return path.as_uri()


@pytest.fixture
def page(browser, file):
    """The page, freshly opened; afterwards nothing may have gone wrong in it."""
    yield Page(browser, file)
    assert [entry["message"] for entry in browser.get_log("browser")] == []


class Page:
    """What a reader sees and does."""

    def __init__(self, browser, file, link=""):
        self.browser, self.file = browser, file
        browser.get("about:blank")
        browser.get_log("performance")  # what the tests before have asked for
        browser.get(file + link)

    def js(self, code, *arguments):
        return self.browser.execute_script(code, *arguments)

    def one(self, css):
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def press(self, act, argument):
        """Click a button of the page, as a mouse does: where it is on the screen."""
        button = self.one(f'[data-do="{act}"][data-with="{argument}"]')
        self.js("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def type(self, text):
        field = self.one("#text")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)

    def text(self, css):
        return self.one(css).text


def pytorch(model, means, words, off, patched):
    """Maps and the next word of the model in PyTorch, as lists: the same as toyGPT.look."""
    config = model.config
    pair = lambda head: train.heads_of(config)[head]
    patches = {pair(h): torch.tensor(means[pair(h)[0]][pair(h)[1]]) for h in off}
    for head, others in patched.items():
        layer, at = pair(int(head))
        given = model.head_outputs(train.as_ids(others))
        patches[layer, at] = given[layer][:, at]
    with torch.no_grad(), model.patch_heads(patches):
        maps = [layer[0] for layer in model.attention_maps(train.as_ids(words))]
        logits = model.logits(train.as_ids(words))[0, -1, : len(train.VOCABULARY)]
    return torch.stack(maps).tolist(), logits.softmax(-1).tolist()


def compare(page, model, count):
    """The largest differences between the page and PyTorch: maps, and next words."""
    rng = random.Random("page")
    heads = model.config.n_layer * model.config.n_head
    means = page.js(
        "return JSON.parse(document.getElementById('toy-gpt').textContent).trained.means"
    )
    asked = []
    for sentence in train.sample(count, "page"):
        words = list(sentence.words[: rng.randint(1, len(sentence.words) - 1)])
        others = [words[0], *rng.choices(train.VOCABULARY, k=len(words) - 1)]
        off = rng.sample(range(heads), rng.choice([0, 0, 1, 2]))
        rest = [head for head in range(heads) if head not in off]
        patched = {str(h): others for h in rng.sample(rest, rng.choice([0, 0, 1]))}
        asked.append([words, off, patched])
    told = page.js(
        "return arguments[0].map(([words, off, from]) => toyGPT.look(words, {off, from}))",
        asked,
    )
    worst = 0.0
    for (words, off, patched), seen in zip(asked, told):
        maps, chances = pytorch(model, means, words, off, patched)
        assert len(seen["next"]) == len(chances)
        next_word = [seen["next"][word] for word in train.VOCABULARY]
        gaps = torch.tensor(next_word) - torch.tensor(chances)
        worst = max(worst, gaps.abs().max().item())
        gaps = torch.tensor(seen["maps"]) - torch.tensor(maps)
        worst = max(worst, gaps.abs().max().item())
    return worst


def test_the_model_in_the_page_is_the_model_in_pytorch(page, default):
    assert compare(page, default[0], 200) < 1e-5


def test_a_deeper_model_too(browser, tmp_path):
    config = GPTConfig(
        vocab_size=train.default_config().vocab_size, n_layer=3, n_head=8, n_embd=32
    )
    model = train.untrained(config)
    with torch.no_grad():  # larger weights: an untrained model looks everywhere alike
        for block in model.blocks:
            block.attention.query.weight *= 20
            block.attention.key.weight *= 20
    model.norm = torch.nn.LayerNorm(32, elementwise_affine=False)  # an edited model.py
    path = tmp_path / "deep.html"
    held_out = train.HeldOut(count=60)
    roles = train.measure(model, held_out)
    attention_demo.write_page(model, held_out, roles, path)
    page = Page(browser, path.as_uri())
    assert compare(page, model, 40) < 1e-5
    assert len(page.all("#cards .head")) == 24
    page.press("head", 23)
    assert page.text("#big h2").startswith("L3H8")
    page.press("open", 2)
    page.press("swap", "2 cats")
    assert "no decision to share out" in page.text("#swap")
    assert browser.get_log("browser") == []


def test_the_truth_in_the_page_is_that_of_the_language(page):
    rng, asked = random.Random("truth"), [["<s>", "cat", "the"]]
    asked += [["<s>", *rng.choices(train.VOCABULARY, k=3)] for _ in range(47)]
    for sentence in train.sample(450, "truth"):
        asked.append(list(sentence.words[: rng.randint(1, len(sentence.words))]))
    told = page.js("return arguments[0].map((words) => toyGPT.truth(words))", asked)
    for words, chances in zip(asked, told):
        assert chances == pytest.approx(train.next_words(words), abs=1e-9), words


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("look(['<s>', 'the'], {off: [9]})", "no such head, or words of another"),
        ("look(['<s>', 'the'], {from: {0: ['<s>']}})", "no such head, or words of"),
        ("look(['<s>', 'the'], {off: 3})", "off must be a list of heads"),
        ("look(['<s>', 'the'], {from: null})", "from an object {head: words}"),
        ("look(['<s>', 'wolf'])", "words of this language"),
        ("look(['the'])", "words must be a list that begins with <s>"),
        ("look('the cat')", "words must be a list that begins with <s>"),
        ("look()", "words must be a list that begins with <s>"),
        ("truth(['the'])", "words must be a list that begins with <s>"),
        ("truth()", "words must be a list that begins with <s>"),
    ],
)
def test_the_console_is_told_what_would_do(page, call, told):
    assert told in page.js(f"try {{ toyGPT.{call} }} catch (e) {{ return e.message }}")


def test_a_sentence_is_read_at_each_key(page):
    page.type("The dog eats the")
    assert page.all("#ribbon .word")[-1].text == "the"
    assert "bone" in page.text("#next") and "exact truth" in page.text("#next")
    field = page.one("#text")
    field.send_keys(" b")
    assert page.text("#say") == ""  # a word may come of it
    field.send_keys(" ")
    assert "“b” is not among" in page.text("#say")
    field.send_keys(Keys.BACKSPACE, "one")
    assert page.text("#say") == ""
    assert "(end)" in page.text("#next")


def test_an_unknown_word_is_named_with_its_neighbours(page):
    page.type("the hungri fox")
    assert "“hungri” is not among the 100 words" in page.text("#say")
    page.press("replace", "2 hungry")
    assert page.one("#text").get_attribute("value") == "the hungry fox"
    page.type("the wolf")  # near none: what could stand here
    assert "Here could stand" in page.text("#say") and page.all("#say .chip")
    page.type("the <b>zzz</b> fox")  # whatever is typed stays text
    assert "<b>zzz</b>" in page.text("#say")


def test_where_a_sentence_leaves_the_language_others_are_offered(page):
    page.type("the cat eat the fish")
    assert "does not say “eat”" in page.text("#say")
    assert "There is no truth here" in page.text("#next")
    page.press("replace", "3 eats")
    assert page.one("#text").get_attribute("value") == "the cat eats the fish"
    assert page.text("#say") == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "the hungry little brown fox seeks zzz now",
            ("“brown”", "“zzz” is not among"),
        ),
        (
            "the hungry little brown fox near the cow eats the mouse the dog sleeps",
            (
                "After “the hungry little” this language does not say “brown”",
                "too long",
            ),
        ),
        (
            "the cat near the dogs chases the bird near the tree today",
            ("chases the bird” this language does not say “near”", "“today” is not"),
        ),
        ("dogs the ca", ("After “dogs” this language does not say “the”",)),
    ],
)
def test_where_the_known_beginning_left_the_language_is_told_too(page, text, told):
    page.type(text)
    said = [div.text for div in page.all("#say > div")]
    assert len(said) == len(told) and all(map(str.__contains__, said, told)), said
    page.js("document.querySelector('#say .chip').click()")
    assert told[0] not in page.text("#say")


def test_a_head_is_chosen_and_switched_off(page):
    page.press("head", 1)
    assert page.text("#big h2") == "L1H2: where it looks"
    before = page.text("#next")
    switch = page.one('[data-do="switch"][data-with="0"]')
    page.js("arguments[0].scrollIntoView({block: 'center'})", switch)
    assert switch.size["height"] >= 40 and switch.size["width"] >= 100
    page.js("arguments[0].focus()", switch)
    switch.send_keys(Keys.SPACE)
    assert page.one('[data-do="switch"][data-with="0"]').get_attribute(
        "aria-checked"
    ) == ("false")
    assert "L1H1 off" in page.text("#next") and page.text("#next") != before
    page.press("switch", 0)
    assert page.text("#next") == before


def test_a_cell_opens_its_arithmetic_by_mouse_and_by_keys(page):
    page.press("cell", "3 2")
    assert "query · key" in page.text("#why")
    assert page.text("#why h2").startswith("After “near”, L1H")
    assert page.text("#why h2").endswith("at “cat”")
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert page.text("#why h2").endswith("at “the”")
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert page.text("#why h2").startswith("After “the”")
    focused = page.browser.switch_to.active_element
    assert focused.get_attribute("data-with") == "4 1"


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("the cat near the dogs", "the cats near the dogs"),
        ("the horse eats the", "the cow eats the"),  # what a cow eats, a horse does not
        ("the cow eats the", "the horse eats the"),
    ],
)
def test_a_swap_says_which_head_carries_what_python_says(text, other, page, default):
    model = default[0]
    words, swapped = train.read(text), train.read(other)
    page.type(text)
    page.press("open", 2)
    page.press("swap", f"2 {swapped[2]}")
    swap = page.text("#swap")
    assert f"{text} ▸" in swap and f"{other} ▸" in swap
    assert "All heads together: 100%" in swap
    sides = train.apart(words, swapped)
    both = [side[0] in train.next_words(w) for side, w in zip(sides, (swapped, words))]
    assert swap.count("both allow") == sum(both)
    pair = train.Pair(tuple(words), tuple(swapped), 2)
    clean, other, patched = train.patch_each_head(model, [pair])
    shares = train.shares_of(clean, other, patched)
    bars = [bar.text for bar in page.all(".carry button span:last-child")]
    for bar, share in zip(bars, shares, strict=True):
        told = float(bar.rstrip("%").replace("−", "-"))
        assert told == pytest.approx(100 * share, abs=0.6)
    most = max(range(len(shares)), key=shares.__getitem__)
    before = page.text("#next")
    page.press("patch", most)
    assert f"{train.head_names(model.config)[most]} patched" in page.text("#next")
    assert page.text("#next") != before
    page.press("patch", most)
    assert page.text("#next") == before
    page.press("swap", "")
    assert page.text("#swap") == ""


def test_page_and_terminal_agree_on_swaps(page, default):
    """The row, whether there is a decision, and the share of the main carrier."""
    rng, decided = random.Random("swaps"), []
    for sentence in train.sample(16, "swaps"):
        words = list(sentence.words[:-1])
        source = rng.choice(
            [i for i in range(1, len(words)) if words[i] not in words[i + 1 :]]
        )
        page.type(" ".join(words[1:]))
        page.press("open", source)
        chips = page.all("#word [data-do=swap]")
        if not chips:
            continue
        new = rng.choice([chip.text for chip in chips])
        page.press("swap", f"{source} {new}")
        pair = example.swap_in(words, f"{words[source]} → {new}")
        _, share = example.carrier(default[0], pair)
        bars = [b.text for b in page.all(".carry button span:last-child")]
        decided.append(bool(bars))
        assert bool(bars) == math.isfinite(share)
        if bars:
            row = page.text("#swap .said div").split(" ▸")[0]
            assert row == " ".join(pair.words[1:])
            most = max(float(b.rstrip("%").replace("−", "-")) for b in bars)
            assert most == pytest.approx(100 * share, abs=0.6)
    assert {True, False} == set(decided)


def test_a_swap_outside_the_language_has_nothing_to_share_out(page):
    page.type("dogs the near cat")
    page.press("open", 1)
    page.press("swap", "1 cow")
    told = page.text("#swap")
    assert "has left the language here" in told and "nan" not in told.lower()


def test_words_that_change_what_may_follow_are_marked(page):
    page.press("open", 2)  # cat
    marked = {chip.text for chip in page.all("#word .tells")}
    plain = {chip.text for chip in page.all("#word .plain")}
    assert {"cats", "foxes"} <= marked and "fox" in plain
    page.press("open", 1)  # the
    assert {"this", "every"} <= {chip.text for chip in page.all("#word .chip")}


def test_where_both_may_go_on_alike_there_is_nothing_to_carry(page):
    page.type("the cat sleeps")
    page.press("open", 2)
    page.press("swap", "2 fox")
    assert "allow the same words here" in page.text("#swap") and not page.all(".carry")
    assert page.text(".word.now") == "sleeps"  # the row that was looked from
    page.js("document.querySelector('#swap .tells').click()")  # a swap that is offered
    assert page.all(".carry button")


def test_a_model_that_hardly_decides_has_nothing_to_share_out(page, default):
    page.press("task", 0)
    assert page.all(".carry button")
    page.press("model", "untrained")
    assert "no decision" in page.text("#swap") and not page.all(".carry button")
    blank = train.untrained(default[0].config)
    pairs = train.pairs_of(train.HeldOut(count=100))["subject → verb"]
    clean, other, _ = train.patch_each_head(blank, pairs)
    pair = pairs[(clean - other).argmax()]  # that it tells apart best, if hardly
    text, row = "+".join(pair.words[1:]), len(pair.words) - 1
    swap = f"{pair.source}.{pair.swapped[pair.source]}"
    page.js(f"location.hash = '#s={text}&row={row}&swap={swap}&untrained=1'")
    time.sleep(0.1)
    assert "hardly or wrongly" in page.text("#swap") and not page.all(".carry button")


def test_a_look_is_not_a_proof(page):
    page.press("task", 1)
    told = [re.findall("[−0-9.]+(?=%)", b.text) for b in page.all(".carry button")]
    looks, carries = zip(*([float(n.replace("−", "-")) for n in t] for t in told))
    assert any(look >= 50 and abs(share) < 10 for look, share in zip(looks, carries))


def test_a_patch_is_gone_where_there_are_no_bars(page):
    page.press("task", 2)
    page.press("patch", 0)
    assert "patched" in page.text("#next")
    page.press("row", 1)
    assert not page.all(".carry") and "patched" not in page.text("#next")


def test_a_head_that_is_off_is_not_patched(page):
    page.press("task", 0)
    page.press("patch", 0)
    assert "L1H1 patched" in page.text("#next")
    page.press("switch", 0)
    told = page.text("#next")
    assert "L1H1 off" in told and "L1H1 patched" not in told
    label = page.one("[data-do=patch]").get_attribute("aria-label")
    assert "is off" in label and "Press" not in label
    page.press("patch", 0)
    assert "L1H1 patched" not in page.text("#next") + page.text("#swap")


def test_without_the_head_that_carries_the_model_does_not_decide(page):
    page.press("task", 0)
    shares = page.js(
        "return [...document.querySelectorAll('.carry b')].map(e => e.offsetWidth)"
    )
    page.press("switch", shares.index(max(shares)))  # the longest bar
    told = page.text("#swap")
    assert "So switched, this model tells" in told and "Swaps with" not in told


def test_an_example_keeps_the_heads_that_are_off(page):
    page.press("switch", 2)
    page.press("example", 1)
    assert "L1H3 off" in page.text("#next")
    page.press("task", 0)  # a lesson begins with all heads
    assert "off" not in page.text("#next")


def test_two_unknown_words_get_neighbours_too(page):
    page.type("the wolf hunts the rabbit")
    assert "Here could stand" in page.text("#say") and page.all("#say .chip")
    assert not page.all('#next [data-do="append"]')  # the rest would be lost
    page.press("replace", "2 cat")
    assert "“hunts” is not among" in page.text("#say")
    page.type("the cat hu")  # nothing is lost but what is being typed
    assert page.text("#say") == "" and page.all('#next [data-do="append"]')
    page.press("append", "eats")
    assert page.one("#text").get_attribute("value") == "the cat eats"


def test_the_keyboard_goes_where_the_reader_is(page):
    focused = lambda: page.browser.switch_to.active_element.get_attribute("data-do")
    page.js("document.querySelector('[data-do=task]').focus()")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.browser.switch_to.active_element.send_keys(Keys.TAB)
    assert focused() == "patch"  # the first bar
    page.press("open", 1)
    page.js("document.querySelector('#word [data-do=open]').focus()")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert focused() == "open"
    assert page.js("return document.activeElement.dataset.with") == "1"
    page.press("swap", "")
    assert page.js("return document.activeElement.dataset.with") == "2"  # the swapped


def test_what_changes_is_announced_in_a_sentence(page):
    told = page.text("#status")
    assert "the model says" in told and ", not " not in told
    page.press("switch", 3)
    told = page.text("#status")
    assert told.startswith("L1H4 off") and ", not chases" in told


def test_what_stays_the_same_is_not_announced_as_another(browser, page):
    link = "#s=the+cat+near+the+dogs&row=5&swap=2.cats&off=L1H2&untrained=1"
    page = Page(browser, page.file, link)
    assert re.search(r"still says (\S+) 2% \(2% before\)\.$", page.text("#status"))


def test_the_status_does_not_hide_what_has_the_keyboard(browser, page):
    size = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    try:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.press("task", 0)
        page.js("document.querySelector('.carry button:last-child').focus()")
        page.browser.switch_to.active_element.send_keys(Keys.ENTER)
        for _ in range(12):  # over the cards, into the map
            page.browser.switch_to.active_element.send_keys(Keys.TAB)
            covered = page.js(
                "return document.activeElement.getBoundingClientRect().bottom -"
                "document.getElementById('status').getBoundingClientRect().top"
            )
            assert covered <= 0
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_escape_leaves_the_menu_of_a_word(page):
    page.press("open", 2)
    page.one("#word .chip").send_keys(Keys.ESCAPE)
    assert not page.all("#word .chip")
    assert page.js("return document.activeElement.dataset.with") == "2"


def test_a_language_that_lacks_the_examples(browser, default, tmp_path, monkeypatch):
    """Words of them are not known any more, or not said: the page does without."""
    path, opened = tmp_path / "explorer.html", []
    kept = ("the dog eats the bone", "dog", "horse")
    unsaid = ("the hungry little brown fox sleeps", "hungry", "sleepy")
    lacking = ("the lion sleeps", "the", "two"), ("the cat sleeps", "cat", "lion")
    for examples in ((*lacking, unsaid, kept), lacking):
        monkeypatch.setattr(attention_demo, "EXAMPLES", examples)
        attention_demo.write_page(*default, [], path)
        page = Page(browser, path.as_uri())
        text = page.one("#text").get_attribute("value")
        assert [chip.text for chip in page.all("#examples .chip")] == [text]
        assert train.in_language(train.read(text)) and page.text("#say") == ""
        opened.append(text)
        tasks = [task.text for task in page.all(".task b")]
        for task in range(len(tasks)):
            page.press("task", task)
        assert browser.get_log("browser") == []
    assert opened[0] == kept[0] and tasks == ["1. Before training"]


def test_a_model_is_not_said_to_show_what_it_does_not(browser, default, tmp_path):
    model, held_out = train.untrained(default[0].config), default[1]
    path = tmp_path / "explorer.html"
    roles = train.measure(model, train.HeldOut(count=200))
    attention_demo.write_page(model, held_out, roles, path)
    page = Page(browser, path.as_uri())
    assert [task.text for task in page.all(".task b")] == ["1. Before training"]
    assert page.text(".job") == page.all(".job")[-1].text
    assert "learned none of the measured relations" in page.text(".job")


def test_a_link_keeps_the_state(browser, page):
    page.press("task", 1)
    page.press("switch", 0)
    page.press("patch", 1)
    page.press("model", "untrained")
    link = page.one("#link").get_attribute("href")
    told = parse_qs(urlparse(link).fragment)
    assert told["off"] == ["L1H1"] and told["patch"] == ["L1H2"]
    time.sleep(0.3)  # the address follows a little later
    assert browser.current_url == link
    seen = [page.text(f"#{part}") for part in ("ribbon", "swap", "cards", "next")]
    again = Page(browser, page.file, "#" + urlparse(link).fragment)
    assert seen == [
        again.text(f"#{part}") for part in ("ribbon", "swap", "cards", "next")
    ]
    page.js("location.hash = '#s=this+sheep+sleeps&head=L1H2&row=2'")
    time.sleep(0.1)
    assert page.one("#text").get_attribute("value") == "this sheep sleeps"
    assert page.text("#big h2").startswith("L1H2")
    page.press("reset", "")
    assert page.text("#swap") == ""


@pytest.mark.parametrize(
    "link",
    [
        "#s=",
        "#s=%22%3E%3Cimg src=x onerror=alert(1)%3E&row=99&at=-1",
        "#s=the&head=L9H9&off=L0H0..x&swap=7.cat&patch=no&row=1e3",
        "#nonsense",
        "#s=" + "the+cat+" * 30,
    ],
)
def test_a_broken_link_does_not_break_the_page(browser, page, link):
    assert Page(browser, page.file, link).all("#map .cell")


def test_the_tasks_work_and_can_be_closed(page):
    for task in range(4):
        page.press("task", task)
        assert page.text("#next")
    assert page.one('[data-with="untrained"]').get_attribute("aria-pressed") == "true"
    for task in range(4):
        page.press("close", task)
    assert not page.one("#tasks").is_displayed()


def test_the_shares_of_a_deeper_model_need_not_sum(browser, tmp_path):
    config = GPTConfig(n_layer=2, n_head=2, n_embd=32)
    model, _ = train.train(config, train.TrainConfig(steps=100))
    path, held_out = tmp_path / "two.html", train.HeldOut(count=300)
    attention_demo.write_page(model, held_out, [], path)
    page = Page(browser, path.as_uri())
    page.press("task", 0)
    assert len(page.all(".carry button")) == 4
    assert "need not sum to 100%" in page.text("#swap")
    shared_out = []
    for head in range(4):  # each switched off alone, in both sentences
        page.press("switch", head)
        swap = page.text("#swap")
        shared_out += ["All heads together: 100%" in swap]
        assert shared_out[-1] or "no decision to share out" in swap
        page.press("switch", head)
    assert any(shared_out)


def test_nothing_is_asked_of_a_network(browser, page):
    page.press("task", 0)
    told = [json.loads(entry["message"]) for entry in browser.get_log("performance")]
    sent = [
        entry["message"]["params"]["request"]["url"]
        for entry in told
        if entry["message"]["method"] == "Network.requestWillBeSent"
    ]
    assert {url.split("#")[0] for url in sent} - {"about:blank", "data:,"} == {
        page.file
    }


CONTRAST = """
const lum = (c) => c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((t, v, i) => t + v * [.2126, .7152, .0722][i], 0);
const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
const bad = [];
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
  if (e.matches("script, style")) continue;
  let under = e;
  while (under && (rgb(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0) under = under.parentElement;
  const pair = [getComputedStyle(e).color, getComputedStyle(under ?? document.body).backgroundColor].map((c) => lum(rgb(c).slice(0, 3)));
  const ratio = (Math.max(...pair) + .05) / (Math.min(...pair) + .05);
  if (ratio < 4.5) bad.push(`${e.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
}
return bad;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_it_fits_every_screen_and_can_be_read(browser, page, width, scheme):
    try:
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1}
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**size, "mobile": width < 500}
        )
        longest = "the+hungry+cat+near+the+sleepy+butterfly+watches+the+same+butterfly"
        for link in (
            f"#s={longest}&row=7&swap=2.thirsty&patch=L1H1&off=L1H2",
            "#s=the+extraordinarilyunknownwordthatneverends+cat",
            "",
        ):
            opened = Page(browser, page.file, link)
            if link:
                opened.js("document.querySelector('[data-do=open]').click()")
            wide = opened.js("return document.documentElement.scrollWidth")
            assert wide <= width, link
            cells = opened.js(
                "return [...document.querySelectorAll('#map .cell, #map .top, .num')]"
                ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
            )
            assert cells == []
            assert opened.js(CONTRAST) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_answers_at_once(page):
    """The best of three rounds: other tests run beside it."""
    assert min(statistics.median(page.js(benchmark.CLICKS)) for _ in range(3)) <= 50


def data_of(text):
    return json.loads(text.split('id="toy-gpt">')[1].split("</script>")[0])


def text_of(address):
    return Path(url2pathname(urlparse(address).path)).read_text(encoding="utf-8")


def test_the_page_is_small_and_plain(file):
    text = text_of(file)
    assert len(text.encode()) <= 300_000
    assert text.count("\n") <= 701  # of them one is data
    for word in ("http:", "https:", "stylesheet", "import(", "fetch(", "src="):
        assert word not in text
    means = data_of(text)["trained"]["means"]
    assert all(math.isfinite(number) for head in means[0] for number in head)


def test_the_page_in_the_repository_is_of_today(file):
    """It holds the language of today, and a model of it: else write it anew."""
    kept, today = data_of(text_of(ASSET.as_uri())), data_of(text_of(file))
    same = ("config", "heads", "vocabulary", "kinds", "shapes", "machine", "examples")
    stale = [name for name in same if kept[name] != today[name]]
    assert stale == []
    model = GPT(GPTConfig(**kept["config"])).eval()
    numbers = base64.b64decode(kept["trained"]["weights"])
    numbers = torch.tensor(array.array("f", numbers))  # little-endian, as machines are
    sizes = [math.prod(shape) for _, shape in kept["shapes"]]
    parts = zip(kept["shapes"], numbers.split(sizes))
    model.load_state_dict({name: t.view(shape) for (name, shape), t in parts})
    loss, floor = train.loss_and_floor(model)
    assert loss < 1.02 * floor
