# Shared by the findings about answers of HTTP; each sources it behind packages.sh. A server answers every request with
# the bytes that belong to its path, and then ends the stream.
#
#   answer NAME TEXT     what it answers to /NAME; \r and \n are understood
#   serve_answers        starts it; its port is in $port
#   with_nginx, with_haproxy   start these proxies in front of it; their ports are in $nginx_port and $haproxy_port
#   $clients, $proxies, $aiohttp, $ruby, $tornado   the packages of curl and wget, of nginx and haproxy, and of these

command -v python3 >/dev/null || cannot "there is no python3"
clients=(curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15 wget=1.21.3-1+deb12u1)
proxies=(nginx=1.22.1-9+deb12u11 haproxy=2.6.12-1+deb12u4)
aiohttp=(python3-aiohttp=3.8.4-1+deb12u2 python3-multidict=6.0.4-1+b1 python3-yarl=1.8.2-1+b1
    python3-async-timeout=4.0.2-1 python3-aiosignal=1.3.1-1 python3-frozenlist=1.3.3-1+b1 python3-attr=22.2.0-1
    python3-charset-normalizer=3.0.1-2 python3-idna=3.3-1+deb12u1)
ruby=(ruby3.1=3.1.7+really3.1.2-0+deb12u1 libruby3.1=3.1.7+really3.1.2-0+deb12u1)
tornado=python3-tornado=6.2.0-3+deb12u4
mkdir -p "$folder/answers"
helpers=()
stop_helpers() {
    [ ${#helpers[@]} = 0 ] || kill "${helpers[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap stop_helpers EXIT

answer() {
    printf '%b' "$2" >"$folder/answers/$1"
}

cat >"$folder/answers.py" <<'PYTHON'
import pathlib
import socket
import sys
import threading

ANSWERS = pathlib.Path(sys.argv[1])


def serve(connection):
    with connection:
        connection.settimeout(10)
        request = b""
        while b"\r\n\r\n" not in request:
            piece = connection.recv(4096)
            if not piece:
                return
            request += piece
        try:
            connection.sendall((ANSWERS / request.split()[1].decode().rpartition("/")[2]).read_bytes())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except OSError:
            pass


with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
    print(listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
PYTHON

# Starts a server whose first line of output is its port.
start() {
    local output
    output=$(mktemp -p "$folder")
    "$@" >"$output" 2>"$folder/errors" &
    helpers+=($!)
    for _ in $(seq 100); do
        started=$(head -n 1 "$output")
        [ -z "$started" ] || return 0
        sleep 0.1
    done
    cannot "$1 does not start: $(tail -n 1 "$folder/errors")"
}

serve_answers() {
    start python3 "$folder/answers.py" "$folder/answers"
    port=$started
}

free_port() {
    python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Until something accepts connections there.
reachable() {
    for _ in $(seq 100); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    cannot "a proxy does not start: $(tail -n 1 "$folder/errors")"
}

# nginx_settings NAME: the beginning of a configuration of nginx, with all that it writes in the folder.
nginx_settings() {
    cat <<END
daemon off;
master_process off;
pid $folder/$1.pid;
events {}
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
END
}

with_nginx() {
    nginx_port=$(free_port)
    cat >"$folder/nginx.conf" <<END
$(nginx_settings nginx)
    server {
        listen 127.0.0.1:$nginx_port;
        location / {
            proxy_pass http://127.0.0.1:$port;
            proxy_http_version 1.1;
        }
    }
}
END
    "$folder/root/usr/sbin/nginx" -p "$folder" -c "$folder/nginx.conf" -e "$folder/nginx.errors" 2>"$folder/errors" &
    helpers+=($!)
    reachable "$nginx_port"
}

with_haproxy() {
    haproxy_port=$(free_port)
    cat >"$folder/haproxy.cfg" <<END
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend in
    bind 127.0.0.1:$haproxy_port
    default_backend out
backend out
    server one 127.0.0.1:$port
END
    "$folder/root/usr/sbin/haproxy" -f "$folder/haproxy.cfg" >/dev/null 2>"$folder/errors" &
    helpers+=($!)
    reachable "$haproxy_port"
}

# One request of curl's: the status, and the content in one line.
curl_gets() {
    LD_LIBRARY_PATH=$libraries timeout 20 "$folder/root/usr/bin/curl" -s -m 10 -w '|%{http_code}' "$1" |
        tr '\r\n' '  ' | sed -E 's/^(.*)\|([0-9]+) *$/\2 \1/; s/<html>.*/(a page)/; s/ *$//'
    echo
}
