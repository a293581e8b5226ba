# SPDX-License-Identifier: Apache-2.0
"""Raw requests that try to hide a second one, and readers that are lax enough to find it.

Each message is one request by RFC 9112, or none: what hides in it (SMUGGLED, a restart of the worker `marker`) must never be
done. Those that say two=True really are two. lax() is the proof that a message is dangerous: at least one careless reading sees
SMUGGLED as a request of its own. partial: the message lacks its end, so a reader may wait.
"""
import itertools
import re

TOKEN = b"0f1e2d3c4b5a6978"
FIRST, SMUGGLED, NEXT = b"aaaaaaaaaaaaaaaa", b"eeeeeeeeeeeeeeee", b"cccccccccccccccc"
CRLF = b"\r\n"


def head(method, target, trace, version=b"HTTP/1.1"):
    return (b"%s %s %s\r\nHost: agentd\r\nAuthorization: Bearer %s\r\nX-OCP-Trace-ID: %s\r\n" % (method, target, version, TOKEN, trace))


HIDDEN = head(b"POST", b"/agentd/v1/workers/marker/restart", SMUGGLED) + b"Content-Length: 0\r\n\r\n"
AFTER = head(b"GET", b"/agentd/v1/workers/web", NEXT) + CRLF
TARGET = b"/agentd/v1/workers/web/start"
POST = head(b"POST", TARGET, FIRST)
N = b"%d" % len(HIDDEN)


class Message:
    def __init__(self, name, raw, two=False, partial=False):
        self.name, self.raw, self.two, self.partial = name, raw, two, partial


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def length(*lines):
    """HIDDEN is the body of what these lines say, or follows what they don't say."""
    return POST + b"".join(x + CRLF for x in lines) + CRLF + HIDDEN


def cl_te(*lines):
    """Whoever goes by the length sees one; whoever believes `chunked` sees an end before HIDDEN."""
    body = b"0\r\n\r\n" + HIDDEN
    return POST + b"Content-Length: %d\r\n" % len(body) + b"".join(x + CRLF for x in lines) + CRLF + body


def te_cl(*lines):
    """Whoever reads chunks sees one; whoever goes by the length sees HIDDEN behind the first chunk's size."""
    size = b"%x\r\n" % len(HIDDEN)
    return POST + b"Content-Length: %d\r\n" % len(size) + b"".join(x + CRLF for x in lines) + CRLF + chunk(HIDDEN) + b"0\r\n\r\n"


def chunked(body):
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + body


def with_body(line=None, headers=b"", end=CRLF):
    """A whole body, behind a request line or headers that are not right."""
    first, rest = POST.split(CRLF, 1)
    return (first if line is None else line) + CRLF + rest + headers + b"Content-Length: " + N + CRLF + end + HIDDEN


def host(*lines):
    first, _, rest = POST.split(CRLF, 2)
    return CRLF.join([first, *lines, rest]) + b"Content-Length: " + N + CRLF * 2 + HIDDEN


OBFUSCATED = {
    "as it is": b"Transfer-Encoding: chunked", "upper case": b"TRANSFER-ENCODING: CHUNKED", "no blank": b"Transfer-Encoding:chunked",
    "tab": b"Transfer-Encoding:\tchunked", "vertical tab": b"Transfer-Encoding:\x0bchunked", "form feed": b"Transfer-Encoding: \x0cchunked",
    "blank before colon": b"Transfer-Encoding : chunked", "tab before colon": b"Transfer-Encoding\t: chunked", "xchunked": b"Transfer-Encoding: xchunked",
    "identity": b"Transfer-Encoding: identity", "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked", "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked", "comma": b"Transfer-Encoding: , chunked", "quoted": b'Transfer-Encoding: "chunked"',
    "parameter": b"Transfer-Encoding: chunked;q=1", "two lines": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "two lines, other order": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked", "folded": b"Transfer-Encoding:\r\n chunked",
    "behind a bare LF": b"X: y\nTransfer-Encoding: chunked", "behind a bare CR": b"X: y\rTransfer-Encoding: chunked",
    "NUL behind": b"Transfer-Encoding: chunked\x00", "NUL in the name": b"Transfer-Encoding\x00: chunked", "byte order mark": b"Transfer-Encoding: \xef\xbb\xbfchunked",
    "control byte": b"Transfer-Encoding: chunked\x01",
}
# Names that are not Transfer-Encoding: the length alone counts.
NO_CODING = {"underscore": b"Transfer_Encoding: chunked", "prefix": b"X-Transfer-Encoding: chunked", "TE": b"TE: chunked",
             "folded into another": b"X: y\r\n Transfer-Encoding: chunked"}
