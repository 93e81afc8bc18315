#!/bin/bash
# gnutls-cli ends with status 0 when the TLS stream that it copies was cut.
#
# Expected: a script that copies a stream by gnutls-cli learns from the status that it ended without close_notify, as it does
#   from s_client's.
# Happens: the status is 0. A line in the log, between others, is all there is ("The TLS connection was non-properly
#   terminated").
# Who meets it: scripts that transfer data with gnutls-cli, and monitoring that judges by its status.
# Seen with: gnutls-bin 3.7.9-2+deb12u7, libssl3 3.0.20-1~deb12u2 as the server, Linux 6.18.
# Sources: RFC 8446 6.1; gnutls-cli(1), EXIT STATUS; gnutls_record_recv(3), GNUTLS_E_PREMATURE_TERMINATION.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/tls-server.sh"

packages libssl-dev=3.0.20-1~deb12u2 libssl3=3.0.20-1~deb12u2 gnutls-bin=3.7.9-2+deb12u7
ldd "$folder/root/usr/bin/gnutls-cli" | grep -q "not found" && cannot "the libraries of gnutls-cli are not installed"
serve_pages "printf 'GET / HTTP/1.0\r\n\r\n' | timeout 10 $folder/root/usr/bin/gnutls-cli --logfile=/dev/null \
    --x509cafile \$CERTIFICATE --port \$PORT 127.0.0.1 >$folder/page; status=\$?; tail -n 1 $folder/page; exit \$status"
verdict <<'END'
half of a page
with close_notify: the client ends with status 0
half of a page
without close_notify: the client ends with status 0
END
