#include "http_cases.hpp"

namespace http_cases {

namespace {

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"

constexpr Case response_cases[] = {
    {"9112 4", OK "Content-Length: 0\r\n\r\n", "200:OK"},
    {"9112 4", "HTTP/1.1 404 Not Found at all\r\nContent-Length: 0\r\n\r\n", "404:Not Found at all"},
    {"9112 4", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "200:"},
    {"9112 4", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200:"},
    {"9112 4", "HTTP/1.1 299 \xc3\xa4\r\nContent-Length: 0\r\n\r\n", "299:\xc3\xa4"},
    {"9112 4", "HTTP/1.1  200 OK\r\n\r\n", "!the status is malformed"},
    {"9112 4", "HTTP/1.1\t200 OK\r\n\r\n", "!the version is malformed"},
    {"9112 4", "HTTP/1.1 20 OK\r\n\r\n", "!the status is malformed"},
    {"9112 4", "HTTP/1.1 2000 OK\r\n\r\n", "!the status is malformed"},
    {"9112 4", "HTTP/1.1 2x0 OK\r\n\r\n", "!the status is malformed"},
    {"9110 15", "HTTP/1.1 099 Low\r\n\r\n", "!the status is malformed"},
    {"9110 15", "HTTP/1.1 600 High\r\n\r\n", "!the status is malformed"},
    {"9112 4", "HTTP/1.1 200 O\x01K\r\n\r\n", "!the first line is malformed"},
    {"9112 2.2", "HTTP/1.1 200 OK\n\r\n", "!a line ends in LF without CR"},
    {"9112 2.2", "HTTP/1.1 200 OK\rX", "!a CR has no LF behind it"},
    {"9112 2.2", "\r\n" OK "\r\n", "!the version is malformed"},
    {"9112 2.3", "HTTP/2.0 200 OK\r\n\r\n", "!this version of HTTP is not supported"},
    {"9112 2.3", "HTTP/1.1200 OK\r\n\r\n", "!the version is malformed"},
    {"9112 2.3", "http/1.1 200 OK\r\n\r\n", "!the version is malformed"},
    {"9112 2.3", "ICY 200 OK\r\n\r\n", "!the version is malformed"},
    {"9112 2.3", "<html>", "!the version is malformed"},
    // ── fields ──
    {"9112 5.1", OK "A : b\r\n\r\n", "!white space before the colon of a field"},
    {"9112 5.2", OK "A: b\r\n c\r\n\r\n", "!a field line begins with white space"},
    {"9110 5.5", OK "A: b\x01\r\n\r\n", "!a control character in a field value"},
    {"9110 5.1", OK "A\r\n\r\n", "!a field name is no token"},
    {"9112 9.3", OK "Connection: close\r\nContent-Length: 0\r\n\r\n", "200:OK-close"},
    {"9112 9.3", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "200:OK-old-close"},
    {"9112 9.3", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "200:OK-old"},
    {"9110 7.2", OK "Host: a\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "200:OK-fields=3"},
    {"9110 10.1.1", OK "Expect: anything\r\nContent-Length: 0\r\n\r\n", "200:OK-fields=2"},
    // ── where the content ends ──
    {"9112 6.3", OK "Content-Length: 3\r\n\r\nabc", "200:OK+abc"},
    {"9112 6.3", OK "Content-Length: 3\r\n\r\nab", "200:OK !the stream ended inside a message"},
    {"9112 6.3", OK "\r\nabc", "200:OK+abc"},
    {"9112 6.3", OK "\r\n", "200:OK"},
    {"9112 6.3", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n" OK "Content-Length: 0\r\n\r\n",
     "204:No Content 200:OK"},
    {"9112 6.3", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", "304:Not Modified"},
    {"9112 6.3", "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 1\r\n\r\nx", "100:Continue 200:OK+x"},
    {"9112 6.3", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" OK "Content-Length: 1\r\n\r\nx",
     "103:Early Hints 200:OK+x"},
    {"9110 7.8", "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "101:Switching-upgrade=x"},
    {"9112 6.3", OK "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "!several values of Content-Length"},
    {"9112 6.3", OK "Content-Length: 3, 3\r\n\r\nabc", "!several values of Content-Length"},
    {"9110 8.6", OK "Content-Length: -1\r\n\r\n", "!Content-Length is malformed"},
    {"9112 6.1", CHUNKED "3\r\nabc\r\n0\r\n\r\n", "200:OK+abc"},
    {"9112 6.1", CHUNKED "3\r\nabc\r\n0\r\nA: b\r\n\r\n", "200:OK+abc"},
    {"9112 6.1", CHUNKED "3\r\nab", "200:OK !the stream ended inside a message"},
    {"9112 6.1", CHUNKED "3\r\nabc\r\n0\r\n", "200:OK !the stream ended inside a message"},
    {"9112 6.1", CHUNKED "x\r\n", "200:OK !a chunk size is malformed"},
    {"9112 6.3", OK "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
     "!both Content-Length and Transfer-Encoding"},
    {"9112 6.1", OK "Transfer-Encoding: gzip\r\n\r\n", "!this transfer coding is not supported"},
    {"9112 6.1", OK "Transfer-Encoding: gzip, chunked\r\n\r\n", "!this transfer coding is not supported"},
    {"9112 6.1", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "!Transfer-Encoding in HTTP/1.0"},
    {"9112 8", "HTTP/1.1 200 OK\r\nA: ", "!the stream ended inside a message"},
    {"9112 8", "HTT", "!the stream ended inside a message"},
};

#undef OK
#undef CHUNKED

}  // namespace

std::span<const Case> responses() {
    return response_cases;
}

}  // namespace http_cases