LENGTHS = {
    "none, then all": (b"Content-Length: 0", b"Content-Length: " + N), "all, then none": (b"Content-Length: " + N, b"Content-Length: 0"),
    "twice the same": (b"Content-Length: " + N,) * 2, "list of the same": (b"Content-Length: %s, %s" % (N, N),),
    "list": (b"Content-Length: 0, " + N,), "list, other order": (b"Content-Length: " + N + b",0",), "plus": (b"Content-Length: +" + N,),
    "minus": (b"Content-Length: -1",), "minus zero": (b"Content-Length: -0",), "hexadecimal": (b"Content-Length: 0x%x" % len(HIDDEN),),
    "decimal point": (b"Content-Length: " + N + b".0",), "exponent": (b"Content-Length: 0e3",), "two words": (b"Content-Length: " + N + b" 0",),
    "zero and a word": (b"Content-Length: 0 " + N,), "empty": (b"Content-Length:",), "blank": (b"Content-Length: \t ",), "2^64": (b"Content-Length: 18446744073709551616",),
    "2^64 and more": (b"Content-Length: %d" % ((1 << 64) + len(HIDDEN)),), "zeros in front": (b"Content-Length: " + b"0" * 300 + N,),
    "vertical tab": (b"Content-Length:\x0b" + N,), "NUL": (b"Content-Length: 0\x00" + N,), "letters behind": (b"Content-Length: " + N + b"abc",),
    "quoted": (b'Content-Length: "' + N + b'"',), "full-width digits": (b"Content-Length: \xef\xbc\x90",), "folded": (b"Content-Length:\r\n " + N,),
    "folded zero": (b"Content-Length: 0\r\n " + N,), "blank before colon": (b"Content-Length : " + N,), "behind a bare LF": (b"X: y\nContent-Length: " + N,),
    "behind a bare CR": (b"X: y\rContent-Length: " + N,), "blanks around": (b"Content-Length: \t " + N + b" \t",), "lower case": (b"content-length:" + N,),
}
EXPECTS = {"as it is": b"Expect: 100-continue", "twice": b"Expect: 100-continue\r\nExpect: 100-continue", "more": b"Expect: 100-continue, tea",
           "behind a word": b"Expect: y 100-continue", "tea": b"Expect: tea"}
HOSTS = {"two": (b"Host: agentd", b"Host: other"), "the same two": (b"Host: agentd",) * 2, "none": (), "empty": (b"Host:",), "list": (b"Host: agentd, other",),
         "blank inside": (b"Host: agentd other",), "NUL": (b"Host: agentd\x00.other",), "blank before colon": (b"Host : agentd",),
         "slash": (b"Host: agentd/x",), "user": (b"Host: other@agentd",), "folded": (b"Host:\r\n agentd",)}
