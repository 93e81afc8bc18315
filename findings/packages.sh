# Shared by the findings; each sources it. It gives them a temporary folder, pinned packages that are unpacked there and
# not installed, a compiler call, and the comparison that decides. Nothing is left on the machine.
#
#   $folder                  a temporary folder, removed at the end
#   cannot REASON            ends the finding with status 77: it cannot be tried here
#   packages NAME=VERSION…   downloads these packages and unpacks them below $folder/root
#   $include, $libraries     the folders of their headers and of their shared libraries
#   build NAME FLAG…         compiles $folder/NAME.c to $folder/NAME
#   versions                 prints the versions of the kernel, the C library and the pinned packages
#   bounded COMMAND…         runs a command for at most 30 s; its output goes to the screen and to $folder/seen
#   verdict                  compares $folder/seen with the standard input, line by line, and ends the finding
#
# Status: 0 the behaviour is as described; 1 it has changed; 77 it cannot be tried here.

export LC_ALL=C
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
pinned=()

cannot() {
    echo "cannot be tried here: $*"
    exit 77
}

compiler=${CC:-cc}
triplet=$("$compiler" -dumpmachine 2>/dev/null || true)
include=$folder/root/usr/include
libraries=$folder/root/usr/lib/$triplet

packages() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || cannot "there is no apt-get"
    mkdir -p "$folder/archives" "$folder/root"
    (cd "$folder/archives" && timeout 120 apt-get -o APT::Sandbox::User=root download "$@") >"$folder/apt" 2>&1 ||
        cannot "apt-get does not find $*"
    local archive
    for archive in "$folder"/archives/*.deb; do dpkg -x "$archive" "$folder/root"; done
    pinned=("$@")
}

build() {
    local program=$1
    shift
    command -v "$compiler" >/dev/null || cannot "there is no C compiler"
    "$compiler" -std=gnu11 -O1 -Wall -D_GNU_SOURCE -o "$folder/$program" "$folder/$program.c" "$@" \
        2>"$folder/compiler" ||
        cannot "the program does not compile: $(grep -m 1 error "$folder/compiler" || tail -n 1 "$folder/compiler")"
    local missing
    missing=$(ldd "$folder/$program" | awk '/not found/ { print $1 }' | tr '\n' ' ')
    [ -z "$missing" ] || cannot "the package needs libraries that are not installed: $missing"
}

versions() {
    local library
    library=$(getconf GNU_LIBC_VERSION 2>/dev/null || echo "an unknown C library")
    echo "seen on: Linux $(uname -r), $library" "${pinned[@]}"
}

bounded() {
    local status=0
    timeout 30 "$@" >"$folder/output" 2>"$folder/errors" || status=$?
    cat "$folder/output" | tee -a "$folder/seen"
    if [ "$status" = 77 ]; then cannot "$(tail -n 1 "$folder/errors")"; fi
    if [ "$status" != 0 ]; then
        tail -n 3 "$folder/errors"
        echo "changed: the program ended with status $status"
        exit 1
    fi
}

verdict() {
    cat >"$folder/described"
    if diff "$folder/described" "$folder/seen" >"$folder/difference"; then
        echo "holds"
        exit 0
    fi
    echo "what is described (<) and what was seen (>):"
    cat "$folder/difference"
    echo "changed: $(grep -m 1 '^>' "$folder/difference" | cut -c 3- || true)"
    exit 1
}
