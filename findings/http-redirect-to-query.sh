#!/bin/bash
# "Location: ?page=2" leads aria2 and wget2 to another page, and HTTP::Tiny to an error.
#
# Expected: Location is a reference that is resolved against the URL of the request. One that is a query alone keeps the whole path:
#   from /deep/pages to /deep/pages?page=2. All clients follow it there.
# Happens: aria2 and wget2 drop the last part of the path, and get /deep/?page=2. They are content with what they find there.
#   HTTP::Tiny cannot parse the URL, and reports status 599. Eleven others are right.
# Who meets it: scripts that download from pages in several parts, and from sites that were tried with browsers.
# Seen with: aria2 1.36.0-1, wget2 1.99.1-2.2, HTTP::Tiny of Perl 5.36.0, python3-aiohttp 3.8.4-1+deb12u2, curl 7.88.1-10+deb12u15,
#   python3-httpx 0.23.3-1, links 2.28-1+b2, libwww-perl 6.68-1, lynx 2.9.0dev.12-1, python3-requests 2.28.1+dfsg-1, ruby3.1
#   3.1.7+really3.1.2-0+deb12u1, python3-tornado 6.2.0-3+deb12u4, w3m 0.5.3+git20230121-2, wget 1.21.3-1+deb12u1, Linux 6.18.
# Sources: RFC 9110 10.2.2; RFC 3986 5.2.2 and 5.4.1 ("?y" of "http://a/b/c/d;p?q").
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-clients.sh"

names=(aiohttp aria2 curl httpx links lwp lynx requests ruby tiny tornado w3m wget wget2)
unpack_clients "${names[@]}"
fields='Connection: close\r\nContent-Type: text/plain'
answer pages 'HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: ?page=2\r\nContent-Length: 0\r\n\r\n'
answer 'pages?page=2' "HTTP/1.1 200 OK\r\n$fields\r\nContent-Length: 10\r\n\r\nthe second"
answer '?page=2' "HTTP/1.1 200 OK\r\n$fields\r\nContent-Length: 12\r\n\r\nanother page"
serve_answers
versions
for name in "${names[@]}"; do bounded echo "$(fetch "$name" "http://127.0.0.1:$port/deep/pages")"; done
verdict <<'END'
aiohttp: the second
aria2: another page
curl: the second
httpx: the second
links: the second
lwp: the second
lynx: the second
requests: the second
ruby: the second
tiny: status 1: Cannot parse URL: '?page=2'
tornado: the second
w3m: the second
wget: the second
wget2: another page
END
