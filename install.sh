#!/usr/bin/env bash
# Builds the C library and installs it: shared and static library, headers, mongostream.pc, CMake package. It needs Rust,
# and puts the same files in the same places as `cargo cinstall`, which needs cargo-c.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'USAGE'
usage: ./install.sh [--prefix DIR] [--destdir DIR] [--libdir DIR] [--includedir DIR]
                    [--profile NAME] [--relocatable] [--no-strip]

  --prefix DIR      where everything goes, /usr/local if it is left out
  --destdir DIR     goes before every path, and is written nowhere: for packages
  --libdir DIR      in the prefix, or absolute; as the system has it if it is left out
                    (lib, lib64, or lib/x86_64-linux-gnu on Debian)
  --includedir DIR  in the prefix, or absolute; include if it is left out
  --profile NAME    of cargo: dist if it is left out, release, dev for a quick trial
  --relocatable     let mongostream.pc find its prefix by itself, wherever it is moved to
  --no-strip        keep symbols that nobody needs for linking
USAGE
}
wrong() {
    printf 'install.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

prefix=/usr/local destdir='' libdir='' includedir=include profile=dist relocatable='' strip=yes
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --destdir | --libdir | --includedir | --profile)
            [ $# -ge 2 ] || wrong "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        --prefix=* | --destdir=* | --libdir=* | --includedir=* | --profile=*)
            name=${1%%=*}
            declare "${name#--}=${1#*=}"
            ;;
        --relocatable) relocatable=yes ;;
        --no-strip) strip='' ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) wrong "$1 is no option" ;;
    esac
    shift
done
[ "$(uname -s)" = Linux ] || wrong "it knows Linux only: use cargo cinstall, see docs/INSTALL.md"
command -v cargo >/dev/null || wrong "there is no cargo: install Rust from https://rustup.rs"
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
case $destdir in '' | /*) ;; *) destdir=$PWD/$destdir ;; esac

# As cargo-c chooses it.
default_libdir() {
    if [ -e /etc/debian_version ] && command -v dpkg-architecture >/dev/null; then
        printf 'lib/%s' "$(dpkg-architecture -qDEB_HOST_MULTIARCH)"
    elif [ -d /usr/lib64 ] && [ ! -L /usr/lib64 ]; then
        printf lib64
    else
        printf lib
    fi
}
libdir=${libdir:-$(default_libdir)}
in_prefix() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s' "$prefix/$1" ;; esac; }
libdir=$(in_prefix "$libdir")
includedir=$(in_prefix "$includedir")

# ------------------------------------------------------------------------------------------ build

target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# rustc says what the static library needs, also if there is nothing to build: cargo repeats what it has said.
cargo rustc --locked -p mongostream-capi --lib --profile "$profile" -- --print native-static-libs 2>&1 | tee "$log" >&2
needs=$(sed -n 's/.*native-static-libs: *//p' "$log" | tail -n 1)
if [ -z "$needs" ]; then
    echo "install.sh: rustc did not say what the static library needs" >&2
    exit 1
fi
built=$target/$profile
[ "$profile" != dev ] || built=$target/debug

# ---------------------------------------------------------------------------------------- install

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
shared=libmongostream.so.$version
soname=$(LC_ALL=C readelf -d "$built/libmongostream.so" | sed -n 's/.*Library soname: \[\(.*\)\]/\1/p')
lib=$destdir$libdir include=$destdir$includedir cmake=$destdir$prefix/share/cmake/mongostream
install -d "$lib/pkgconfig" "$include" "$cmake"
install -m 644 include/mongostream.h include/mongostream.hpp "$include"
install -m 644 "$built/libmongostream.a" "$lib/libmongostream.a"
install -m 755 "$built/libmongostream.so" "$lib/$shared"
[ "$soname" = "$shared" ] || ln -sf "$shared" "$lib/$soname"
ln -sf "$shared" "$lib/libmongostream.so"
if [ -n "$strip" ]; then
    strip --strip-unneeded "$lib/$shared"
    strip -g "$lib/libmongostream.a"
fi

# A path as seen from the prefix, if it is inside.
of_prefix() { case $1 in "$prefix"/*) printf '${prefix}/%s' "${1#"$prefix"/}" ;; *) printf '%s' "$1" ;; esac; }
shown_prefix=$prefix
if [ -n "$relocatable" ]; then
    shown_prefix="\${pcfiledir}/$(realpath -m --relative-to="$libdir/pkgconfig" "$prefix")"
fi
cat >"$lib/pkgconfig/mongostream.pc" <<PC
prefix=$shown_prefix
exec_prefix=\${prefix}
libdir=$(of_prefix "$libdir")
includedir=$(of_prefix "$includedir")

Name: mongostream
Description: MongoDB change streams as a plain blocking queue of JSON messages
Version: $version
Libs: -L\${libdir} -lmongostream
Cflags: -I\${includedir}
Libs.private: $needs
PC

pointer=$(echo __SIZEOF_POINTER__ | "${CC:-cc}" -E -P -x c -)
for name in mongostreamConfig.cmake mongostreamConfigVersion.cmake; do
    sed -e "s|@VERSION@|$version|g" -e "s|@POINTER@|$pointer|g" \
        -e "s|@LIBDIR@|$(realpath -m --relative-to="$prefix" "$libdir")|g" \
        -e "s|@INCLUDEDIR@|$(realpath -m --relative-to="$prefix" "$includedir")|g" \
        "packages/cmake/$name.in" >"$cmake/$name"
    chmod 644 "$cmake/$name"
done
chmod 644 "$lib/pkgconfig/mongostream.pc"

printf 'mongostream %s is in %s\n' "$version" "$destdir$prefix"
if [ -z "$destdir" ] && [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then
    ldconfig
fi
