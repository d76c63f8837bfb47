#!/bin/bash
# Before Envoy is stopped, which cuts whatever is under way: have clients connect elsewhere, and wait for the last answers.
# bash speaks to the admin port by itself, because Envoy's image has no HTTP client. Usage: drain.sh [ADMIN_PORT]
set -euo pipefail
port=${1:-9901}
drain_seconds=10 # envoy's --drain-time-s: by then each connection that is in use was told to go
last_seconds=30  # for calls that began before

admin() { # METHOD PATH
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf '%s %s HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n' "$1" "$2" >&3
    cat <&3
}

admin POST '/drain_listeners?graceful'
sleep "$((drain_seconds + 1))" # and now nobody can connect any more
for ((second = 0; second < last_seconds; second++)); do
    [[ $(admin GET '/stats?filter=http.inference.downstream_rq_active') != *'downstream_rq_active: 0'* ]] || break
    sleep 1
done
