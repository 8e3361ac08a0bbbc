#!/bin/sh
# Install or remove quantd as a systemd service. Prints each change; can be repeated.
#
# usage: install.sh [--packages] [--gpu] [--prefix DIR] [--root DIR] [--jtop] [--uninstall]
#   --packages     first install quantd itself, from the checkout that this file is in: a virtual
#                  environment, what has wheels, then PyCUDA if CUDA's headers are here
#   --gpu          with --packages: ONNX Runtime with CUDA, in place of the one for CPUs
#   --prefix DIR   where quantd is installed: DIR/bin/quantd (default: found, else /opt/quantd)
#   --root DIR     write below DIR and do not change the running system (for images and packages)
#   --jtop         set up the service of jetson-stats, from the same prefix unless there is one that
#                  starts, and add quantd to its group. Its protocol trusts members like root, so it
#                  is not the default; without it power is read from the sensor
#   --uninstall    stop and remove the service; configuration, state and the user stay
set -eu
umask 022

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
prefix=/opt/quantd
case $here in */share/quantd/systemd) prefix=${here%/share/quantd/systemd} ;; esac
cuda=${CUDA_ROOT:-/usr/local/cuda}
root=
gpu=
jtop=
packages=
uninstall=

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$1" >&2; exit "${2:-1}"; }
usage() { sed -n '4,13s/^# \{0,1\}//p' "$0"; }

while [ $# -gt 0 ]; do
  case $1 in
    --prefix|--root)
      [ $# -ge 2 ] || fail "$1 needs a folder" 2
      if [ "$1" = --prefix ]; then prefix=${2%/}; else root=${2%/}; fi
      shift ;;
    --packages) packages=yes ;;
    --gpu) gpu=yes ;;
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
[ -z "$gpu" ] || [ -n "$packages" ] || fail "--gpu chooses what --packages installs: add --packages" 2
[ -z "$packages" ] || [ -z "$root" ] || fail "--packages installs into the running system: leave --root or --packages out" 2
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "must run as root (or with --root DIR)"

unit=$root/etc/systemd/system/quantd.service
sysusers=$root/etc/sysusers.d/quantd.conf
tmpfiles=$root/etc/tmpfiles.d/quantd.conf
reload=$root/etc/systemd/system/quantd-reload@
config=$root/etc/quantd/quantd.toml
command=$root/usr/local/bin/quantd
jtop_unit=$root/etc/systemd/system/jtop.service
jtop_exec=$jtop_unit.d/quantd.conf
jtop_users=$root/etc/sysusers.d/quantd-jtop.conf
jtop_wanted=$root/etc/systemd/system/multi-user.target.wants/jtop.service
jtop_own=
if grep -qs "quantd's install.sh" "$jtop_unit"; then jtop_own=yes; fi

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

# remove FILE...: those that there are.
remove() {
  for file; do
    if [ -e "$file" ] || [ -L "$file" ]; then
      rm -f "$file"
      say "removed    $file"
    fi
  done
}

if [ -n "$uninstall" ]; then
  if live && [ -e "$unit" ]; then
    say "stopping and disabling quantd.service"
    systemctl disable --now quantd.service
    for link in /etc/systemd/system/*.wants/quantd-reload@*.path; do
      [ ! -L "$link" ] || systemctl disable --now "${link##*/}"
    done
  fi
  if [ -L "$command" ]; then remove "$command"; fi
  if [ -n "$jtop_own" ] && live; then systemctl disable --now jtop.service; fi
  remove "$unit" "$sysusers" "$tmpfiles" "$reload.path" "$reload.service" "$jtop_users" "$jtop_exec"
  [ -z "$jtop_own" ] || remove "$jtop_unit" "$jtop_wanted"
  if live; then systemctl daemon-reload; fi
  say "kept       $root/etc/quantd, $root/var/lib/quantd and the user quantd; remove them by hand"
  exit 0
fi

installed() { "$prefix/bin/pip" show --quiet "$1" >/dev/null 2>&1; }
pip_install() { "$prefix/bin/pip" install --quiet --disable-pip-version-check "$@"; }