LINES = {
    "two blanks": b"POST  " + TARGET + b" HTTP/1.1", "tab": b"POST\t" + TARGET + b"\tHTTP/1.1", "two blanks behind": b"POST " + TARGET + b"  HTTP/1.1",
    "blank at the end": b"POST " + TARGET + b" HTTP/1.1 ", "blank in front": b" POST " + TARGET + b" HTTP/1.1", "lower case": b"POST " + TARGET + b" http/1.1",
    "1.10": b"POST " + TARGET + b" HTTP/1.10", "01.1": b"POST " + TARGET + b" HTTP/01.1", "1.2": b"POST " + TARGET + b" HTTP/1.2", "2.0": b"POST " + TARGET + b" HTTP/2.0",
    "no version": b"POST " + TARGET, "vertical tab": b"POST " + TARGET + b"\x0bHTTP/1.1", "CR": b"POST " + TARGET + b" HTTP/1.1\r", "absolute": b"POST http://other" + TARGET + b" HTTP/1.1",
    "absolute, the same host": b"POST http://agentd" + TARGET + b" HTTP/1.1", "fragment": b"POST " + TARGET + b"#x HTTP/1.1", "version in the target": b"POST " + TARGET + b"?a HTTP/1.1 HTTP/1.1",
    "CR LF in the target": b"POST " + TARGET + b"?a%0d%0aContent-Length:%200 HTTP/1.1", "NUL in the target": b"POST " + TARGET + b"?\x00 HTTP/1.1",
    "unknown method": b"BREW " + TARGET + b" HTTP/1.1", "lower-case method": b"post " + TARGET + b" HTTP/1.1",
    "asterisk": b"OPTIONS * HTTP/1.1", "trace": b"TRACE " + TARGET + b" HTTP/1.1",
}
HEADERS = {
    "folded": b"X: a\r\n b\r\n", "folded first": b" X: a\r\n", "blank line that is none": b"X: a\r\n \r\n", "NUL in a value": b"X: a\x00b\r\n",
    "NUL in a name": b"X\x00: a\r\n", "control byte": b"X: \x01\r\n", "delete": b"X: \x7f\r\n", "bare CR in a value": b"X: a\rb\r\n", "bare LF in a value": b"X: a\nb: c\r\n",
    "CR CR LF": b"X: a\r\r\n", "no colon": b"nothing\r\n", "no name": b": a\r\n", "blank in a name": b"X Y: a\r\n", "parenthesis": b"X(): a\r\n", "above ASCII": b"X\xe9: a\r\n",
    "above ASCII in a value": b"X: \xe9\xff\r\n", "connection names the length": b"Connection: Content-Length\r\n", "connection names the coding": b"Connection: Transfer-Encoding\r\n",
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    "method by a header": b"X-HTTP-Method-Override: GET\r\n",
}
SIZE = b"%x" % len(HIDDEN)
DONE = b"0\r\n\r\n"
CHUNKS = {
    "as it is": chunk(HIDDEN) + DONE, "upper case": SIZE.upper() + CRLF + HIDDEN + CRLF + DONE, "extension": SIZE + b";a=b" + CRLF + HIDDEN + CRLF + DONE,
    "extension with a quoted end": SIZE + b';a="\r\n"' + CRLF + HIDDEN + CRLF + DONE, "zeros in front": b"0" * 40 + SIZE + CRLF + HIDDEN + CRLF + DONE,
    "0x": b"0x" + SIZE + CRLF + HIDDEN + CRLF + DONE, "plus": b"+" + SIZE + CRLF + HIDDEN + CRLF + DONE, "minus": b"-1" + CRLF + HIDDEN + CRLF + DONE,
    "blank in front": b" " + SIZE + CRLF + HIDDEN + CRLF + DONE, "blank behind": SIZE + b" " + CRLF + HIDDEN + CRLF + DONE,
    "2^64 and more": b"10000000000000000" + CRLF + DONE[3:] + HIDDEN, "no size": CRLF + HIDDEN + CRLF + DONE,
    "bare CR behind the size": SIZE + b"\r" + HIDDEN + CRLF + DONE, "extension, bare CR": SIZE + b";\r" + CRLF + HIDDEN + CRLF + DONE,
    "data without its end": b"3\r\nabc0\r\n\r\n" + HIDDEN, "data that is longer": b"3\r\nabcdef\r\n0\r\n\r\n" + HIDDEN,
    "trailer": chunk(HIDDEN) + b"0\r\nX: y\r\n\r\n", "trailer with a length": chunk(HIDDEN) + b"0\r\nContent-Length: 7\r\n\r\n",
    "trailer with a coding": chunk(HIDDEN) + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "trailer that is a request": b"0\r\n" + HIDDEN,
    "zero and a letter": b"0g\r\n\r\n" + HIDDEN, "not hexadecimal": b"zz\r\n" + HIDDEN + CRLF + DONE, "NUL behind the size": SIZE + b"\x00" + CRLF + HIDDEN + CRLF + DONE,
}
# What waits for more of itself: it must not be two meanwhile.
PARTIAL = {"a length of 2^32": length(b"Content-Length: 4294967296"), "a chunk of 2^32": chunked(b"100000000" + CRLF * 2 + HIDDEN), "a chunk that lacks its end": chunked(b"%x\r\n" % (len(HIDDEN) + 9) + HIDDEN), "no last chunk": chunked(chunk(HIDDEN)),
           "a length that is larger": length(b"Content-Length: %d" % (len(HIDDEN) + 9)), "a head without its end": POST + b"X: " + HIDDEN.replace(CRLF, b" ")}


