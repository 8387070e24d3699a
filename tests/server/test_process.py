"""The command in a process of its own, without anything that takes a key."""

import re
import signal
import subprocess
import sys
import threading

from tests.helpers import ROOT
from tests.server.helpers import Client, cipher, png
from tests.test_architecture import KEYS

# Whatever would take a key cannot be imported, also later.
WITHOUT_KEYS = f"""
import sys
for name in {sorted(KEYS)} + ["ppseg_jax.client", "ppseg_jax.attacks"]:
  sys.modules[name] = None
from ppseg_jax.models.vit import SIZES, Size
SIZES["demo"] = Size(16, 1, 2)
from ppseg_jax.server.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_serves_without_keys_finishes_what_it_has_and_exits_with_0(run):
  process = subprocess.Popen(
      [sys.executable, "-c", WITHOUT_KEYS, f"--workdir={run[0]}", "--port=0",
       "--sizes=16x24", "--batches=1", "--largest=32x48"],
      cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )
  try:
    lines = [process.stdout.readline() for _ in range(2)]
    assert lines[1].startswith("ready: "), process.communicate()
    client = Client(int(re.search(r":(\d+)/$", lines[1].strip())[1]))
    assert client.labels(cipher(16, 24)).shape == (16, 24)
    answers = []
    asked = threading.Thread(  # of a size that is compiled for meanwhile
        target=lambda: answers.append(client.segment(png(cipher(8, 16))))
    )
    asked.start()
    while b"ppseg_queue 1.0" not in client.get("/metrics")[2]:
      assert asked.is_alive()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    asked.join(30)
    assert [answer[0] for answer in answers] == [200]
    assert process.returncode == 0 and err == ""
    assert out.startswith("stopped")
  finally:
    process.kill()
    process.wait()
