# Shared by the findings that compare clients of HTTP; each sources it behind packages.sh and http-answers.sh.
#
#   unpack_clients NAME…    unpacks the packages of these clients
#   fetch NAME URL          what the client gets, in one line, behind its name; its status if it is not 0
#
# A client decodes gzip and follows redirects. With $user and $password it has them for Basic, if it is asked.

declare -A client_packages=(
    [aiohttp]="${aiohttp[*]}"
    [aria2]="aria2=1.36.0-1 libaria2-0=1.36.0-1 libc-ares2=1.18.1-3 libssh2-1=1.10.0-3+deb12u1
        libxml2=2.9.14+dfsg-1.3~deb12u6 libsqlite3-0=3.40.1-2+deb12u2"
    [curl]="${clients[0]} ${clients[1]}"
    [httpx]="python3-httpx=0.23.3-1 python3-httpcore=0.16.3-1 python3-h11=0.14.0-1.1~deb12u1 python3-anyio=3.6.2-1
        python3-sniffio=1.2.0-1 python3-rfc3986=1.5.0-2 python3-certifi=2022.9.24-1 python3-idna=3.3-1+deb12u1
        python3-charset-normalizer=3.0.1-2"
    [links]="links=2.28-1+b2 liblz1=1.13-5 libgpm2=1.20.7-10+b1 libbrotli1=1.0.9-2+deb12u1"
    [lwp]="libwww-perl=6.68-1 libhttp-message-perl=6.44-1 libhttp-date-perl=6.05-2 liburi-perl=5.17-1
        libnet-http-perl=6.22-1 libio-html-perl=1.004-3 libencode-locale-perl=1.05-3 liblwp-mediatypes-perl=6.04-2
        libtry-tiny-perl=0.31-2 libfile-listing-perl=6.15-1 libhttp-negotiate-perl=6.01-2
        libhtml-parser-perl=3.81-1+deb12u1 libhttp-cookies-perl=6.10-1 libwww-robotrules-perl=6.02-1
        libtimedate-perl=2.3300-2 libhtml-tagset-perl=3.20-6 libclone-perl=0.46-1"
    [lynx]="lynx=2.9.0dev.12-1 lynx-common=2.9.0dev.12-1 libidn2-0=2.3.3-1+b1 libbsd0=0.11.7-2"
    [requests]="python3-requests=2.28.1+dfsg-1 python3-urllib3=1.26.12-1+deb12u4 python3-certifi=2022.9.24-1
        python3-chardet=5.1.0+dfsg-2 python3-idna=3.3-1+deb12u1 python3-charset-normalizer=3.0.1-2
        python3-six=1.16.0-4"
    [ruby]="${ruby[*]}"
    [tornado]="$tornado"
    [w3m]="w3m=0.5.3+git20230121-2 libgc1=1:8.2.2-3 libgpm2=1.20.7-10+b1"
    [wget]="${clients[2]}"
    [wget2]="wget2=1.99.1-2.2 libwget0=1.99.1-2.2 libgpgme11=1.18.0-3+deb12u1 libassuan0=2.5.5-5"
)

unpack_clients() {
    local name wanted=()
    for name; do wanted+=(${client_packages[$name]-}); done
    packages "${wanted[@]}"
}

# A program of the packages, with their libraries.
of_packages() {
    local program=$folder/root/usr/bin/$1
    shift
    HOME=$folder LD_LIBRARY_PATH=$libraries:$folder/root/usr/lib timeout 20 "$program" "$@" </dev/null
}

with_modules() {
    PYTHONPATH=$folder/root/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1 timeout 20 /usr/bin/python3 "$@"
}

perl_with_modules() {
    local version
    version=$(perl -e 'printf "%vd", $^V' | cut -d. -f1,2)
    PERL5LIB=$folder/root/usr/share/perl5:$libraries/perl5/$version timeout 20 perl "$@"
}

fetch_aiohttp() {
    with_modules - "$1" <<'PYTHON'
import asyncio
import sys

import aiohttp


async def fetch():
    async with aiohttp.ClientSession() as session, session.get(sys.argv[1]) as answer:
        print(await answer.text())


asyncio.run(fetch())
PYTHON
}

fetch_aria2() {
    rm -f "$folder/aria2.page"
    local status=0
    of_packages aria2c -q --no-conf -m 1 -t 5 --http-accept-gzip=true --http-auth-challenge=true \
        --http-user="${user-}" --http-passwd="${password-}" -d "$folder" -o aria2.page "$1" || status=$?
    if [ -e "$folder/aria2.page" ]; then cat "$folder/aria2.page"; fi
    return $status
}

fetch_curl() {
    of_packages curl -s -m 10 -L --compressed ${user+--anyauth -u "$user:$password"} "$1"
}

fetch_httpx() {
    with_modules -c 'import httpx, sys; print(httpx.get(sys.argv[1], follow_redirects=True).text)' "$1"
}

fetch_links() {
    of_packages links -dump "${1/#http:\/\//http://${user+$user:$password@}}"
}

fetch_lwp() {
    perl_with_modules -MLWP::UserAgent -e '
        my ($url, $user, $password) = @ARGV;
        my $agent = LWP::UserAgent->new;
        $agent->credentials(URI->new($url)->host_port, "realm", $user, $password) if $user;
        my $answer = $agent->get($url, "Accept-Encoding" => "gzip");
        print $answer->decoded_content, "\n";
        exit !$answer->is_success' "$1" "${user-}" "${password-}"
}

fetch_lynx() {
    of_packages lynx "-cfg=$folder/root/etc/lynx/lynx.cfg" -dump ${user+"-auth=$user:$password"} "$1" 2>/dev/null
}

fetch_requests() {
    with_modules -c 'import requests, sys; print(requests.get(sys.argv[1]).text)' "$1"
}

fetch_ruby() {
    local ruby=$folder/root/usr/lib/ruby
    RUBYLIB=$ruby/3.1.0:$libraries/ruby/3.1.0:$ruby/vendor_ruby \
        of_packages ruby3.1 -ropen-uri -e 'puts URI.open(ARGV[0]).read' "$1"
}

# HTTP::Tiny is a part of Perl.
fetch_tiny() {
    perl -MHTTP::Tiny -e '
        my $answer = HTTP::Tiny->new->get($ARGV[0]);
        print $answer->{content}, "\n";
        exit !$answer->{success}' "$1"
}

fetch_tornado() {
    with_modules - "$1" <<'PYTHON'
import asyncio
import sys

from tornado.httpclient import AsyncHTTPClient


async def fetch():
    print((await AsyncHTTPClient().fetch(sys.argv[1])).body.decode())


asyncio.run(fetch())
PYTHON
}

fetch_w3m() {
    of_packages w3m -dump "${1/#http:\/\//http://${user+$user:$password@}}"
}

fetch_wget() {
    of_packages wget -q -t 1 -T 10 --compression=auto ${user+--user="$user" --password="$password"} -O - "$1"
}

fetch_wget2() {
    of_packages wget2 -q --tries=1 -T 10 ${user+--http-user="$user" --http-password="$password"} -O - "$1"
}

fetch() {
    local status=0 page
    page=$("fetch_$1" "$2" 2>"$folder/errors") || status=$?
    if [ "$status" != 0 ]; then status="status $status: "; else status=; fi
    echo "$1: $status$(tr -s '\r\n ' ' ' <<<"$page" | sed 's/^ //; s/ $//')"
}
