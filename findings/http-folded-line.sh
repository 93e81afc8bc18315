#!/bin/bash
# A header field that is folded over two lines: three programs unfold it, nginx answers 502, and Python's http.client keeps
# the line break inside the value.
#
# Expected: a client unfolds such a line, and a proxy replaces the fold by spaces or answers 502 (RFC 9112 5.2). All clients and
#   proxies here do the first.
# Happens: curl and wget take the answer, and haproxy passes it on. nginx does not: its client gets 502. http.client's value
#   has CR, LF and a space in it, "a\r\n b"; a program that copies it into a header of its own writes two lines.
# Who meets it: programs and proxies in front of old servers, which fold long fields.
# Seen with: nginx 1.22.1-9+deb12u11, haproxy 2.6.12-1+deb12u4, curl 7.88.1-10+deb12u15, wget 1.21.3-1+deb12u1,
#   Python 3.11.2 and 3.11.7, Linux 6.18.
# Sources: RFC 9112 5.2; the documentation of http.client.HTTPResponse.getheader.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"

packages "${clients[@]}" "${proxies[@]}"
python3 --version
answer fold 'HTTP/1.1 200 OK\r\nX-Long: a\r\n b\r\nContent-Length: 4\r\n\r\npage'
serve_answers
with_nginx
with_haproxy
versions
bounded sh -c "echo 'curl: $(curl_gets "http://127.0.0.1:$port/fold")'"
bounded sh -c "echo 'wget: $("$folder/root/usr/bin/wget" -q -t 1 -T 10 -O - "http://127.0.0.1:$port/fold")'"
bounded sh -c "echo 'through nginx: $(curl_gets "http://127.0.0.1:$nginx_port/fold")'"
bounded sh -c "echo 'through haproxy: $(curl_gets "http://127.0.0.1:$haproxy_port/fold")'"
bounded python3 -c "
import http.client
connection = http.client.HTTPConnection('127.0.0.1', $port, timeout=10)
connection.request('GET', '/fold')
answer = connection.getresponse()
print('http.client:', answer.status, answer.read().decode() + ', X-Long is', repr(answer.getheader('X-Long')))
"
verdict <<'END'
curl: 200 page
wget: page
through nginx: 502 (a page)
through haproxy: 200 page
http.client: 200 page, X-Long is 'a\r\n b'
END
