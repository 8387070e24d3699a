"""The report as one HTML page that needs nothing else."""

import base64
import html
import io
import json

import numpy as np
from PIL import Image

from ppseg_jax.experiments.figures import Sample
from ppseg_jax.experiments.records import Line

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem;
  max-width: 70rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #8886; }
th { position: sticky; top: 0; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.missing { color: #c33; }
.text { min-width: 11rem; }
.sample { display: flex; flex-wrap: wrap; gap: .6rem; margin-bottom: 2rem; }
figure { margin: 0; flex: 0 1 21rem; }
figure img { width: 49%; image-rendering: pixelated; }
figcaption { font-size: .8rem; }
.curves { width: 100%; }
pre { overflow-x: auto; font-size: .8rem; }
"""


def _png(picture: np.ndarray, alt: str) -> str:
  data = io.BytesIO()
  Image.fromarray(picture).save(data, format="PNG", optimize=True)
  coded = base64.b64encode(data.getvalue()).decode()
  return (f'<img loading="lazy" alt="{html.escape(alt)}"'
          f' src="data:image/png;base64,{coded}">')


def _table(table: list[list[str]], texts: int) -> str:
  """A table whose first `texts` columns hold text, the others numbers."""
  def cell(tag: str, place: int, text: str) -> str:
    kind = "text" if place < texts else "number"
    kind += " missing" if text == "missing" else ""
    return f'<{tag} class="{kind}">{html.escape(text)}</{tag}>'

  rows = [
      "<tr>" + "".join(
          cell("td" if number else "th", place, text)
          for place, text in enumerate(row)
      ) + "</tr>" for number, row in enumerate(table)
  ]
  return '<div class="wide"><table>' + "\n".join(rows) + "</table></div>"


def _gallery(sample: Sample) -> str:
  def figure(pictures, caption):
    images = "\n".join(_png(picture, alt) for picture, alt in pictures)
    return (f"<figure>{images}<figcaption>{html.escape(caption)}</figcaption>"
            "</figure>")

  figures = [figure(
      [(sample.plain, "input"), (sample.truth, "ground truth")],
      "input and ground truth",
  )]
  figures += [
      figure([(seen, f"what the cloud saw, {name}"), (map_, f"map, {name}")],
             name)
      for name, (seen, map_) in sample.methods.items()
  ]
  return f'<div class="sample">{"".join(figures)}</div>'


def _origins(lines: list[Line]) -> str:
  """The commands of all runs and the versions that their records name."""
  commands, versions = [], {}
  for line in lines:
    job = line.jobs[0]
    row = line.row if line.row.mode != "train" else None
    commands.append(
        f"# {line.row.name}\npython -m ppseg_jax.main "
        + " ".join(job.command(row))
    )
    for record in filter(None, line.records.values()):
      versions[json.dumps(record.versions)] = None
  return (
      f"<pre>{html.escape(chr(10).join(commands))}</pre>"
      + "".join(f"<pre>{html.escape(text)}</pre>" for text in versions)
  )


def render(
    *,
    title: str,
    table: list[list[str]],
    more: list[list[str]],
    classes: list[list[str]],
    samples: list[Sample],
    curves: str,
    lines: list[Line],
) -> str:
  """The page; pictures are inlined, and nothing is loaded from elsewhere."""
  missing = [
      f"{line.row.name}, seed {seed}: {why}"
      for line in lines for seed, why in line.why.items()
  ]
  gaps = "".join(f"<li>{html.escape(text)}</li>" for text in missing)
  coded = base64.b64encode(curves.encode()).decode()
  title = html.escape(title)
  return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
<h1>{title}</h1>
<p>Percent on the held-out split: mean ± sample standard deviation over seeds,
and the count of seeds in brackets; beside the mIoU of a single seed the 95 %
bootstrap interval over images. Every number is that of a run's own record; what
was not run is missing.</p>
{_table(table, 3)}
{f"<details><summary>{len(missing)} missing</summary><ul>{gaps}</ul></details>"
 if missing else ""}
<h2>Other figures</h2>
{_table(more, 1)}
<h2>IoU of each class</h2>
{_table(classes, 1)}
<h2>Samples</h2>
<p>Left what the cloud saw, right its map.</p>
{"".join(map(_gallery, samples)) or "<p>missing</p>"}
<h2>Training</h2>
<p>Thin: single seeds. Thick: their mean.</p>
<img class="curves" alt="training curves"
  src="data:image/svg+xml;base64,{coded}">
<h2>Commands and versions</h2>
<details><summary>of the first seed</summary>{_origins(lines)}</details>
</html>
"""
