#!/bin/bash
# curl takes a page whose TLS stream was cut for a whole one.
#
# Expected: a page without Content-Length ends with the stream. A stream of TLS that ends without close_notify may have been
#   cut by anybody on the way, so curl reports an error, as it does where Content-Length says that bytes are missing.
# Happens: curl's status is 0, and the part is given out as the page. OpenSSL 3.0 itself says "unexpected eof while reading";
#   s_client and wget end with an error.
# Who meets it: programs that fetch from HTTP/1.0 servers, or from others that end an answer by closing.
# Seen with: curl 7.88.1-10+deb12u15, libssl3 3.0.20-1~deb12u2 as the server, Linux 6.18.
# Sources: RFC 8446 6.1; SSL_get_error(3); curl's EXIT CODES, 56.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/tls-server.sh"

packages libssl-dev=3.0.20-1~deb12u2 libssl3=3.0.20-1~deb12u2 curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15
export LD_LIBRARY_PATH=$libraries
serve_pages "$folder/root/usr/bin/curl -sS --max-time 10 --cacert \$CERTIFICATE https://127.0.0.1:\$PORT/"
verdict <<'END'
half of a page
with close_notify: the client ends with status 0
half of a page
without close_notify: the client ends with status 0
END
