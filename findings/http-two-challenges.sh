#!/bin/bash
# Three clients of eight do not use their password if the server offers another scheme before Basic.
#
# Expected: WWW-Authenticate is a list of challenges. A client with a password looks for a scheme that it knows, and answers
#   "Bearer realm=…, Basic realm=…" with Basic as it does when each of them has a field of its own.
# Happens: LWP and lynx do not find Basic behind another challenge in the same field. wget2 does not find it in a field of its own
#   either. They end with 401. aria2, curl, links, w3m and wget send the password.
# Who meets it: scripts for services that take tokens from programs and passwords from people, when such a service, or the proxy in
#   front of it, joins its two fields.
# Seen with: libwww-perl 6.68-1, lynx 2.9.0dev.12-1, wget2 1.99.1-2.2, aria2 1.36.0-1, curl 7.88.1-10+deb12u15, links 2.28-1+b2,
#   w3m 0.5.3+git20230121-2, wget 1.21.3-1+deb12u1, Linux 6.18.
# Sources: RFC 9110 11.6.1 and 5.3 (fields of one name may be joined).
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-clients.sh"

cat >"$folder/asks.py" <<'PYTHON'
# Answers 401 to a request without Authorization; the path says if the challenges are in one field or in two.
import http.server
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = "Authorization" in self.headers
        content = b"the page" if known else b"no page"
        self.send_response(200 if known else 401)
        if not known:
            challenges = ['Bearer realm="api"', 'Basic realm="realm"']
            for challenge in [", ".join(challenges)] if self.path == "/one" else challenges:
                self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
PYTHON
names=(aria2 curl links lwp lynx w3m wget wget2)
unpack_clients "${names[@]}"
start python3 "$folder/asks.py"
port=$started
user=user
password=pass
versions
for name in "${names[@]}"; do
    bounded echo "in two fields, $(fetch "$name" "http://127.0.0.1:$port/two")"
    bounded echo "in one field, $(fetch "$name" "http://127.0.0.1:$port/one")"
done
verdict <<'END'
in two fields, aria2: the page
in one field, aria2: the page
in two fields, curl: the page
in one field, curl: the page
in two fields, links: the page
in one field, links: the page
in two fields, lwp: the page
in one field, lwp: status 1: no page
in two fields, lynx: the page
in one field, lynx: status 1: 
in two fields, w3m: the page
in one field, w3m: the page
in two fields, wget: the page
in one field, wget: the page
in two fields, wget2: status 6: 
in one field, wget2: status 6: 
END
