"""The documentation's search in pages that are read from a disk, where browsers allow no worker."""

import shutil
from pathlib import Path

import pytest
from chromium import browser as browser

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "<body><script src='../iframe-worker.js'></script></body>"
WORKER = "addEventListener('message', (event) => postMessage([event.data, 2 * event.data]))"
ASK = """async () => {
  const worker = new Worker("workers/twice.js")
  const answers = []
  worker.addEventListener("message", (event) => answers.push(event.data))
  worker.postMessage(3)
  worker.postMessage(4)
  while (answers.length < 2) await new Promise((go) => setTimeout(go, 10))
  const frames = document.querySelectorAll("iframe").length
  worker.terminate()
  return [answers, frames, document.querySelectorAll("iframe").length]
}"""


@pytest.mark.slow
def test_what_a_worker_is_asked_is_answered_without_a_server(browser, tmp_path):
    shutil.copy(DOCS / "iframe-worker.js", tmp_path)
    (tmp_path / "pages" / "workers").mkdir(parents=True)
    (tmp_path / "pages" / "workers" / "twice.js").write_text(WORKER)
    path = tmp_path / "pages" / "page.html"
    path.write_text(PAGE)
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    assert page.evaluate(ASK) == [[[3, 6], [4, 8]], 1, 0]
    assert not errors
