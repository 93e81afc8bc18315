"""The inputs: requests with oddities that RFC 9110 and RFC 9112 decide, most of them from tests/http/request_cases.cpp.
Left out are those where a server that is wrong could be led past a check: two framings of one message, and the like."""

from typing import NamedTuple


class Case(NamedTuple):
    name: str
    clause: str
    right: str  # the answers that the clause allows: statuses, and "end" behind one if the connection has to close
    input: bytes
    content: bytes = b""  # what the server has to understand if it accepts
    ours: str = ""  # what this server answers instead, on purpose


END = b"\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def line(text):
    return text + b"\r\nHost: a\r\n\r\n"


def target(text):
    return line(b"GET " + text + b" HTTP/1.1")


def field(text):
    return GET + text + END


def host(text):
    return b"GET / HTTP/1.1\r\nHost: " + text + END


def length(text):
    return POST + b"Content-Length: " + text + END + b"abc"


def coding(text):
    return POST + b"Transfer-Encoding: " + text + END + b"3\r\nabc\r\n0\r\n\r\n"


CASES = [
    # The start line.
    Case("a plain request", "9112 3", "200", GET + b"\r\n"),
    Case("two requests at once", "9112 9.3.2", "200 200", 2 * (GET + b"\r\n")),
    Case("an empty line before it", "9112 2.2", "200", b"\r\n" + GET + b"\r\n"),
    Case("two empty lines before it", "9112 2.2", "200|400", b"\r\n\r\n" + GET + b"\r\n"),
    Case("an empty line behind the content", "9112 2.2", "200", POST + b"Content-Length: 1\r\n\r\nx\r\n", b"x"),
    Case("lines that end in LF", "9112 2.2", "200|400", b"GET / HTTP/1.1\nHost: a\n\n"),
    Case("two spaces behind the method", "9112 3", "200|400", line(b"GET  / HTTP/1.1")),
    Case("a space behind the version", "9112 3", "200|400", line(b"GET / HTTP/1.1 ")),
    Case("tabs between the parts", "9112 3", "200|400", line(b"GET\t/\tHTTP/1.1")),
    Case("no version", "9112 3", "400", b"GET /\r\n\r\n"),
    Case("method get", "9110 9.1", "200|405|501", line(b"get / HTTP/1.1")),
    Case("method BREW-IT!", "9110 9.1", "200|405|501", line(b"BREW-IT! / HTTP/1.1")),
    Case("method G(T", "9110 9.1", "400", line(b"G(T / HTTP/1.1")),
    Case("version HTTP/1.2", "9110 2.5", "200", line(b"GET / HTTP/1.2")),
    Case("version HTTP/2.0", "9110 15.6.6", "505", line(b"GET / HTTP/2.0")),
    Case("version HTTP/3.7", "9110 15.6.6", "505", line(b"GET / HTTP/3.7")),
    Case("version http/1.1", "9112 2.3", "400", line(b"GET / http/1.1")),
    Case("version HTTP/1", "9112 2.3", "400", line(b"GET / HTTP/1")),
    Case("version HTTP/1.10", "9112 2.3", "400", line(b"GET / HTTP/1.10")),
    # The target.
    Case("an absolute target", "9112 3.2.2", "200", target(b"http://a/x")),
    Case("an absolute target, https", "9112 3.2.2", "200|421", target(b"HTTPS://a/x")),
    Case("a user in the target", "9110 4.2.4", "200|400", target(b"http://user@a/x")),
    Case("a target without a slash", "9112 3.2", "400", target(b"x")),
    Case("a fragment", "9112 3.2", "400", target(b"/x#y")),
    Case("a quotation mark in the target", "9112 3.2", "400", target(b"/\"x\"")),
    Case("angle brackets in the target", "9112 3.2", "400", target(b"/<x>")),
    Case("braces in the query", "9112 3.2", "400", target(b"/?{x}"), ours="200"),
    Case("UTF-8 in the target", "9112 3.2", "400", target(b"/\xc3\xa4")),
    Case("DEL in the target", "9112 3.2", "400", target(b"/\x7f")),
    Case("OPTIONS *", "9112 3.2.4", "200", line(b"OPTIONS * HTTP/1.1")),
    Case("GET *", "9112 3.2.4", "400", target(b"*")),
    Case("a target of 7,900 bytes", "9112 3", "200", target(b"/" + 7899 * b"x")),
    Case("a target of 70,000 bytes", "9112 3", "200|414", target(b"/" + 69999 * b"x")),
    # The fields.
    Case("no space behind the colon", "9112 5", "200", field(b"A:b")),
    Case("white space around the value", "9112 5.1", "200", field(b"A: \t b \t ")),
    Case("an empty value", "9112 5", "200", field(b"A:")),
    Case("a space before the colon", "9112 5.1", "400", field(b"A : b")),
    Case("a folded line", "9112 5.2", "200|400", field(b"A: b\r\n c")),
    Case("a space before the first field", "9112 2.2", "200|400", b"GET / HTTP/1.1\r\n A: b\r\nHost: a\r\n\r\n"),
    Case("an empty name", "9110 5.1", "400", field(b": b")),
    Case("a line without a colon", "9112 5", "400", field(b"A")),
    Case("a parenthesis in a name", "9110 5.1", "400", field(b"A(b): c")),
    Case("UTF-8 in a name", "9110 5.1", "400", field(b"\xc3\xa4: b")),
    Case("UTF-8 in a value", "9110 5.5", "200", field(b"A: \xc3\xa4")),
    Case("the byte 0x80 in a value", "9110 5.5", "200", field(b"A: \x80")),
    Case("NUL in a value", "9110 5.5", "200|400", field(b"A: b\0c")),
    Case("the byte 1 in a value", "9110 5.5", "200|400", field(b"A: b\x01c")),
    Case("DEL in a value", "9110 5.5", "200|400", field(b"A: b\x7fc")),
    Case("120 fields", "9110 5.4", "200|400|431", field(b"\r\n".join(b"A%d: b" % number for number in range(119)))),
    Case("a value of 7,000 bytes", "9110 5.4", "200|400|431", field(b"A: " + 7000 * b"b")),
    Case("a value of 70,000 bytes", "9110 5.4", "200|400|431", field(b"A: " + 70000 * b"b")),
    # Host.
    Case("no Host", "9112 3.2", "400", b"GET / HTTP/1.1\r\nA: b\r\n\r\n"),
    Case("no Host, HTTP/1.0", "9112 3.2", "200 end", b"GET / HTTP/1.0\r\n\r\n"),
    Case("Host twice, the same", "9112 3.2", "400", field(b"Host: a")),
    Case("an empty Host", "9110 7.2", "200|400", host(b"")),
    Case("Host: [::1]:80", "9110 7.2", "200", host(b"[::1]:80")),
    Case("Host: a:", "9110 7.2", "200", host(b"a:")),
    Case("Host: a b", "9110 7.2", "400", host(b"a b")),
    Case("Host: a:b", "9110 7.2", "400", host(b"a:b")),
    Case("Host: [::1", "9110 7.2", "400", host(b"[::1")),
    # Persistence and expectations.
    Case("HTTP/1.0 with keep-alive", "9112 9.3", "200|200 end", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    Case("Connection: Close", "9112 9.6", "200 end", field(b"Connection: Close")),
    Case("Connection: x, close", "9112 9.6", "200 end", field(b"Connection: x, close")),
    Case("Upgrade: nothing", "9110 7.8", "200", field(b"Connection: upgrade\r\nUpgrade: nothing")),
    Case("Expect: 100-continue, content at once", "9110 10.1.1", "200|100 200",
         POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx", b"x"),
    Case("Expect: 100-Continue without content", "9110 10.1.1", "200|100 200", field(b"Expect: 100-Continue")),
    Case("Expect in HTTP/1.0", "9110 10.1.1", "200 end",
         b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", b"x"),
    Case("another expectation", "9110 10.1.1", "200|417", field(b"Expect: 200-ok")),
    # Content.
    Case("GET with content", "9110 9.3.1", "200|400", GET + b"Content-Length: 1\r\n\r\nx", b"x"),
    Case("POST without a length", "9112 6.3", "200|411", POST + b"\r\n"),
    Case("Content-Length: 003", "9110 8.6", "200", length(b"003"), b"abc"),
    Case("Content-Length: 3, 3", "9110 8.6", "200|400", length(b"3, 3"), b"abc"),
    Case("Content-Length twice, the same", "9110 8.6", "200|400", length(b"3\r\nContent-Length: 3"), b"abc"),
    Case("Content-Length: three", "9110 8.6", "400", length(b"three")),
    Case("Transfer-Encoding: CHUNKED", "9112 7", "200", coding(b"CHUNKED"), b"abc"),
    Case("Transfer-Encoding: rot13, chunked", "9112 6.1", "501", coding(b"rot13, chunked"), b"abc"),
    Case("Transfer-Encoding: gzip", "9112 6.3", "400", coding(b"gzip")),
    Case("a chunk size of 0003", "9112 7.1", "200", CHUNKED + b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
    Case("a chunk size of A", "9112 7.1", "200", CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    Case("a chunk size of g", "9112 7.1", "400", CHUNKED + b"g\r\nabc\r\n0\r\n\r\n"),
    Case("a chunk extension", "9112 7.1.1", "200", CHUNKED + b"3;a\r\nabc\r\n0;x=y\r\n\r\n", b"abc"),
    Case("a quoted chunk extension", "9112 7.1.1", "200", CHUNKED + b"3;a=\"b\"\r\nabc\r\n0\r\n\r\n", b"abc"),
    Case("spaces in a chunk extension", "9112 7.1.1", "200", CHUNKED + b"3 ; a = b\r\nabc\r\n0\r\n\r\n", b"abc"),
    Case("a trailer", "9112 7.1.2", "200", CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\n\r\n", b"abc"),
]
