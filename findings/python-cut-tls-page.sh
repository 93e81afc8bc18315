#!/bin/bash
# Python's http.client takes a page whose TLS stream was cut for a whole one.
#
# Expected: read() of an answer without Content-Length raises an error when the TLS stream ends without close_notify:
#   ssl.SSLEOFError, or http.client.IncompleteRead, as it does where Content-Length says that bytes are missing.
# Happens: read() returns the part. HTTPSConnection wraps its socket with suppress_ragged_eofs=True, the default, which turns
#   the error into an end of stream; HTTPSConnection has no parameter for it.
# Who meets it: programs on http.client, urllib and what is built on them, with servers that end an answer by closing.
# Seen with: Python 3.11.2, libssl3 3.0.20-1~deb12u2 as the server, Linux 6.18.
# Sources: RFC 8446 6.1; the documentation of ssl.SSLContext.wrap_socket; http/client.py.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/tls-server.sh"

packages libssl-dev=3.0.20-1~deb12u2 libssl3=3.0.20-1~deb12u2 
command -v python3 >/dev/null || cannot "there is no python3"
python3 --version
cat >"$folder/get.py" <<'PYTHON'
import http.client
import os
import ssl

context = ssl.create_default_context(cafile=os.environ["CERTIFICATE"])
connection = http.client.HTTPSConnection("127.0.0.1", int(os.environ["PORT"]), timeout=10, context=context)
connection.request("GET", "/")
print(connection.getresponse().read().decode(), end="")
PYTHON
serve_pages "python3 $folder/get.py"
verdict <<'END'
half of a page
with close_notify: the client ends with status 0
half of a page
without close_notify: the client ends with status 0
END
