# Shared by the findings that compare servers of HTTP; each sources it behind packages.sh and http-answers.sh. All servers
# have the same site on a port of their own: /page.html and /file/page.html, 4,800 bytes of HTML, compressed if the client accepts
# it and the server can, and /private/index.html, for "user" with the password "pass" (Basic), where the server can.
#
#   servers NAME…             unpacks these servers and starts them, nginx as one of them
#   port_of[NAME]             their ports
#   packages_of[NAME]         their packages
#   ask NAME TARGET FIELD…    one request with these header fields: the status and the content coding of the answer

declare -A port_of packages_of=(
    [aiohttp]="${aiohttp[*]}"
    [apache]="apache2-bin=2.4.71-1~deb12u1 libapr1=1.7.2-3+deb12u1 libaprutil1=1.6.3-1+deb12u1"
    [busybox]="busybox-static=1:1.35.0-4+deb12u1+b1"
    [cherrypy]="python3-cherrypy3=18.8.0-2 python3-cheroot=9.0.0+ds1-2 python3-more-itertools=8.10.0-2
        python3-jaraco.classes=3.2.1-3 python3-jaraco.functools=3.5.0-1 python3-jaraco.collections=3.8.0-1
        python3-jaraco.text=3.11.1-1 python3-jaraco.context=4.2.0-1 python3-portend=3.1.0-1 python3-tempora=5.1.0-1
        python3-tz=2022.7.1-4 python3-zc.lockfile=2.0-4 python3-six=1.16.0-4 python3-inflect=2.1.0-4
        python3-pkg-resources=66.1.1-1+deb12u2"
    [h2o]="h2o=2.2.5+dfsg2-7 libyaml-0-2=0.2.5-1"
    [lighttpd]="lighttpd=1.4.69-1 lighttpd-mod-deflate=1.4.69-1 libdeflate0=1.14-1 libbrotli1=1.0.9-2+deb12u1"
    [mini-httpd]="mini-httpd=1.30-3"
    [nginx]="${proxies[0]}"
    [tornado]="$tornado"
    [twisted]="python3-twisted=22.4.0-4+deb12u1 python3-zope.interface=5.5.2-1+b1 python3-constantly=15.1.0-4
        python3-incremental=21.3.0-2 python3-attr=22.2.0-1 python3-automat=22.10.0-1 python3-hyperlink=21.0.0-5
        python3-idna=3.3-1+deb12u1 python3-six=1.16.0-4 python3-typing-extensions=4.4.0-1"
    [webfs]="webfs=1.21+ds1-12+b1"
    [webrick]="${ruby[*]} ruby-webrick=1.8.1-1"
)

serve_aiohttp() {
    cat >"$folder/aiohttp-server.py" <<'PYTHON'
import sys

from aiohttp import web


async def page(request):
    answer = web.Response(text=open("www/page.html").read(), content_type="text/html")
    answer.enable_compression()
    return answer


application = web.Application()
application.router.add_get("/page.html", page)
application.router.add_static("/file", "www/file")
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)
PYTHON
    with_python "$folder/aiohttp-server.py" "$1"
}

serve_apache() {
    local module
    for module in mpm_event authn_core authn_file authz_core authz_user auth_basic filter deflate mime; do
        echo "LoadModule ${module}_module $folder/root/usr/lib/apache2/modules/mod_$module.so"
    done >"$folder/apache.conf"
    cat >>"$folder/apache.conf" <<END
ServerRoot $folder
PidFile $folder/apache.pid
DefaultRuntimeDir $folder
Mutex posixsem
ServerName localhost
Listen 127.0.0.1:$1
User nobody
Group nogroup
ErrorLog $folder/apache.log
DocumentRoot $folder/www
TypesConfig /dev/null
AddType text/html .html
AddOutputFilterByType DEFLATE text/html
<Location /private>
    AuthType Basic
    AuthName realm
    AuthBasicProvider file
    AuthUserFile $folder/htpasswd
    Require valid-user
</Location>
END
    LD_LIBRARY_PATH=$libraries exec "$folder/root/usr/sbin/apache2" -d "$folder" -f "$folder/apache.conf" -X
}

serve_busybox() {
    echo '/private:user:pass' >"$folder/busybox.conf"
    exec "$folder/root/bin/busybox" httpd -f -p "127.0.0.1:$1" -h "$folder/www" -c "$folder/busybox.conf"
}

serve_cherrypy() {
    cat >"$folder/cherrypy-server.py" <<'PYTHON'
import sys

import cherrypy as server


class Root:
    @server.expose
    def default(self, *path):
        return "secret" if path[0] == "private" else open("www/page.html").read()


server.config.update({"server.socket_host": "127.0.0.1", "server.socket_port": int(sys.argv[1]),
                      "engine.autoreload.on": False, "log.screen": False})
server.quickstart(Root(), "/", {
    "/": {"tools.gzip.on": True, "tools.etags.on": True, "tools.etags.autotags": True},
    "/private": {"tools.auth_basic.on": True, "tools.auth_basic.realm": "realm",
                 "tools.auth_basic.checkpassword": lambda realm, user, password: (user, password) == ("user", "pass")}})
PYTHON
    with_python "$folder/cherrypy-server.py" "$1"
}

serve_h2o() {
    cat >"$folder/h2o.conf" <<END
listen: {host: 127.0.0.1, port: $1}
user: nobody
compress: [gzip]
hosts: {default: {paths: {/: {file.dir: $folder/www}}}}
END
    LD_LIBRARY_PATH=$libraries exec "$folder/root/usr/bin/h2o" -c "$folder/h2o.conf"
}