if [ -n "$packages" ]; then
  checkout=${here%/systemd}
  [ -f "$checkout/pyproject.toml" ] || fail "--packages installs from a checkout, which $checkout is not: run systemd/install.sh of one"
  if [ ! -x "$prefix/bin/pip" ]; then
    say "making a virtual environment in $prefix, which sees the packages of the system"
    python3 -m venv --system-site-packages "$prefix" || fail "python3 can't make one: apt install python3-venv"
  fi
  jetson=
  if [ -e /etc/nv_tegra_release ] || grep -aqs nvidia,tegra /proc/device-tree/compatible; then jetson=yes; fi
  extras=cpu
  [ -z "$jetson" ] || extras=jetson
  if [ -n "$gpu" ] || installed onnxruntime-gpu; then
    extras=gpu${jetson:+,jtop}
    if installed onnxruntime; then
      say "removing onnxruntime: it and onnxruntime-gpu overwrite each other"
      "$prefix/bin/pip" uninstall --quiet --yes onnxruntime onnxruntime-gpu
    fi
  fi
  say "installing quantd[$extras] into $prefix"
  pip_install "$checkout[$extras]"
  if [ -f "$cuda/include/cuda.h" ]; then
    say "compiling PyCUDA with $cuda, which takes some minutes"
    if PATH=$cuda/bin:$PATH pip_install "$checkout[tensorrt]" >"$prefix/pycuda.log" 2>&1; then
      rm -f "$prefix/pycuda.log"
    else
      say "install.sh: warning: PyCUDA was not installed, so TensorRT can't be used; $prefix/pycuda.log has the reason (often: apt install g++ python3-dev), then run this again" >&2
    fi
  elif [ -n "$jetson" ]; then
    say "install.sh: warning: no $cuda/include/cuda.h, so PyCUDA was left out and TensorRT can't be used: apt install nvidia-jetpack, then run this again" >&2
  fi
fi

program=$root$prefix/bin/quantd
[ -x "$program" ] || program=$prefix/bin/quantd
[ -x "$program" ] ||
  fail "no $prefix/bin/quantd: run systemd/install.sh --packages of a checkout, or pass --prefix"

# The program that the jtop.service of this machine starts: drop-ins come after units.
starts=
if [ -n "$jtop" ] && [ -z "$jtop_own" ]; then
  starts=$(for file in "" .d/*.conf; do
    for folder in lib usr/lib usr/local/lib etc; do
      # shellcheck disable=SC2086 # the pattern
      cat "$root/$folder"/systemd/system/jtop.service$file 2>/dev/null || :
    done
  done | sed -n 's/^ExecStart=[-@:+!]*\([^ ]\{1,\}\).*/\1/p' | tail -n 1)
  [ -n "$starts" ] || jtop_own=yes
fi
if [ -n "$jtop" ] && { [ -n "$jtop_own" ] || [ ! -x "$root$starts" ]; }; then
  [ -x "$root$prefix/bin/jtop" ] || [ -x "$prefix/bin/jtop" ] ||
    fail "no $prefix/bin/jtop: $prefix/bin/pip install jetson-stats, or leave --jtop out"
fi

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
if [ -L "$command" ] || [ ! -e "$command" ]; then # where a shell and sudo find it
  mkdir -p "${command%/*}"
  ln -sfn "$prefix/bin/quantd" "$command"
fi
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

if [ -n "$jtop" ]; then
  put "$jtop_users" <"$here/jtop.sysusers.conf"
  if [ -n "$jtop_own" ]; then
    sed "s|/opt/quantd|$prefix|g" "$here/jtop.service" | put "$jtop_unit"
    mkdir -p "${jtop_wanted%/*}"
    ln -sf /etc/systemd/system/jtop.service "$jtop_wanted"
  elif [ ! -x "$root$starts" ]; then
    say "jtop.service starts $starts, which does not exist"
    printf '[Service]\nExecStart=\nExecStart=%s/bin/jtop --force\n' "$prefix" | put "$jtop_exec"
  fi
fi

if [ -z "$root" ]; then
  say "creating the user quantd and its folders"
  systemd-sysusers quantd.conf ${jtop:+quantd-jtop.conf}
  systemd-tmpfiles --create quantd.conf
fi
if live; then
  systemctl daemon-reload
  if [ -n "$jtop" ]; then
    say "starting jtop.service"
    systemctl restart jtop.service || fail "jtop.service does not start: journalctl -u jtop -n 50"
  fi
fi

say "next: set camera.uri and model.path in $config, then: systemctl enable --now quantd"
say "      quantd doctor -c $config shows what is missing"
say "      after an upgrade: systemctl restart quantd"
