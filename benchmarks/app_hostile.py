"""A thousand and more uploads and requests that nobody should send to the app: `python benchmarks/app_hostile.py`.

Sent are damaged and mutated images of all formats (`hostile.images`: flipped bytes, lying headers, bombs, other formats behind a .jpg),
polyglots, SVG and HTML, under names with HTML, paths, line ends and endless length; forms that are none (no boundary, cut, a thousand
parts, odd charsets); headers of another site, another host, of great number and size; and raw bytes. Then the pages are used in a
headless Chromium without a network, with the same names, and with pictures whose marks hold scripts.

An offence is a traceback or a path of this machine in an answer, a status of 500 or above that is not the documented 503 of a full
queue, an answer without the security headers, a name that became an element, a script of theirs that ran, a request that left the
machine, an app that answers a good picture otherwise than before, and a file that is new on the disk, or open, afterwards.
Exit code 1 where there is one. Two minutes for 1,500 with the stand-in of tests/standin.py.
"""
import argparse
import collections
import csv
import io
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from hostile.images import hostile_image, jpeg, saved
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from served import Served, served

Rng = np.random.Generator
EVIL = "<script>window.hit=1</script><img src=x onerror=window.hit=1><svg onload=window.hit=1>"
NAMES = [f"{EVIL}.jpg", f"\"'>{EVIL}", "../../../../etc/passwd", "..\\..\\boot.ini", "a\r\nSet-Cookie: hit=1\r\n\r\n.jpg", "\x00.jpg",
         "x" * 5000, "\u202egpj.exe", "javascript:window.hit=1", "", " ", ".", "con.jpg", "{{7*7}}${7*7}<%=7*7%>", "%3Cscript%3E.jpg",
         "😀" * 300 + ".png", "a'b\"c.jpg"]
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.hit=1'>"
HEADERS = ("content-security-policy", "x-content-type-options", "cache-control", "cross-origin-resource-policy", "referrer-policy")


def pick(rng: Rng, items: Sequence[Any]) -> Any:
    "One of them."
    return items[int(rng.integers(len(items)))]


def good(colour: tuple[int, int, int] = (200, 0, 0)) -> bytes:
    "A picture that the stand-in calls fake."
    return saved(Image.new("RGB", (160, 160), colour), "PNG")


def polyglot(rng: Rng) -> bytes:
    "An image that is a web page or a program as well."
    extra = pick(rng, [EVIL.encode(), b"<?xml version='1.0'?>" + SVG + b"</svg>", b"<?php system('id'); ?>",
                       b"GIF89a/*" + EVIL.encode() + b"*/=1;", b"%PDF-1.4 /JavaScript (window.hit=1)"])
    if rng.random() < 0.5: return good() + extra if rng.random() < 0.5 else extra + good()
    info = PngInfo()
    for key in ("Comment", "Software", "XML:com.adobe.xmp"): info.add_text(key, EVIL)
    info.add_itxt("parameters", EVIL + "trainedAlgorithmicMedia")
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 0, 0)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def big_bomb(rng: Rng) -> bytes:
    "Few bytes, many pixels."
    side = int(rng.integers(8_000, 30_000))
    if side * side <= 150_000_000 and rng.random() < 0.5: return saved(Image.new("1", (side, side)), "PNG")
    data = bytearray(saved(Image.new("L", (16, 16)), "PNG"))
    data[16:24] = side.to_bytes(4, "big") * 2 # a header that lies
    return bytes(data)


def mutated(rng: Rng) -> bytes:
    "One of the images of `hostile_inputs.py`."
    try: return hostile_image(rng)[1]
    except Exception: return rng.bytes(100) # a change that does not suit what another change made


LOTS = {"mutated": (0.75, mutated), "polyglot": (0.1, polyglot), "bomb": (0.03, big_bomb),
        "svg or html": (0.03, lambda rng: SVG + EVIL.encode()), "good": (0.05, lambda rng: good()),
        "noise": (0.04, lambda rng: rng.bytes(int(rng.integers(0, 4000))))}
TYPES = ("image/jpeg", "text/html", "image/svg+xml", "")


def upload(rng: Rng) -> tuple[str, list]:
    "Kind and files of one form."
    kind = str(rng.choice(list(LOTS), p=[share for share, _ in LOTS.values()]))
    return kind, [("picture", (pick(rng, NAMES), LOTS[kind][1](rng), pick(rng, TYPES)))]


PART = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n' + good() + b"\r\n"
STOP = b'--x\r\nContent-Disposition: form-data; name="stop"\r\n\r\n'
BODIES = [b"", b"--x", PART, PART + b"--x--\r\n", PART * 30 + b"--x--\r\n",
          b"--x\r\n" + b"A: b\r\n" * 5000 + b"\r\n\r\n--x--",
          b"a=1&" * 5000, b"--x\r\nContent-Disposition: form-data\r\n\r\nq\r\n--x--",
          STOP + b"9" * 5000 + b"\r\n" + PART + b"--x--\r\n", b'{"a": [' * 9000]
