#!/bin/bash
# Four servers of nine keep the connection open although the client's Connection field has "close" in it, beside another option.
#
# Expected: Connection is a list. "TE, close" and "close, TE" ask the server to close behind the answer, as "close" does.
# Happens: CherryPy, Tornado and WEBrick know the value "close" alone. They keep the connection, and WEBrick answers "Connection:
#   Keep-Alive". Twisted closes for "TE, close", and not for "close, TE". aiohttp, apache, h2o, lighttpd and nginx obey.
# Who meets it: clients that read up to the end of the stream: they wait for the server's time limit. Perl's LWP sends
#   "Connection: TE, close" with every request, but closes by itself.
# Seen with: python3-cherrypy3 18.8.0-2, python3-tornado 6.2.0-3+deb12u4, ruby-webrick 1.8.1-1, python3-twisted
#   22.4.0-4+deb12u1, python3-aiohttp 3.8.4-1+deb12u2, apache2-bin 2.4.71-1~deb12u1, h2o 2.2.5+dfsg2-7, lighttpd 1.4.69-1,
#   nginx 1.22.1-9+deb12u11, Linux 6.18. libwww-perl 6.68-1 sends the field.
# Sources: RFC 9110 7.6.1; RFC 9112 9.3 and 9.6; LWP/Protocol/http.pm.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-servers.sh"

cat >"$folder/twice.py" <<'PYTHON'
# Asks twice on one connection: is the second request answered, or is it closed behind the first answer?
import re
import socket
import sys


def answered(connection, option):
    request = "GET /page.html HTTP/1.1\r\nHost: localhost\r\n" + option + "\r\n"
    try:
        connection.sendall(request.encode())
        received = b""
        while received.count(b"<p>page</p>\n") < 400:
            piece = connection.recv(65536)
            if not piece:
                return None
            received += piece
    except ConnectionError:
        return None
    field = re.search(rb"\r\nConnection: *([\w-]+)\r\n", received, re.IGNORECASE)
    return field[1].decode().lower() if field else "nothing"


outcomes = []
for option in ("close", "TE, close", "close, TE"):
    with socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=10) as connection:
        said = answered(connection, f"TE: trailers\r\nConnection: {option}\r\n")
        closed = answered(connection, "") is None
    outcomes.append(f"{option}: {'closes' if closed else 'stays open'} and says {said}")
print(f"{sys.argv[1]}, {'; '.join(outcomes)}")
PYTHON
names=(aiohttp apache cherrypy h2o lighttpd nginx tornado twisted webrick)
servers "${names[@]}"
versions
for name in "${names[@]}"; do bounded python3 "$folder/twice.py" "$name" "${port_of[$name]}"; done
verdict <<'END'
aiohttp, close: closes and says close; TE, close: closes and says close; close, TE: closes and says close
apache, close: closes and says close; TE, close: closes and says close; close, TE: closes and says close
cherrypy, close: closes and says close; TE, close: stays open and says nothing; close, TE: stays open and says nothing
h2o, close: closes and says close; TE, close: closes and says close; close, TE: closes and says close
lighttpd, close: closes and says close; TE, close: closes and says close; close, TE: closes and says close
nginx, close: closes and says close; TE, close: closes and says close; close, TE: closes and says close
tornado, close: closes and says close; TE, close: stays open and says nothing; close, TE: stays open and says nothing
twisted, close: closes and says close; TE, close: closes and says close; close, TE: stays open and says nothing
webrick, close: closes and says close; TE, close: stays open and says keep-alive; close, TE: stays open and says keep-alive
END
