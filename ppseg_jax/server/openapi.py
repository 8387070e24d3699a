"""The interface, described as OpenAPI and as a page without scripts."""

import html
import json

_ERROR = {"content": {"application/json": {"schema": {
    "type": "object", "required": ["error"],
    "properties": {"error": {"type": "string", "description": "A sentence."}},
}}}}
_REFUSALS = {
    "400": "The picture is damaged or cut short, or the query lacks something.",
    "406": "The answer is not to be had in the form that was asked for.",
    "408": "The body did not come in time.",
    "409": "The model reads another scheme or block.",
    "411": "The request does not say its Content-Length.",
    "413": "The body or the image is too large.",
    "415": "The body is none of the kinds that are taken.",
    "422": "The image is not whole in blocks, or not of a size that the model"
           " runs or that could be compiled for.",
    "500": "The server failed.",
    "503": "The server has as much to do, to read or to compile as it takes,"
           " starts or stops (with Retry-After), or compiles for no size but"
           " those it names (without).",
}


def describe(model: dict, most_bytes: int) -> dict:
  """The OpenAPI document of a server whose /v1/model says `model`."""
  binary = {"schema": {"type": "string", "format": "binary"}}
  uploads = {"image/png": binary, "application/x-ppseg-level": {
      **binary, "x-what": "The compact form of what the scheme, or a level of"
      " it, leaves of a picture; see ppseg_jax/encryption/compact.py.",
  }}
  answers = {
      "image/png": {**binary, "x-what": "A palette PNG of class ids, as large"
                    " as the image, in the colours of the classes."},
      "application/x-npy": {**binary, "x-what": "Logits, float16 [h, w,"
                            " classes], of each patch; where the layout is"
                            " hidden of each block, in the upload's order."},
  }

  def get(summary: str, kind: str, **more: str) -> dict:
    said = {"200": "It is so.", **more}
    return {"get": {"summary": summary, "responses": {
        code: {"description": text, "content": {kind: {}}}
        for code, text in said.items()
    }}}

  def named(name: str, kind: str, value: str | int) -> dict:
    return {"name": name, "in": "query", "required": True,
            "schema": {"type": kind, "enum": [value]}}

  page = "application/json"
  return {
      "openapi": "3.1.0",
      "info": {
          "title": "ppseg_jax", "version": model["ppseg_jax"],
          "description": "Segments pictures that were encrypted by their"
          " owner, under keys that this server never has. What an upload shows"
          f" it: {model['leak']}",
      },
      "paths": {
          "/v1/model": get("What is read, and what is answered.", page),
          "/v1/segment": {"post": {
              "summary": "Segments one encrypted picture.",
              "parameters": [named("scheme", "string", model["scheme"]),
                             named("block", "integer", model["block"])],
              "requestBody": {
                  "required": True,
                  "description": "A PNG, 8-bit RGB or grey, or what else is"
                  f" named here, of at most {most_bytes} bytes.",
                  "content": {kind: uploads[kind] for kind in model["uploads"]},
              },
              "responses": {
                  "200": {"description": "The answer, as Accept asks for it.",
                          "content": {k: answers[k] for k in model["answers"]}},
              } | {code: {"description": text, **_ERROR}
                   for code, text in _REFUSALS.items()},
          }},
          "/healthz": get("Whether the server is alive.", page),
          "/readyz": get("Whether it takes pictures.", page,
                         **{"503": "It does not yet, or no more."}),
          "/metrics": get("Its figures, for Prometheus.", "text/plain"),
      },
  }


def page(described: dict) -> str:
  """The document as HTML that loads nothing."""
  rows = []
  for path, ways in described["paths"].items():
    for way, what in ways.items():
      rows.append(f"<h2><code>{way.upper()} {html.escape(path)}</code></h2>"
                  f"<p>{html.escape(what['summary'])}</p>")
      for given in what.get("parameters", ()):
        rows.append(f"<p>Query: <code>{html.escape(given['name'])}="
                    f"{html.escape(str(given['schema']['enum'][0]))}</code></p>")
      if "requestBody" in what:
        kinds = ", ".join(what["requestBody"]["content"])
        rows.append(f"<p>Body: <code>{html.escape(kinds)}</code>,"
                    f" {html.escape(what['requestBody']['description'])}</p>")
      rows.append("<table>")
      for code, answer in what["responses"].items():
        more = "".join(
            f"<br><code>{html.escape(kind)}</code>"
            f" {html.escape(given.get('x-what', ''))}"
            for kind, given in answer.get("content", {}).items()
        )
        rows.append(f"<tr><td>{code}<td>{html.escape(answer['description'])}"
                    f"{more}")
      rows.append("</table>")
  info = described["info"]
  return (
      "<!doctype html><html lang=en><meta charset=utf-8>"
      "<meta name=viewport content='width=device-width'>"
      f"<title>{html.escape(info['title'])}</title>"
      f"<h1>{html.escape(info['title'])} {html.escape(info['version'])}</h1>"
      f"<p>{html.escape(info['description'])}</p>"
      "<p>As <a href=openapi.json>OpenAPI</a>.</p>" + "".join(rows)
      + f"<h2>All of it</h2><pre>{html.escape(json.dumps(described, indent=1))}"
      "</pre></html>"
  )