BOUND = "multipart/form-data; boundary=x"
KINDS = [BOUND, BOUND, BOUND, f"{BOUND}; charset=utf-7", f"{BOUND}; charset=punycode", f"{BOUND}; charset=idna", "multipart/form-data", "",
         "multipart/form-data; boundary=", "application/x-www-form-urlencoded", "application/json", "text/html", "image/png",
         "multipart/form-data; boundary=" + "x" * 300, "multipart/mixed; boundary=x"]


def forms(rng: Rng) -> tuple[bytes, dict[str, str]]:
    "A body that is no form, and its headers."
    body = pick(rng, [*BODIES, PART[: int(rng.integers(len(PART)))], rng.bytes(500)])
    return body, {"content-type": pick(rng, KINDS)}


ODD = [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"origin": "http://evil.example"},
       {"origin": "null"}, {"accept": EVIL}, {"sec-fetch-site": "cross-site"}, {"x-forwarded-host": "evil.example"},
       {"cookie": "session_=" + "x" * 2000},
       {"x": "y" * 15_000},
       {f"x-{k}": "y" for k in range(100)}, {"content-encoding": "gzip"}, {"range": "bytes=0-,0-,0-"}, {"expect": "100-continue"},
       {"if-none-match": EVIL}, {"accept-language": EVIL}, {"upgrade": "websocket", "connection": "upgrade"}]
PATHS = ["/", "/look", "/network", "/static/app.js", "/static/../../settings.ini", "/static/%2e%2e%2f%2e%2e%2fsettings.ini",
         "/%00", "//evil.example", f"/{EVIL}", f"/?stop={EVIL}", "/?stop=-1", "/?stop=1e9", "/" + "a/" * 500, "/static/app.js/", "/.env",
         "/favicon.ico", "/look?stop=%ff%fe"]
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT2", "get"]
LOOK = b"POST /look HTTP/1.1\r\nHost: 127.0.0.1\r\n"
RAW = [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00",
       b"GET " + b"/" * 60_000,
       b"\r\n" * 400, LOOK + b"Content-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
       b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
       LOOK + b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
       LOOK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: \x00\xff\r\n\r\n",
       b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"]
LOST = (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError, httpx.LocalProtocolError) # httpx will not send it, or was hung up on


# --- what an answer must not be -----------------------------------------------------------------------------------------

class Elements(HTMLParser):
    "Elements of a page that the app would not make."
    def __init__(self, text: str):
        super().__init__()
        self.theirs: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        "Scripts that are not the app's, frames, and attributes that run something."
        given = dict(attrs)
        runs = [k for k, v in attrs if k.startswith("on") or "javascript:" in (v or "").lower() and k in ("href", "src", "action")]
        if runs or tag in ("iframe", "object", "embed", "base") or tag == "script" and not (given.get("src") or "").startswith("/static/"):
            self.theirs.append(f"{tag} {runs}")


def offences(r: httpx.Response, whole: bool = True) -> Iterator[str]: # what is wrong with an answer
    "Tracebacks, faults, missing headers, names that became elements."
    text = r.text if whole else ""
    if r.status_code >= 500 and not (r.status_code == 503 and "retry-after" in r.headers): yield f"status {r.status_code}"
    if re.search(r"Traceback|File \"|site-packages|\.py\b", text): yield "a traceback"
    if "something went wrong here" in text or "Something went wrong here" in text: yield "a fault of the program"
    if str(Path.home()) in text or str(Path(__file__).resolve().parents[1]) in text or "/tmp/" in text: yield "a path of this machine"
    if r.content != b"Invalid HTTP request received." and any(h not in r.headers for h in HEADERS): yield "no security headers"
    if "html" in r.headers.get("content-type", "") and (theirs := Elements(text).theirs): yield f"an element of theirs: {theirs[0]}"
    if "set-cookie" in r.headers: yield "a cookie"


def ask(app: Served, data: bytes, name: str = "a.png") -> dict:
    "What the app answers to one picture."
    lines = {"accept": "application/x-ndjson"}
    r = httpx.post(f"{app.url}/look", files={"picture": (name, data)}, headers=lines, timeout=60, trust_env=False)
    return json.loads(r.text.splitlines()[-1])["answer"]


def send(app: Served, seed: int, n: int, found: collections.Counter, kinds: collections.Counter) -> None:
    "Sends `n` of them, one after the other."
    with httpx.Client(timeout=60, trust_env=False) as client:
        for k in range(n):
            rng = np.random.default_rng([seed, k])
            lot = rng.random()
            try: kind, wrong = one(app, client, rng, lot)
            except httpx.HTTPError as e: kind, wrong = "lost", [] if isinstance(e, LOST) else [type(e).__name__]
            except UnicodeError: kind, wrong = "not sent", []
            kinds[kind] += 1
            for offence in wrong: found[f"{kind}: {offence}"] += 1
            if wrong: print(f"  seed {seed}, request {k}, {kind}: {', '.join(wrong)}", flush=True)


def one(app: Served, client: httpx.Client, rng: Rng, lot: float) -> tuple[str, list[str]]: # its kind, and offences
    "Sends one of them."
    if lot < 0.7:
        kind, files = upload(rng)
        lines = {"accept": "application/x-ndjson"} if rng.random() < 0.5 else {}
        r = client.post(f"{app.url}/look", files=files, headers=lines, data={"stop": pick(rng, ["3", EVIL, "-1", "9" * 400])})
        return f"upload, {kind}", list(offences(r))
    if lot < 0.8:
        body, lines = forms(rng)
        return "form", list(offences(client.post(f"{app.url}/look", content=body, headers=lines)))
    if lot < 0.93:
        method, path, lines = pick(rng, METHODS), pick(rng, PATHS), pick(rng, ODD)
        return "head", list(offences(client.request(method, app.url + path, headers=lines), whole="static" not in path))
    host, port = app.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.settimeout(1)
        s.sendall(pick(rng, [*RAW, rng.bytes(200)]))
        try: got = s.recv(200_000)
        except TimeoutError: got = b"" # it waits for the rest
    return "raw", [f"raw: {got[:60]!r}"] if got and (b"Traceback" in got or re.match(rb"HTTP/1.1 5", got)) else []


# --- in the browser ---------------------------------------------------------------------------------------------------

def browser() -> str | None:
    "Where a Chromium is."
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


def in_browser(app: Served, n: int = 40) -> list[str]: # what is wrong
    "Uses the page in a browser that reaches this machine alone."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser(), args=BROWSER)
        wrong = [w for script in (True, False) for w in use_page(chromium, app, n if script else 15, script)]
        chromium.close()
    return list(dict.fromkeys(wrong))


