#!/bin/bash
# A download that is resumed and gets a part of the missing range is complete for curl, wget and wget2.
#
# Expected: a server may answer "Range: bytes=2-" with fewer bytes than are missing, and says so in Content-Range ("bytes 2-5/10").
#   A client that resumes a download asks again for the rest, or ends with an error.
# Happens: curl, wget and wget2 end with status 0 and six bytes of ten. aria2 asks again until it has all of them.
# Who meets it: downloads that are resumed from servers and caches which bound the size of a range.
# Seen with: curl 7.88.1-10+deb12u15, wget 1.21.3-1+deb12u1, wget2 1.99.1-2.2, aria2 1.36.0-1, Linux 6.18.
# Sources: RFC 9110 15.3.7 (a server may send a part of the range; the client looks at Content-Range) and 14.4.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-clients.sh"

cat >"$folder/ranges.py" <<'PYTHON'
# Serves ten bytes, at most four of them for one range.
import http.server
import re

PAGE = b"0123456789"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2] or 9), first + 3, 9) if wanted else 9
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/10")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"a"')
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(PAGE[first:last + 1])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
PYTHON
start python3 "$folder/ranges.py"
port=$started
unpack_clients aria2 curl wget wget2
versions

# Resumes a download that has the first two bytes.
resume() {
    local name=$1 status=0
    mkdir "$folder/$name"
    cd "$folder/$name"
    printf 01 >ten
    shift
    of_packages "$@" "http://127.0.0.1:$port/ten" 2>"$folder/errors" >&2 || status=$?
    echo "$name: status $status, the file has $(cat ten)"
    cd - >/dev/null
}

bounded echo "$(resume aria2 aria2c -q --no-conf -c -m 5)"
bounded echo "$(resume curl curl -s -m 10 -C - -O)"
bounded echo "$(resume wget wget -q -t 5 -T 10 -c)"
bounded echo "$(resume wget2 wget2 -q --tries=5 -T 10 -c)"
verdict <<'END'
aria2: status 0, the file has 0123456789
curl: status 0, the file has 012345
wget: status 0, the file has 012345
wget2: status 0, the file has 012345
END
