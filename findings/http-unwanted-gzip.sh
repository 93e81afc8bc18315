#!/bin/bash
# Three servers of seven send gzip to a client that has refused it with "gzip;q=0", and CherryPy answers 406 to "*".
#
# Expected: "Accept-Encoding: gzip;q=0" says that the client does not take gzip, "*" and "GZIP" that it does. A server that can
#   compress sends the plain page to the first, and the plain or the compressed page to the others.
# Happens: lighttpd, Tornado and aiohttp look for the word alone, and send gzip in spite of q=0. apache, CherryPy, h2o and nginx
#   obey. CherryPy answers 406 (Not Acceptable) to "*" and to "GZIP": no content for a client that takes anything.
# Who meets it: clients that cannot decode, or will not: devices, scanners, downloads that are resumed by byte. They say so, and
#   get bytes that they cannot use.
# Seen with: lighttpd 1.4.69-1, python3-tornado 6.2.0-3+deb12u4, python3-aiohttp 3.8.4-1+deb12u2, apache2-bin 2.4.71-1~deb12u1,
#   python3-cherrypy3 18.8.0-2, h2o 2.2.5+dfsg2-7, nginx 1.22.1-9+deb12u11, Linux 6.18.
# Sources: RFC 9110 8.4.1 (codings are case-insensitive) and 12.5.3.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-servers.sh"

names=(aiohttp apache cherrypy h2o lighttpd nginx tornado)
servers "${names[@]}"
versions
for name in "${names[@]}"; do
    answers=
    for wanted in 'gzip' 'gzip;q=0' 'GZIP' '*'; do
        answers+=" $wanted: $(ask "$name" /page.html "Accept-Encoding: $wanted"),"
    done
    bounded echo "$name,${answers%,}"
done
verdict <<'END'
aiohttp, gzip: 200 gzip, gzip;q=0: 200 gzip, GZIP: 200 gzip, *: 200
apache, gzip: 200 gzip, gzip;q=0: 200, GZIP: 200 gzip, *: 200
cherrypy, gzip: 200 gzip, gzip;q=0: 200, GZIP: 406, *: 406
h2o, gzip: 200 gzip, gzip;q=0: 200, GZIP: 200 gzip, *: 200
lighttpd, gzip: 200 gzip, gzip;q=0: 200 gzip, GZIP: 200, *: 200
nginx, gzip: 200 gzip, gzip;q=0: 200, GZIP: 200 gzip, *: 200
tornado, gzip: 200 gzip, gzip;q=0: 200 gzip, GZIP: 200, *: 200
END