def use_page(chromium: Any, app: Served, n: int, script: bool = True) -> list[str]: # what is wrong
    "Sends pictures with hostile names through the page: nothing of theirs may run, or ask for anything outside."
    wrong, rng, names = [], np.random.default_rng(7), [name.replace("\x00", "").replace("/", "_")[:200] or "x" for name in NAMES]
    files = [dict(name=names[k % len(names)], mimeType="image/svg+xml" if k % 3 else "image/png",
                  buffer=polyglot(rng) if k % 2 else jpeg(rng)) for k in range(n)]
    page = chromium.new_context(java_script_enabled=script).new_page()
    page.on("dialog", lambda d: (wrong.append(f"dialog {d.message}"), d.dismiss()))
    page.on("request", lambda r: r.url.startswith((app.url, "data:", "blob:")) or wrong.append(f"request leaves: {r.url[:80]}"))
    page.on("pageerror", lambda e: wrong.append(f"script error: {e}"))
    page.on("console", lambda m: m.type == "error" and "/look" not in m.text and wrong.append(f"console: {m.text[:120]}"))
    page.goto(app.url)
    page.set_input_files("#picture", files)
    page.click("text=Ask the network")
    if script: page.locator("#status", has_text=f"{n} of {n} answered.").wait_for(timeout=120_000)
    else: page.locator(f"#answers article >> nth={n - 1}").wait_for(timeout=120_000)
    if script and page.evaluate("window.hit"): wrong.append("a script of theirs ran")
    theirs = [f"#answers {e}" for e in ("script", "iframe", "[onerror]", "[onload]", "[href^=javascript]")]
    inside = page.locator(", ".join(theirs)).count()
    if inside: wrong.append(f"{inside} elements of theirs stand in the page")
    page.close()
    return wrong


def main() -> int: # exit code
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a bundle or a run folder; without it a stand-in")
    parser.add_argument("--requests", type=int, default=1500, help="how many (1,500)")
    parser.add_argument("--seed", type=int, default=1, help="of all of them (1)")
    parser.add_argument("--out", type=Path, help="a CSV file for what was sent, by kind")
    args, found, kinds, began = parser.parse_args(), collections.Counter(), collections.Counter(), time.monotonic()
    with served(args.model) as app:
        before = ask(app, good())
        for part in range(0, args.requests, 250):
            send(app, args.seed + part, min(250, args.requests - part), found, kinds)
            print(f"{min(part + 250, args.requests):,} of {args.requests:,}, {time.monotonic() - began:.0f} s", flush=True)
        wrong = in_browser(app) if browser() else []
        if not browser(): print("no Chromium was found: nothing was tried in a browser")
        if ask(app, good()) != before: wrong.append("a good picture has another answer than before")
        time.sleep(0.5)
        left, log, peak = app.left(), app.log(), {k: round(v) for k, v in app.peak.items()}
    if re.search(r"Traceback|passwd|<script|\.jpg", log): wrong.append("the log holds a traceback or a name")
    print(f"sent: {dict(kinds)}\noffences: {dict(found) or 'none'}\nin the browser and after: {wrong or 'nothing wrong'}")
    print(f"left on the disk, or open: {left or 'nothing'}\nmost memory of the processes, MB: {list(peak.values())}")
    print(f"{time.monotonic() - began:.0f} s")
    if args.out:
        with open(args.out, "w", newline="", encoding="utf-8") as f:
            rows = [(k, v, sum(n for o, n in found.items() if o.startswith(k))) for k, v in sorted(kinds.items())]
            csv.writer(f).writerows([("kind", "sent", "offences"), *rows])
    return int(bool(found or wrong or left))


if __name__ == "__main__":
    sys.exit(main())
