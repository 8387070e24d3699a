"""The page in a real Chromium, before the real server."""

import base64
import contextlib
import io
import re

import numpy as np
import pytest
from PIL import Image

from ppseg_jax.data.labels import CITYSCAPES
from ppseg_jax.encryption import get_scheme, reference
from ppseg_jax.pictures import pad, read_rgb
from tests.helpers import photo
from tests.server import browser
from tests.server.test_page_code import assembled

playwright = pytest.importorskip(
    "playwright.sync_api", reason="no playwright; it is in the extra test"
)
pytestmark = pytest.mark.skipif(not browser.CHROMIUM, reason="no chromium")

playwright.expect.set_options(timeout=30_000)
KEY = np.array([11, 22, 33, 2**32 - 44], np.uint32)
BLOCK = 8


@pytest.fixture
def url(server):
  return f"http://127.0.0.1:{server.client.port}/"


@pytest.fixture(scope="module")
def chromium():
  """(the browser, all that it sends)."""
  sent = []
  with contextlib.ExitStack() as stack:
    through = stack.enter_context(browser.proxy(sent))
    driver = stack.enter_context(playwright.sync_playwright())
    program = driver.chromium.launch(
        executable_path=browser.CHROMIUM, args=["--no-sandbox"],
        # The proxy is for this machine's addresses, too.
        proxy={"server": through, "bypass": "<-loopback>"},
    )
    stack.callback(program.close)
    yield program, sent


@pytest.fixture
def visit(chromium, server, url):
  """Opens the page anew, of a width and colours; its key is always KEY.

  `told`: what the server's model says in the place of what it does.
  """
  program, sent = chromium
  complaints, contexts = [], []

  def open_page(width=1000, colours="light", **told):
    context = program.new_context(
        viewport={"width": width, "height": 800}, color_scheme=colours
    )
    contexts.append(context)
    page = context.new_page()
    page.add_init_script(
        "crypto.getRandomValues = (words) => {"
        f" words.set({KEY.tolist()}); return words; }}"
    )
    page.on("console", lambda message: complaints.append(message.text)
            if "503" not in message.text else None)  # busy: it asks again
    page.on("pageerror", lambda error: complaints.append(str(error)))
    if told:
      page.route("**/v1/model", lambda route: route.fulfill(
          json=server.client.json("/v1/model") | told
      ))
    sent.clear()
    page.goto(url)
    playwright.expect(page.locator("#model")).not_to_be_empty()
    return page

  open_page.sent, open_page.complaints = sent, complaints
  yield open_page
  for context in contexts:
    context.close()


def picture_file(folder, name="my_street.png", height=14, width=21, **options):
  path = folder / name
  Image.fromarray(photo(height, width)).save(path, **options)
  return path


def choose(page, *paths):
  page.set_input_files("#files", paths)
  wait_for(page, len(paths))


def wait_for(page, count=1):
  state = page.locator("article .state")
  playwright.expect(state).to_have_count(count)
  for one in state.all():
    playwright.expect(one).to_have_text(
        re.compile("^done|[^.…]\\.$"), timeout=60_000
    )


def drop(page, path):
  content = base64.b64encode(path.read_bytes()).decode()
  transfer = page.evaluate_handle(
      """([content, name]) => {
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], name));
        return transfer;
      }""", [content, path.name],
  )
  page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
  wait_for(page)


def uploads(sent):
  return [one for one in sent if one.method != "GET"]


def upload_of(sent):
  """What was posted: one picture, the very same again if a server is busy."""
  posts = [one for one in sent if one.method == "POST"]
  assert len({(one.url, one.body) for one in posts}) == 1
  return posts[-1]


def drawn(page, place):
  """uint8 [H, W, 4] of a canvas, as the page drew it."""
  content, height, width = page.evaluate(
      """(place) => {
        const canvas = document.querySelector(place);
        const { width, height } = canvas;
        const { data } =
          canvas.getContext("2d").getImageData(0, 0, width, height);
        const text = Array.from(data, (v) => String.fromCharCode(v)).join("");
        return [btoa(text), height, width];
      }""", place,
  )
  pixels = np.frombuffer(base64.b64decode(content), np.uint8)
  return pixels.reshape(height, width, 4)