serve_lighttpd() {
    cat >"$folder/lighttpd.conf" <<END
server.document-root = "$folder/www"
server.port = $1
server.bind = "127.0.0.1"
server.modules = ("mod_auth", "mod_authn_file", "mod_deflate")
mimetype.assign = (".html" => "text/html")
deflate.mimetypes = ("text/html")
deflate.allowed-encodings = ("gzip")
auth.backend = "htpasswd"
auth.backend.htpasswd.userfile = "$folder/htpasswd"
auth.require = ("/private" => ("method" => "basic", "realm" => "realm", "require" => "valid-user"))
END
    LD_LIBRARY_PATH=$libraries exec "$folder/root/usr/sbin/lighttpd" -D -f "$folder/lighttpd.conf" -m "$folder/root/usr/lib/lighttpd"
}

serve_mini-httpd() {
    cp "$folder/htpasswd" "$folder/www/private/.htpasswd"
    exec "$folder/root/usr/sbin/mini_httpd" -D -p "$1" -h 127.0.0.1 -d "$folder/www"
}

serve_nginx() {
    cat >"$folder/server.conf" <<END
$(nginx_settings server)
    gzip on;
    types { text/html html; }
    server {
        listen 127.0.0.1:$1;
        root $folder/www;
        location /private/ {
            auth_basic realm;
            auth_basic_user_file $folder/htpasswd;
        }
    }
}
END
    exec "$folder/root/usr/sbin/nginx" -p "$folder" -c "$folder/server.conf" -e "$folder/server.errors"
}

serve_tornado() {
    cat >"$folder/tornado-server.py" <<'PYTHON'
import sys

import tornado.ioloop
import tornado.web

files = ("/(.*)", tornado.web.StaticFileHandler, {"path": "www"})
tornado.web.Application([files], compress_response=True).listen(int(sys.argv[1]), "127.0.0.1")
tornado.ioloop.IOLoop.current().start()
PYTHON
    with_python "$folder/tornado-server.py" "$1"
}

serve_twisted() {
    cat >"$folder/twisted-server.py" <<'PYTHON'
import sys

from twisted.cred import checkers, portal
from twisted.internet import reactor
from twisted.web import guard, resource, server, static
from zope.interface import implementer


@implementer(portal.IRealm)
class Realm:
    def requestAvatar(self, avatar, mind, *interfaces):
        return resource.IResource, static.File("www/private"), lambda: None


checker = checkers.InMemoryUsernamePasswordDatabaseDontUse(user=b"pass")
root = static.File("www")
root.putChild(b"private", guard.HTTPAuthSessionWrapper(portal.Portal(Realm(), [checker]),
                                                       [guard.BasicCredentialFactory(b"realm")]))
reactor.listenTCP(int(sys.argv[1]), server.Site(root), interface="127.0.0.1")
reactor.run()
PYTHON
    with_python "$folder/twisted-server.py" "$1"
}

serve_webfs() {
    exec "$folder/root/usr/bin/webfsd" -F -p "$1" -i 127.0.0.1 -r "$folder/www" -b user:pass
}

serve_webrick() {
    cat >"$folder/webrick-server.rb" <<'RUBY'
require 'webrick'
server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: ARGV[0].to_i, DocumentRoot: "www", AccessLog: [])
server.mount_proc("/private") do |request, answer|
  WEBrick::HTTPAuth.basic_auth(request, answer, "realm") { |user, password| user == "user" && password == "pass" }
  answer.body = "secret"
end
server.start
RUBY
    local ruby=$folder/root/usr/lib/ruby gems=$folder/root/usr/share/rubygems-integration/all/gems
    cd "$folder"
    LD_LIBRARY_PATH=$libraries \
        RUBYLIB=$ruby/3.1.0:$libraries/ruby/3.1.0:$ruby/vendor_ruby:$gems/webrick-1.8.1/lib \
        exec "$folder/root/usr/bin/ruby3.1" "$folder/webrick-server.rb" "$1"
}

with_python() {
    [ -x /usr/bin/python3 ] || cannot "there is no /usr/bin/python3"
    cd "$folder"
    PYTHONPATH="$folder/root/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 "$@"
}

cat >"$folder/ask.py" <<'PYTHON'
import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
connection.putrequest("GET", sys.argv[2], skip_accept_encoding=True)
for field in sys.argv[3:]:
    name, _, value = field.partition(":")
    connection.putheader(name, value.strip())
connection.putheader("Connection", "close")
connection.endheaders()
answer = connection.getresponse()
print(answer.status, answer.getheader("Content-Encoding", ""))
PYTHON

ask() {
    local name=$1
    shift
    python3 "$folder/ask.py" "${port_of[$name]}" "$@" | sed 's/ $//'
}

servers() {
    local name wanted=()
    for name; do wanted+=(${packages_of[$name]}); done
    packages "${wanted[@]}"
    chmod 755 "$folder"  # some of them serve as another user
    mkdir -p "$folder/www/file" "$folder/www/private"
    for _ in $(seq 400); do echo '<p>page</p>'; done | tee "$folder/www/page.html" >"$folder/www/file/page.html"
    echo secret >"$folder/www/private/index.html"
    echo "user:$(openssl passwd -1 pass)" >"$folder/htpasswd"
    for name; do
        port_of[$name]=$(free_port)
        "serve_$name" "${port_of[$name]}" >"$folder/$name.output" 2>&1 &
        helpers+=($!)
    done
    for name; do
        cp "$folder/$name.output" "$folder/errors"
        reachable "${port_of[$name]}"
    done
}
