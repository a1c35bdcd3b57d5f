#!/usr/bin/env bash
# Installs what the tests need beyond Go, on a Debian-like system. Says what before it does; does nothing when all is
# there. Needs root or sudo only when a package is missing.
set -euo pipefail

# package: what for
wanted='
mosquitto: the upstream broker of the whole-system tests, and the peer of the bench
mosquitto-clients: a second opinion on what travels
awscli: the unmodified aws command against the HTTPS doors
minisign: signs jobs, and reads what was signed here
curl: downloads in ranges
swtpm: a TPM for the tests of keys
gcc: the race detector
libc6-dev: the race detector
e2fsprogs: the disk of the power-cut tests
mount: the same
python3-pymodbus: an independent Modbus RTU slave
python3-serial-asyncio: the same
nodejs: the IoT Device SDK of AWS for JavaScript
npm: the same
'

missing=()
if command -v dpkg-query >/dev/null; then
  while IFS=: read -r package why; do
    [ -n "$package" ] || continue
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' && continue
    case $package in nodejs) command -v node >/dev/null && continue ;; npm) command -v npm >/dev/null && continue ;; esac # from elsewhere
    missing+=("$package")
    reasons+="  $package:$why"$'\n'
  done <<<"$wanted"
else
  for command in mosquitto mosquitto_pub gcc mke2fs losetup node npm; do
    command -v "$command" >/dev/null || { echo "deps: $command is missing and this system has no apt-get; install it by hand" >&2; exit 1; }
  done
fi

install_packages() {
  printf 'deps: installing with apt-get:\n%s' "$reasons"
  sudo=
  if [ "$(id -u)" != 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null || { echo "deps: not root and no sudo; as root: apt-get install ${missing[*]}" >&2; exit 1; }
  fi

  # Debian's mosquitto starts a service on 127.0.0.1:1883, which is where `make run` listens. Keep it from starting now, and
  # from starting at the next boot, but leave alone a mosquitto that was here before us.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee $policy >/dev/null
    $sudo chmod 755 $policy
    trap '$sudo rm -f $policy' EXIT
  fi

  # A first install has been seen to die in the middle ("cannot access archive"); repair and try again.
  install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "${missing[@]}" >/dev/null; }
  for attempt in 1 2 3; do
    [ $attempt = 1 ] || sleep $((attempt * 5))
    $sudo apt-get -qq -o DPkg::Lock::Timeout=300 update && install && break
    [ $attempt -lt 3 ] || { echo "deps: apt-get did not manage; see above" >&2; exit 1; }
    $sudo dpkg --configure -a || true
    $sudo apt-get -qq -y -f install >/dev/null || true
  done

  case " ${missing[*]} " in *" mosquitto "*)
    if [ -d /run/systemd/system ]; then
      $sudo systemctl disable --now mosquitto >/dev/null 2>&1 || true
      echo "deps: left Debian's mosquitto service off (port 1883 is the gateway's); systemctl enable --now mosquitto turns it on"
    fi ;;
  esac
}

# AWS's IoT Device SDK for JavaScript, from the npm registry this machine is set up for, exactly as package-lock.json says.
# It brings its native part along built: nothing is compiled, and no script of it is run.
install_clients() {
  echo "deps: installing aws-iot-device-sdk-v2 with npm into bin/node"
  mkdir -p "$to"
  cp "$from"/package.json "$from"/package-lock.json "$from"/.npmrc "$to"
  for attempt in 1 2 3; do
    [ $attempt = 1 ] || sleep $((attempt * 5))
    (cd "$to" && npm ci --ignore-scripts --no-fund --no-audit --loglevel=error >/dev/null) && break
    [ $attempt -lt 3 ] || { echo "deps: npm did not manage; see above" >&2; exit 1; }
  done
  cp "$from/package-lock.json" "$to/installed"
}

[ ${#missing[@]} = 0 ] || install_packages
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
from=$here/node to=$here/../../bin/node
cmp -s "$from/package-lock.json" "$to/installed" || install_clients
