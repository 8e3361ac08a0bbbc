#!/bin/sh
# Install or remove quantd as a systemd service. Prints each change; can be repeated.
#
# usage: install.sh [--prefix DIR] [--root DIR] [--jtop] [--uninstall]
#   --prefix DIR   where quantd is installed: DIR/bin/quantd (default: found, else /opt/quantd)
#   --root DIR     write below DIR and do not change the running system (for images and packages)
#   --jtop         add quantd to the group jtop, to use jetson-stats. Its protocol trusts members like
#                  root, so it is not the default; without it power is read from the sensor
#   --uninstall    stop and remove the service; configuration, state and the user stay
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
prefix=/opt/quantd
case $here in */share/quantd/systemd) prefix=${here%/share/quantd/systemd} ;; esac
root=
jtop=
uninstall=

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$1" >&2; exit "${2:-1}"; }
usage() { sed -n '4,9s/^# \{0,1\}//p' "$0"; }

while [ $# -gt 0 ]; do
  case $1 in
    --prefix|--root)
      [ $# -ge 2 ] || fail "$1 needs a folder" 2
      if [ "$1" = --prefix ]; then prefix=${2%/}; else root=${2%/}; fi
      shift ;;
    --jtop) jtop=yes ;;
    --uninstall) uninstall=yes ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" 2 ;;
  esac
  shift
done
# The path is written into the unit file, where other characters would have a meaning.
case $prefix in
  /*) ;;
  *) fail "--prefix must be an absolute path, not '$prefix'" 2 ;;
esac
case $prefix in *[!A-Za-z0-9/._+-]*) fail "--prefix contains a character that is not allowed in a unit file: '$prefix'" 2 ;; esac
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "must run as root (or with --root DIR)"

unit=$root/etc/systemd/system/quantd.service
sysusers=$root/etc/sysusers.d/quantd.conf
tmpfiles=$root/etc/tmpfiles.d/quantd.conf
reload=$root/etc/systemd/system/quantd-reload@
config=$root/etc/quantd/quantd.toml

# put TARGET: write standard input to TARGET, atomically, unless it is the same.
put() {
  mkdir -p "$(dirname "$1")"
  temp=$(mktemp "$1.XXXXXX")
  cat >"$temp"
  chmod 0644 "$temp"
  if cmp -s "$temp" "$1"; then
    rm -f "$temp"
    say "unchanged  $1"
  else
    mv -f "$temp" "$1"
    say "wrote      $1"
  fi
}

live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

if [ -n "$uninstall" ]; then
  if live && [ -e "$unit" ]; then
    say "stopping and disabling quantd.service"
    systemctl disable --now quantd.service
    for link in /etc/systemd/system/*.wants/quantd-reload@*.path; do
      [ ! -L "$link" ] || systemctl disable --now "${link##*/}"
    done
  fi
  for file in "$unit" "$sysusers" "$tmpfiles" "$reload.path" "$reload.service"; do
    if [ -e "$file" ]; then
      rm -f "$file"
      say "removed    $file"
    fi
  done
  if live; then systemctl daemon-reload; fi
  say "kept       $root/etc/quantd, $root/var/lib/quantd and the user quantd; remove them by hand"
  exit 0
fi

if [ -n "$jtop" ]; then
  [ -z "$root" ] || fail "--jtop adds a user of the running system to a group: leave --root or --jtop out" 2
  getent group jtop >/dev/null || fail "no group jtop: install jetson-stats first, or leave --jtop out"
fi

program=$root$prefix/bin/quantd
[ -x "$program" ] || program=$prefix/bin/quantd
[ -x "$program" ] ||
  fail "no $prefix/bin/quantd: pip install quantd into $prefix first, or pass --prefix"

# seen WHAT PATH: refuse a path that the unit's ProtectHome hides, also behind links.
image=
[ -z "$root" ] || image=$(readlink -m -- "$root")
seen() {
  real=$(readlink -m -- "$2")
  for path in "$2" "${real#"$image"}"; do
    case ${path#"$image"}/ in
      /home/*|/root/*|/run/user/*)
        fail "$1 is $path, which ProtectHome hides from the service: install quantd into /opt/quantd, with a Python of the system" 2 ;;
    esac
  done
}
seen "the program" "$prefix"
seen "the program" "$program"
interpreter=$(sed -n '1s/^#! *\([^ ]*\).*/\1/p' "$program")
[ -z "$interpreter" ] || seen "its interpreter" "$interpreter"

sed "s|/opt/quantd|$prefix|g" "$here/quantd.service" | put "$unit"
put "$sysusers" <"$here/quantd.sysusers.conf"
put "$tmpfiles" <"$here/quantd.tmpfiles.conf"
for kind in path service; do
  put "$reload.$kind" <"$here/quantd-reload@.$kind"
done
if [ -e "$config" ]; then
  say "kept       $config"
  grep -En '^[^#]*"([a-z0-9]+://)?/(home|root|run/user)/' "$config" |
    sed 's/^/install.sh: warning: ProtectHome hides this path from the service: /' >&2 || true
else
  sed "s|/opt/quantd|$prefix|g" "$here/../configs/quantd.toml" | put "$config"
fi

if [ -z "$root" ]; then
  say "creating the user quantd and its folders"
  systemd-sysusers quantd.conf
  systemd-tmpfiles --create quantd.conf
  if [ -n "$jtop" ]; then
    say "adding quantd to the group jtop"
    usermod -a -G jtop quantd
  fi
fi
if live; then systemctl daemon-reload; fi

say "next: set camera.uri and model.path in $config, then: systemctl enable --now quantd"
say "      after an upgrade: systemctl restart quantd"
