# SPDX-License-Identifier: Apache-2.0
"""GET /: a page that holds nothing but text, whatever a worker is called or says."""
import html.parser

import harness
import test_rpc
from harness import both

VOID = {"meta", "br"}
TAGS = VOID | {"html", "head", "title", "style", "body", "h1", "p", "table", "tr", "th", "td", "small"}


class Page(html.parser.HTMLParser):
    """Rows of cells; AssertionError for what is not balanced, or no tag or attribute of such a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.rows, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS and {n for n, _ in attrs} <= {"lang", "charset", "class"}, (tag, attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def handle_comment(self, data):
        raise AssertionError("a comment: " + data)


class Strange(test_rpc.Case):
    options = ("version=<script>alert(1)</script>&\"'", 'description=</td><img src=x onerror="alert(1)">&amp;')

    def test_page(self):
        r = self.ask("GET", "/")
        self.assertEqual((r.status, r.headers["content-type"]), (200, "text/html; charset=utf-8"))
        policy = [p.strip() for p in r.headers["content-security-policy"].split(";")]
        self.assertLessEqual({"default-src 'none'", "style-src 'unsafe-inline'"}, set(policy))
        self.assertEqual(r.headers["x-content-type-options"], "nosniff")
        page = Page(r.body.decode())
        self.assertIn("agentd <script>alert(1)</script>&\"'", page.texts)
        self.assertEqual(len(page.rows), 6)
        row = dict(zip(page.rows[0], page.rows[1]))
        self.assertEqual((row["Worker"], row["State"], row["Pid"], row["Ports"], row["Description"]),
                         ("web", "UP", "812", "80,443", '</td><img src=x onerror="alert(1)">&amp;'))
        self.assertRegex(row["Since"], test_rpc.SECOND)
        head = self.ask("HEAD", "/")
        self.assertEqual((head.status, head.headers["content-length"]), (200, str(len(r.body))))
        self.assertEqual(self.ask("GET", "/api/v2/").status, 200)
        self.check_envelope(self.client(tcp=True).ask("GET", "/"), 401, False)


@both
class RealOnes(harness.Case):
    cgroup = True

    def test_states(self):
        h = self.host(cgroup=self.cgroup)
        h.worker("a")
        h.worker("no", command="/nowhere/at/all", service="RestartSec=1h")
        h.start()
        h.until("a", "UP")
        h.until("no", "BACKOFF")
        page = Page(h.http("GET", "/").body.decode())
        rows = {r[1]: dict(zip(page.rows[0], r)) for r in page.rows[1:]}
        self.assertEqual((rows["a"]["State"], rows["a"]["Pid"], rows["a"]["Restarts"]), ("UP", str(h.record("a")["pid"]), "0"))
        self.assertTrue(rows["no"]["State"].startswith("BACKOFF"), rows["no"])
        self.assertIn("/nowhere/at/all", rows["no"]["State"])
        h.stop()
