#!/bin/bash
# Of a page that is compressed as two gzip members, nine clients of thirteen give the first part, eight of them without an error.
#
# Expected: content of the coding gzip is a gzip file, which is a series of members (as by "cat a.gz b.gz", pigz, bgzip, and logs
#   that are appended to). A client that decodes it gives all of it, as gzip -d does.
# Happens: links, lynx, requests (urllib3) and w3m do. aiohttp, aria2, httpx, LWP, Ruby's Net::HTTP, Tornado, wget and wget2 end
#   behind the first member and report success. curl does, too, but with status 23.
# Who meets it: servers that send stored .gz files with Content-Encoding: gzip, and everything that downloads from them.
#   The page is short, and its length on the wire is right.
# Seen with: python3-aiohttp 3.8.4-1+deb12u2, aria2 1.36.0-1, curl 7.88.1-10+deb12u15, python3-httpx 0.23.3-1, links 2.28-1+b2,
#   libwww-perl 6.68-1, lynx 2.9.0dev.12-1, python3-requests 2.28.1+dfsg-1 with python3-urllib3 1.26.12-1+deb12u4, ruby3.1
#   3.1.7+really3.1.2-0+deb12u1, python3-tornado 6.2.0-3+deb12u4, w3m 0.5.3+git20230121-2, wget 1.21.3-1+deb12u1, wget2
#   1.99.1-2.2, Linux 6.18.
# Sources: RFC 9110 8.4.1.3; RFC 1952 2.2.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-clients.sh"

names=(aiohttp aria2 curl httpx links lwp lynx requests ruby tornado w3m wget wget2)
unpack_clients "${names[@]}"
{ printf one | gzip -n && printf ' two' | gzip -n; } >"$folder/members"
fields='Connection: close\r\nContent-Type: text/plain\r\nContent-Encoding: gzip'
answer members "HTTP/1.1 200 OK\r\n$fields\r\nContent-Length: $(wc -c <"$folder/members")\r\n\r\n"
cat "$folder/members" >>"$folder/answers/members"
serve_answers
versions
for name in "${names[@]}"; do bounded echo "$(fetch "$name" "http://127.0.0.1:$port/members")"; done
bounded echo "gzip -d: $(gzip -d <"$folder/members")"
verdict <<'END'
aiohttp: one
aria2: one
curl: status 23: one
httpx: one
links: one two
lwp: one
lynx: one two
requests: one two
ruby: one
tornado: one
w3m: one two
wget: one
wget2: one
gzip -d: one two
END
