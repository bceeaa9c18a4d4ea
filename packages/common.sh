# What the scripts of this directory share: they are bash, and begin with `. common.sh`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=dist
while [ $# -gt 0 ]; do
    case $1 in
        --profile)
            profile=$2
            shift 2
            ;;
        *)
            echo "usage: $0 [--profile NAME]" >&2
            exit 2
            ;;
    esac
done

target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
packages=$target/packages
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# So that the same sources give the same package. Not for cargo: with another time build scripts run again.
commit_time=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
mkdir -p "$packages"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
