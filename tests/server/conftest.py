"""One run that was never trained, and one server of it, for all tests here."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from ppseg_jax.models.vit import SIZES, Size
from ppseg_jax.server import listen, served
from ppseg_jax.server.app import Cloud
from ppseg_jax.server.programs import Programs
from tests.server.helpers import Client, write_run

CROP, LARGEST = (16, 24), (32, 48)


@pytest.fixture(scope="package")
def small():
  """A size that compiles in no time, as `demo`."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(SIZES, "demo", Size(16, 1, 2))
    yield


@pytest.fixture(scope="package")
def run(small, tmp_path_factory):
  """(workdir, its config)."""
  return write_run(tmp_path_factory.mktemp("served") / "run")


@pytest.fixture(scope="package")
def server(run):
  """A server on a port of its own: `cloud`, `client`, `folder`, `config`."""
  folder, config = run
  model = served.load(folder)
  cloud = Cloud(model, Programs(model, [CROP], (1, 2), LARGEST, 3), queue=32)
  listening = listen.bind("127.0.0.1", 0)
  ready, loop = threading.Event(), asyncio.new_event_loop()
  stop = asyncio.Event()
  thread = threading.Thread(target=lambda: loop.run_until_complete(
      listen.serve(cloud, listening, lambda _: ready.set(), stop)
  ))
  thread.start()
  assert ready.wait(300)
  yield SimpleNamespace(
      cloud=cloud, client=Client(listening.getsockname()[1]), folder=folder,
      config=config,
  )
  loop.call_soon_threadsafe(stop.set)
  thread.join(30)
  assert not thread.is_alive()
