#!/bin/sh
# Runs metaalign-server for a supervisor that restarts whatever fails, as Docker does: wrong settings (exit code 2) and a damaged
# checkpoint (65) would fail again and again, so they end it with 0 and a line that says so. Every other code is passed on.
server=
stopping=
trap 'stopping=1; [ -z "$server" ] || kill -TERM "$server"' TERM INT
metaalign-server "$@" &
server=$!
[ -z "$stopping" ] || kill -TERM "$server"  # the signal came before there was anybody to pass it to
code=0
while :; do
    wait "$server" && code=0 || code=$?
    kill -0 "$server" 2>/dev/null || break  # not ended: a signal interrupted the wait
done
case "$code" in
    2 | 65)
        echo "supervised: exit code $code: not restarted, because it would fail again; correct what it says and start it" >&2
        exit 0
        ;;
esac
exit "$code"
