#!/bin/bash
# Two servers of nine refuse the right password if the scheme is written "basic".
#
# Expected: the name of an authentication scheme is case-insensitive, so "Authorization: basic …" is as good as "Basic". All
#   servers take it.
# Happens: mini-httpd and WEBrick compare the spelling, and answer 401 as for a wrong password. apache, busybox, CherryPy,
#   lighttpd, nginx, Twisted and webfs take it.
# Who meets it: programs that write the field themselves and were tried with another server. They see a wrong password.
# Seen with: mini-httpd 1.30-3, ruby-webrick 1.8.1-1, apache2-bin 2.4.71-1~deb12u1, busybox-static 1:1.35.0-4+deb12u1+b1,
#   python3-cherrypy3 18.8.0-2, lighttpd 1.4.69-1, nginx 1.22.1-9+deb12u11, python3-twisted 22.4.0-4+deb12u1,
#   webfs 1.21+ds1-12+b1, Linux 6.18.
# Sources: RFC 9110 11.1; RFC 7617 2.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-servers.sh"

names=(apache busybox cherrypy lighttpd mini-httpd nginx twisted webfs webrick)
servers "${names[@]}"
versions
for name in "${names[@]}"; do
    answers=
    for scheme in Basic basic; do
        answers+="$(ask "$name" /private/index.html "Authorization: $scheme dXNlcjpwYXNz") for $scheme, "
    done
    bounded echo "$name: $answers$(ask "$name" /private/index.html) for none"
done
verdict <<'END'
apache: 200 for Basic, 200 for basic, 401 for none
busybox: 200 for Basic, 200 for basic, 401 for none
cherrypy: 200 for Basic, 200 for basic, 401 for none
lighttpd: 200 for Basic, 200 for basic, 401 for none
mini-httpd: 200 for Basic, 401 for basic, 401 for none
nginx: 200 for Basic, 200 for basic, 401 for none
twisted: 200 for Basic, 200 for basic, 401 for none
webfs: 200 for Basic, 200 for basic, 401 for none
webrick: 200 for Basic, 401 for basic, 401 for none
END
