#!/bin/bash
# Behind nginx with gzip on, three servers of eight never answer 304, as they do not know a tag that nginx has made weak.
#
# Expected: nginx puts W/ before the entity tag of an answer that it compresses. The client sends this tag back. The server
#   behind nginx compares it weakly, as If-None-Match always does, and answers 304 as it does to its own tag.
# Happens: h2o, aiohttp and CherryPy compare the spelling, and send the whole page again, each time. apache, busybox, lighttpd,
#   nginx and Tornado answer 304. h2o sends the page also to its own tag in a list of two.
# Who meets it: sites that let nginx compress what such a server sends. Nothing fails; caches of browsers do not work.
# Seen with: nginx 1.22.1-9+deb12u11 in front; h2o 2.2.5+dfsg2-7, python3-aiohttp 3.8.4-1+deb12u2, python3-cherrypy3 18.8.0-2,
#   apache2-bin 2.4.71-1~deb12u1, busybox-static 1:1.35.0-4+deb12u1+b1, lighttpd 1.4.69-1, python3-tornado
#   6.2.0-3+deb12u4, Linux 6.18.
# Sources: RFC 9110 8.8.3.2 and 13.1.2; gzip in nginx's ngx_http_gzip_module.
set -euo pipefail
source "$(dirname "$0")/packages.sh"
source "$(dirname "$0")/http-answers.sh"
source "$(dirname "$0")/http-servers.sh"

cat >"$folder/again.py" <<'PYTHON'
import http.client
import sys


def ask(port, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request("GET", "/file/page.html", headers={"Accept-Encoding": "identity", **named})
    answer = connection.getresponse()
    answer.read()
    return answer


direct, through = int(sys.argv[2]), int(sys.argv[3])
own = ask(direct).getheader("ETag")
compressed = ask(through, Accept_Encoding="gzip")
tag = compressed.getheader("ETag") or ""
again = ask(through, Accept_Encoding="gzip", If_None_Match=tag).status
listed = ask(direct, If_None_Match=f'"other", {own}').status
print(f"{sys.argv[1]}: its own tag: {ask(direct, If_None_Match=own).status}, in a list: {listed}; "
      f"through nginx: {compressed.getheader('Content-Encoding')}, {tag[:2]}, {again}")
PYTHON
names=(aiohttp apache busybox cherrypy h2o lighttpd nginx tornado)
servers "${names[@]}"
versions
nginx_in_front() {
    nginx_port=$(free_port)
    cat >"$folder/front.conf" <<NGINX
$(nginx_settings front)
    gzip on;
    server {
        listen 127.0.0.1:$nginx_port;
        location / {
            proxy_pass http://127.0.0.1:$1;
            proxy_set_header Accept-Encoding "";
        }
    }
}
NGINX
    "$folder/root/usr/sbin/nginx" -p "$folder" -c "$folder/front.conf" -e "$folder/front.errors" 2>"$folder/errors" &
    helpers+=($!)
    reachable "$nginx_port"
}

for name in "${names[@]}"; do
    port=${port_of[$name]}
    nginx_in_front "$port"
    bounded python3 "$folder/again.py" "$name" "$port" "$nginx_port"
done
verdict <<'END'
aiohttp: its own tag: 304, in a list: 304; through nginx: gzip, W/, 200
apache: its own tag: 304, in a list: 304; through nginx: gzip, W/, 304
busybox: its own tag: 304, in a list: 304; through nginx: gzip, W/, 304
cherrypy: its own tag: 304, in a list: 304; through nginx: gzip, W/, 200
h2o: its own tag: 304, in a list: 200; through nginx: gzip, W/, 200
lighttpd: its own tag: 304, in a list: 304; through nginx: gzip, W/, 304
nginx: its own tag: 304, in a list: 304; through nginx: gzip, W/, 304
tornado: its own tag: 304, in a list: 304; through nginx: gzip, W/, 304
END