def pixels_of(png):
  return np.asarray(Image.open(io.BytesIO(png)))


def encrypted(path, scheme="blockwise"):
  return reference.encrypt(
      get_scheme(scheme), KEY, pad(read_rgb(path), BLOCK), BLOCK
  )


def test_what_is_sent_is_bit_for_bit_what_python_encrypts(visit, tmp_path):
  path = picture_file(tmp_path)
  page = visit()
  drop(page, path)
  upload = upload_of(visit.sent)
  assert upload.url.endswith("v1/segment?scheme=blockwise&block=8")
  np.testing.assert_array_equal(pixels_of(upload.body), encrypted(path))
  np.testing.assert_array_equal(
      drawn(page, ".cipher canvas")[..., :3], encrypted(path)
  )
  np.testing.assert_array_equal(
      drawn(page, ".plain canvas")[..., :3], read_rgb(path)
  )
  # The answer: what the server said, without the padding.
  labels = pixels_of(upload.answer)[:14, :21]
  np.testing.assert_array_equal(
      drawn(page, ".answer canvas.over")[..., :3],
      np.array(CITYSCAPES.colours, np.uint8)[labels],
  )
  found = np.bincount(labels.ravel())
  largest = CITYSCAPES.names[found.argmax()]
  first = page.locator(".legend li").first
  playwright.expect(first).to_contain_text(f"{largest} ")
  assert page.locator("#leak").inner_text() == get_scheme("blockwise").leaks
  with page.expect_download() as download:
    page.click(".save")
  assert download.value.suggested_filename == "my_street.png"
  np.testing.assert_array_equal(
      pixels_of(download.value.path().read_bytes()), labels
  )
  assert visit.complaints == []


def test_a_jpeg_photograph_is_sent_upright_and_as_python_reads_it(
    visit, tmp_path
):
  turned = Image.Exif()
  turned[0x112] = 6
  path = picture_file(tmp_path, "phone.jpg", 24, 16, exif=turned)
  page = visit()
  choose(page, path)
  upload = upload_of(visit.sent)
  assert read_rgb(path).shape == (16, 24, 3)
  np.testing.assert_array_equal(pixels_of(upload.body), encrypted(path))
  assert visit.complaints == []


def test_nothing_else_leaves_the_browser(visit, url, tmp_path):
  path = picture_file(tmp_path, "private_name.png")
  page = visit()
  choose(page, path)
  assert {one.url[: len(url)] for one in visit.sent} == {url}
  assert upload_of(visit.sent)
  for one in visit.sent:
    assert "private_name" not in one.url + one.headers
    assert b"private_name" not in one.body
    assert "cookie" not in one.headers.lower()
    assert one.method == "POST" or not one.body
    policy = one.answer_headers["content-security-policy"]
    assert "connect-src 'self'" in policy and "default-src 'none'" in policy
  assert any(one.url.endswith("/worker.js") for one in visit.sent)
  # And where code of the page tried to:
  refused = page.evaluate(
      """() => fetch("http://127.0.0.1:9/").then(() => false, () => true)"""
  )
  assert refused and "http://127.0.0.1:9/" not in {o.url for o in visit.sent}


def test_a_hidden_layout_is_put_together_in_the_browser(visit, tmp_path):
  path = picture_file(tmp_path)
  logits = np.random.default_rng(0).normal(size=(2, 3, 19)).astype(np.float16)
  answer, bodies = io.BytesIO(), []
  np.save(answer, logits)

  def segment(route):
    assert route.request.headers["accept"] == "application/x-npy"
    bodies.append(route.request.post_data_buffer)
    route.fulfill(body=answer.getvalue(), content_type="application/x-npy")

  page = visit(scheme="blockwise_hidden", hidden={"bands": 0})
  page.route("**/v1/segment*", segment)
  choose(page, path)
  (body,) = bodies
  np.testing.assert_array_equal(
      pixels_of(body), encrypted(path, "blockwise_hidden")
  )
  labels = assembled(logits, "blockwise_hidden", KEY, BLOCK)[:14, :21]
  assert len(np.unique(labels)) > 3
  np.testing.assert_array_equal(
      drawn(page, "canvas.over")[..., :3],
      np.array(CITYSCAPES.colours, np.uint8)[labels],
  )


