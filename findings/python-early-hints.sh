#!/bin/bash
# Python's http.client takes 103 (Early Hints) for the answer, and the answer for that of the next request.
#
# Expected: a client that does not know a status from 100 to 199 skips it and waits for the final answer (RFC 9110 15.2), as
#   http.client does with 100. curl and wget skip 102 and 103.
# Happens: getresponse() returns 103, without content. The answer comes later on the connection, which counts as free. The next
#   request on it gets the answer to the one before. An answer that came with the hints is lost.
# Who meets it: programs that keep connections of http.client, and what is built on it, to servers that send Early Hints
#   to every client. The pages of two requests are exchanged without an error.
# Seen with: Python 3.11.2 and 3.11.7, curl 7.88.1-10+deb12u15, wget 1.21.3-1+deb12u1, Linux 6.18.
# Sources: RFC 9110 15.2; RFC 8297 2; HTTPResponse.begin in http/client.py.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"

packages "${clients[@]}"
python3 --version
cat >"$folder/hints.py" <<'PYTHON'
import http.client
import socket
import threading


hints_read = threading.Event()


def serve(listener):
    connection = listener.accept()[0]
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x.css>; rel=preload\r\n\r\n")
    hints_read.wait(10)  # the answer takes a while, which is what the hints are for
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo")


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=10)
for page in ("one", "two"):
    connection.request("GET", "/" + page)
    answer = connection.getresponse()
    print(f"http.client asks for {page}: {answer.status} {answer.read().decode()}".rstrip())
    hints_read.set()
PYTHON
answer hints 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none'
serve_answers
versions
bounded python3 "$folder/hints.py"
bounded sh -c "echo curl: $(curl_gets "http://127.0.0.1:$port/hints")"
bounded sh -c "echo wget: $("$folder/root/usr/bin/wget" -q -t 1 -T 10 -O - "http://127.0.0.1:$port/hints")"
verdict <<'END'
http.client asks for one: 103
http.client asks for two: 200 one
curl: 200 one
wget: one
END
