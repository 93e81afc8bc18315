#!/bin/bash
# An answer that begins with "http/1.1" in lower case is an answer to curl and nginx, a page to wget, and an error to others.
#
# Expected: the name of the protocol is case-sensitive (RFC 9112 2.3), and every client and proxy refuses another spelling.
# Happens: curl takes it. nginx passes it on with its own spelling. wget takes all of it for a page of HTTP/0.9, writes the
#   head as content, and ends with status 0. haproxy answers 502, and Python's http.client raises BadStatusLine.
# Who meets it: scripts that download with wget from a small device's server that curl was tried with.
# Seen with: nginx 1.22.1-9+deb12u11, haproxy 2.6.12-1+deb12u4, curl 7.88.1-10+deb12u15, wget 1.21.3-1+deb12u1,
#   Python 3.11.2 and 3.11.7, Linux 6.18.
# Sources: RFC 9112 2.3 and 4.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"

packages "${clients[@]}" "${proxies[@]}"
python3 --version
answer lower 'http/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage'
serve_answers
with_nginx
with_haproxy
versions
bounded sh -c "echo 'curl: $(curl_gets "http://127.0.0.1:$port/lower")'"
status=0
page=$("$folder/root/usr/bin/wget" -q -t 1 -T 10 -O - "http://127.0.0.1:$port/lower" | tr -d '\r' | tr '\n' '/') || status=$?
bounded sh -c "echo 'wget: status $status: $page'"
bounded sh -c "echo 'through nginx: $(curl_gets "http://127.0.0.1:$nginx_port/lower")'"
bounded sh -c "echo 'through haproxy: $(curl_gets "http://127.0.0.1:$haproxy_port/lower")'"
bounded python3 -c "
import http.client
connection = http.client.HTTPConnection('127.0.0.1', $port, timeout=10)
connection.request('GET', '/lower')
try:
    print('http.client:', connection.getresponse().status)
except http.client.HTTPException as error:
    print('http.client:', type(error).__name__)
"
verdict <<'END'
curl: 200 page
wget: status 0: http/1.1 200 OK/Content-Length: 4//page
through nginx: 200 page
through haproxy: 502 (a page)
http.client: BadStatusLine
END
