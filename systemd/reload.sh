#!/bin/sh
# Reload an application, or restart it if it can't be reloaded: for activation.reload in quantd.toml.
#
# usage: reload.sh UNIT
#
# quantd's user may not do this, so it writes a file that quantd-reload@UNIT.path waits for, and root
# does it. Enable that once: systemctl enable --now quantd-reload@UNIT.path
# Exits 0 once the application is reloaded; activation.health_timeout_s limits the time.
set -eu

[ $# = 1 ] || { sed -n '4s/^# //p' "$0" >&2; exit 2; }
unit=$1
[ "$(id -u)" != 0 ] || exec systemctl reload-or-restart -- "$unit"

request=/run/quantd/reload-$unit
token=$$.$(date +%s%N) # an earlier reload that took too long may still end
printf '%s\n' "$token" >"$request.new" || {
  printf '%s\n' "reload.sh: run it in quantd.service, as its user, or as root" >&2
  exit 1
}
mv -f "$request.new" "$request"

tenths=0
while :; do
  if [ -e "$request.done" ]; then
    { read -r ended && read -r result; } <"$request.done" || ended=
    if [ "$ended" = "$token" ]; then
      [ "$result" = success ] && exit 0
      printf '%s\n' "systemctl reload-or-restart $unit failed; see journalctl -u $unit -u quantd-reload@$unit" >&2
      exit 1
    fi
  fi
  if [ "$tenths" -ge 50 ] && [ -e "$request" ] && [ ! -e "$request.running" ]; then
    rm -f "$request"
    printf '%s\n' "nothing waits for the request: systemctl enable --now quantd-reload@$unit.path" >&2
    exit 1
  fi
  sleep 0.1
  tenths=$((tenths + 1))
done