def messages():
    for name, line in OBFUSCATED.items():
        yield Message("CL.TE " + name, cl_te(line))
        yield Message("TE.CL " + name, te_cl(line))
    for name, line in NO_CODING.items():
        yield Message("CL.TE " + name, cl_te(line))
    for name, lines in LENGTHS.items():
        yield Message("length: " + name, length(*lines))
    for name, line in EXPECTS.items():
        yield Message("expect: " + name, length(line, b"Content-Length: " + N))
    for name, lines in HOSTS.items():
        yield Message("host: " + name, host(*lines))
    for name, line in LINES.items():
        yield Message("line: " + name, with_body(line))
    for name, lines in HEADERS.items():
        yield Message("header: " + name, with_body(headers=lines))
    for name, body in CHUNKS.items():
        yield Message("chunk: " + name, chunked(body))
    for name, raw in PARTIAL.items():
        yield Message("partial: " + name, raw, partial=True)
    for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH"):
        for body in (b"Content-Length: " + N + CRLF * 2 + HIDDEN, b"Transfer-Encoding: chunked" + CRLF * 2 + chunk(HIDDEN) + DONE):
            yield Message("body of %s, %s" % (method.decode(), body[:8].decode()), head(method, TARGET, FIRST) + body)
    old = head(b"POST", TARGET, FIRST, b"HTTP/1.0")
    yield Message("1.0", old + b"Content-Length: " + N + CRLF * 2 + HIDDEN)
    yield Message("1.0, kept", old + b"Connection: keep-alive\r\nContent-Length: " + N + CRLF * 2 + HIDDEN)
    yield Message("1.0, chunked", old + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(HIDDEN) + DONE)
    yield Message("1.0, behind the last", old + b"Content-Length: 0\r\n\r\n" + HIDDEN)
    yield Message("behind the last", POST + b"Connection: close\r\nContent-Length: 0\r\n\r\n" + HIDDEN)
    yield Message("behind the last, by a list", POST + b"Connection: x, Close\r\nContent-Length: 0\r\n\r\n" + HIDDEN)
    yield Message("0.9", b"GET /agentd/v1/workers/web\r\n" + HIDDEN)
    yield Message("0.9, bare", b"GET /agentd/v1/workers/web\r\n\r\n" + HIDDEN)
    yield Message("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN)
    yield Message("TLS", b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03\r\n\r\n" + HIDDEN)
    yield Message("PROXY protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + HIDDEN)
    yield Message("noise", bytes(range(1, 256)) + CRLF * 2 + HIDDEN)
    yield Message("a letter too much", POST + b"Content-Length: 0\r\n\r\nX" + HIDDEN)
    yield Message("bare LF everywhere", with_body().replace(HIDDEN, b"").replace(CRLF, b"\n") + HIDDEN)
    yield Message("bare CR everywhere", with_body().replace(HIDDEN, b"").replace(CRLF, b"\r") + HIDDEN)
    yield Message("LF CR", with_body(end=b"\n\r"))
    yield Message("too many headers", with_body(headers=b"X: y\r\n" * 2000))
    yield Message("too long a header", with_body(headers=b"X: " + b"y" * 40000 + CRLF))
    yield Message("too long a target", with_body(b"POST " + TARGET + b"?" + b"y" * 40000 + b" HTTP/1.1"))
    yield Message("CONNECT, which has no body", with_body(b"CONNECT agentd:80 HTTP/1.1"), two=True)
    yield Message("pipelined", POST + b"Content-Length: 0\r\n\r\n" + HIDDEN, two=True)
    yield Message("pipelined behind a GET", head(b"GET", b"/agentd/v1/workers/web", FIRST) + CRLF + HIDDEN, two=True)
    yield Message("pipelined behind a body", POST + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN, two=True)
    yield Message("pipelined behind an error", head(b"GET", b"/nothing", FIRST) + CRLF + HIDDEN, two=True)


# --- careless readings --------------------------------------------------------------------------------------------------------

EOLS = (rb"\r\n", rb"\r?\n", rb"(?:\r\n|\r(?!\n)|(?<!\r)\n)")
BLANKS = b" \t\x0b\x0c\r\x00\x01\xef\xbb\xbf"


def coding_of(fields, how):
    values = [v for n, v in fields if n == b"transfer-encoding"]
    if how == "ignored" or not values:
        return False
    if how == "loose":
        return any(b"chunked" in v.lower() for v in values)
    return values[0 if how == "first" else -1].lower() == b"chunked"


def length_of(fields, how):
    values = [v for n, v in fields if n == b"content-length"]
    if how == "ignored" or not values:
        return 0
    value = values[0 if how in ("first", "digits", "wraps") else -1]
    value = value.split(b",")[0 if how in ("first", "digits", "wraps") else -1].strip(BLANKS)
    digits = re.match(rb"\+?(\d+)", value)
    if how == "last":
        digits = re.search(rb"(\d+)$", value)
    n = int(digits.group(1)) if digits else 0
    return n % (1 << (32 if n < 1 << 63 else 64)) if how == "wraps" else n


def fields_of(lines, how):
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if how != "strict":
            name = name.strip(BLANKS).replace(b"_", b"-").removeprefix(b"X-") if how == "loose" else name.strip(BLANKS)
            if name.upper() == b"TE":
                name = b"transfer-encoding"
        if colon:
            fields.append((name.lower(), value.strip(BLANKS)))
    return fields


def skip_chunks(raw, how):
    """What is left behind the last chunk; how: up to the first empty line, or by sizes that wrap."""
    if how == "none":
        return raw
    while True:
        m = re.match(rb"\s*(?:0x|[+-])?([0-9a-fA-F]*)[^\r\n]*\r?\n", raw)
        if not m:
            return raw
        size = int(m.group(1) or b"0", 16)
        size %= 1 << (32 if size < 1 << 63 else 64)
        raw = raw[m.end():]
        if not size:
            return raw.removeprefix(CRLF) if how == "bare end" else raw.partition(CRLF)[2] if how == "line" else raw
        raw = raw[size:].lstrip(CRLF)


def lax(raw, eol, names, coding, length_how, chunks):
    """The trace ids of the requests that a reader with these habits would serve."""
    found = []
    while raw:
        m = re.search(b"(?:%s)(?:%s)" % (eol, eol), raw)
        if not m:
            break
        lines, raw = re.split(eol, raw[:m.start()]), raw[m.end():]
        fields = fields_of(lines[1:], names)
        found += [v for n, v in fields if n == b"x-ocp-trace-id"]
        raw = skip_chunks(raw, chunks) if coding_of(fields, coding) else raw[length_of(fields, length_how):]
        raw = re.sub(rb"^[^A-Z]*?(?=[A-Z]{3,7} /)", b"", raw)  # what is no method is skipped
    return found


def readings():
    return itertools.product(EOLS, ("strict", "trimmed", "loose"), ("ignored", "first", "last", "loose"),
                             ("ignored", "first", "last", "digits", "wraps"), ("bare end", "line", "none"))


def dangerous(message):
    """Some careless reader would do what hides in it."""
    return any(SMUGGLED in lax(message.raw, *how) for how in readings())