def test_all_of_it_works_with_the_keyboard(visit, tmp_path):
  page = visit()
  # Choosers are caught from now on, and not only once Enter may be pressed.
  page.on("filechooser", lambda _: None)
  page.keyboard.press("Tab")
  assert page.evaluate("document.activeElement.id") == "files"
  with page.expect_file_chooser() as chooser:
    page.keyboard.press("Enter")
  chooser.value.set_files(picture_file(tmp_path))
  wait_for(page)
  playwright.expect(page.get_by_role("status")).to_contain_text("done")
  for _ in range(2):
    page.keyboard.press("Tab")
  assert page.evaluate("document.activeElement.id") == "opacity"
  page.keyboard.press("End")
  playwright.expect(page.locator("#percent")).to_have_text("100 %")
  playwright.expect(page.locator("canvas.over")).to_have_css("opacity", "1")
  page.keyboard.press("Tab")
  with page.expect_download():
    page.keyboard.press("Enter")
  # Each has a name that is read out.
  for role, name in (("slider", "Opacity of the answer"),
                     ("img", "my_street.png, encrypted"),
                     ("link", "Download labels of my_street.png")):
    playwright.expect(page.get_by_role(role, name=name)).to_have_count(1)
  playwright.expect(page.get_by_label("Choose pictures")).to_have_count(1)


def test_a_phone_scrolls_in_one_direction(visit, tmp_path):
  page = visit(width=320, colours="dark")
  choose(page, picture_file(tmp_path, "a_name_without_an_end_" * 5 + ".png"))
  page.click("summary")
  assert page.evaluate("document.documentElement.scrollWidth") == 320
  heights = [page.locator(place).bounding_box()["y"]
             for place in (".plain", ".cipher", ".answer")]
  assert heights == sorted(set(heights))
  colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
  assert max(map(int, re.findall(r"\d+", colour))) < 64


def test_what_goes_wrong_is_said_in_words(visit, tmp_path):
  page = visit(largest=[16, 24])
  clear = tmp_path / "clear.png"
  Image.fromarray(photo(16, 16)).convert("RGBA").save(clear)
  large = picture_file(tmp_path, "large.png", 64, 100)
  choose(page, clear, large)
  clear_card, large_card = page.locator("article").all()
  playwright.expect(clear_card).to_contain_text(
      "has transparency, and only 8-bit grey and RGB pictures are taken"
  )
  playwright.expect(large_card).to_contain_text(
      "has 100x64 pixels, and this server takes 24x16 at most"
  )
  assert not uploads(visit.sent)
  page.get_by_label("Shrink larger pictures").check()
  page.set_input_files("#files", [large])
  playwright.expect(page.locator("article").last).to_contain_text(
      "done, 24x15 pixels."
  )
  playwright.expect(page.get_by_role("status")).to_have_text(
      "1 of 3 pictures done, 2 refused."
  )


def test_a_busy_server_is_asked_again_and_a_refusal_is_shown(visit, tmp_path):
  answers = [
      {"status": 503, "headers": {"Retry-After": "1"},
       "json": {"error": "The server has as much to do as it takes."}},
      {"status": 409, "json": {"error": "This server reads another scheme."}},
      {"status": 200, "body": b"no picture"},
  ]
  page = visit()
  page.route("**/v1/segment*", lambda route: route.fulfill(**answers.pop(0)))
  page.set_input_files("#files", [picture_file(tmp_path)])
  card = page.locator("article").first
  playwright.expect(card).to_contain_text("trying again in 1 s")
  playwright.expect(card).to_contain_text("This server reads another scheme.")
  page.set_input_files("#files", [picture_file(tmp_path)])
  playwright.expect(page.locator("article").last).to_contain_text(
      "The server's answer is damaged"
  )
  assert not answers


def test_a_server_that_wants_plain_pictures_gets_none(visit):
  page = visit(scheme="plain", leak="The image.")
  playwright.expect(page.locator("#status")).to_contain_text("'plain'")
  playwright.expect(page.locator("#files")).to_be_disabled()
  playwright.expect(page.locator("#leak")).to_have_text("The image.")
